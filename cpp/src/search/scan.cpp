#include "search/scan.h"

#include <algorithm>
#include <vector>

namespace fasthash {
namespace {

// Codes of one kernel call stay in the first-level cache while all queries of the block are compared with them.
constexpr std::size_t kCallBytes = 16 * 1024;

// Bit i: row i of the group is within the threshold.
std::uint64_t rows_within(std::int32_t threshold, const std::uint16_t* distances) {
    std::uint64_t rows = 0;
    for (std::size_t i = 0; i < kGroup; ++i) rows |= std::uint64_t{distances[i] <= threshold} << i;
    return rows;
}

// Scans groups for one block of queries.
class BlockScan final : public GroupSink {
 public:
    BlockScan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block)
        : codes_(codes),
          entries_(entries),
          queries_(block.queries),
          nearest_(block.nearest),
          thresholds_(queries_.n),
          prepared_(queries_.n * codes.n_bytes() * kernels().prepared_bytes) {}

    void run(NumberRange groups, Stopper& stopper) {
        const Kernels& kernel = kernels();
        const std::size_t stride = codes_.n_bytes() * kernel.prepared_bytes;
        for (std::size_t q = 0; q < queries_.n; ++q) {
            kernel.prepare(queries_.row(q), codes_.n_bytes(), prepared_.data() + q * stride);
            thresholds_[q] = threshold_of(nearest_[q]);
        }
        const std::size_t groups_per_call = std::max<std::size_t>(1, kCallBytes / (kGroup * codes_.n_bytes()));
        std::size_t n_calls = 0;
        for (first_group_ = groups.begin; first_group_ < groups.end; first_group_ += groups_per_call) {
            const std::size_t n = std::min(groups_per_call, groups.end - first_group_);
            kernel.scan_groups({prepared_.data(), queries_.n, thresholds_.data(),
                                codes_.groups(first_group_, n, scratch_), n, codes_.n_bytes(), this});
            push_waiting();
            if (++n_calls % 16 == 0 && stopper.stopped()) return;
        }
    }

    // The ids of a hit may be far away in memory: hits are queued while their ids are prefetched.
    void take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) override {
        const std::size_t first_row = (first_group_ + group) * kGroup;
        const TopK& nearest = nearest_[query];
        rows &= entries_.wanted_rows(first_group_ + group);
        const std::int32_t largest = nearest.largest_distance(entries_.least_id(first_group_ + group));
        // Very many codes may tie at the k-th distance: skip the groups whose ids are all too large to enter.
        if (largest + 1 < thresholds_[query]) rows &= rows_within(largest, distances);
        for (; rows != 0; rows &= rows - 1) {
            const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
            if (first_row + i >= codes_.size()) break;  // padding of the last group
            entries_.prefetch(first_row + i);
            waiting_[n_waiting_++] = {query, first_row + i, distances[i]};
            if (n_waiting_ == kMostWaiting) push_waiting();
        }
    }

 private:
    static constexpr std::size_t kMostWaiting = 64;

    struct Hit {
        std::size_t query;
        std::size_t row;
        std::int32_t distance;
    };

    // Kernels take an exclusive threshold.
    static std::uint16_t threshold_of(const TopK& nearest) {
        return static_cast<std::uint16_t>(nearest.largest_distance() + 1);
    }

    void push_waiting() {
        for (std::size_t i = 0; i < n_waiting_; ++i) {
            const Hit& hit = waiting_[i];
            TopK& nearest = nearest_[hit.query];
            if (hit.distance > nearest.largest_distance()) continue;
            entries_.push(hit.row, hit.distance, nearest);
            thresholds_[hit.query] = threshold_of(nearest);
        }
        n_waiting_ = 0;
    }

    const GroupSource& codes_;
    const RowEntries& entries_;
    CodeView queries_;
    TopK* nearest_;
    std::vector<std::uint16_t> thresholds_;
    Array<std::uint8_t> prepared_;
    Array<std::uint8_t> scratch_;
    std::size_t first_group_ = 0;
    Hit waiting_[kMostWaiting];
    std::size_t n_waiting_ = 0;
};

}  // namespace

void QueryBlock::note(std::size_t q, const QueryStats& work) const {
    if (stats == nullptr) return;
    if (leads) {
        stats[q].plan = work.plan;
        stats[q].gave_up = work.gave_up;
    }
    stats[q].nodes_visited += work.nodes_visited;
    stats[q].codes_compared += work.codes_compared;
}

void scan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block, NumberRange groups,
          Stopper& stopper) {
    BlockScan(codes, entries, block).run(groups, stopper);
    const std::size_t n_rows =
        std::min(groups.end * kGroup, codes.size()) - std::min(groups.begin * kGroup, codes.size());
    QueryStats work;
    work.codes_compared = static_cast<std::int64_t>(n_rows);
    for (std::size_t q = 0; q < block.queries.n; ++q) block.note(q, work);
}

std::size_t most_queries_at_once(std::size_t n_bytes) {
    constexpr std::size_t kMaxQueries = 512, kMaxPreparedBytes = 256 * 1024;
    return std::clamp<std::size_t>(kMaxPreparedBytes / (n_bytes * kernels().prepared_bytes), 1, kMaxQueries);
}

}  // namespace fasthash
