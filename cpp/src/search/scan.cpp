#include "search/scan.h"

#include <algorithm>
#include <cstring>

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

// Kernels take an exclusive threshold.
std::uint16_t threshold_of(const TopK& nearest) { return static_cast<std::uint16_t>(nearest.largest_distance() + 1); }

// The rows of a group that lie in a range.
std::uint64_t rows_in(NumberRange range, std::size_t first_row) {
    std::uint64_t rows = ~std::uint64_t{0};
    if (first_row < range.begin) rows &= ~std::uint64_t{0} << (range.begin - first_row);
    if (first_row + kGroup > range.end) rows &= ~std::uint64_t{0} >> (first_row + kGroup - range.end);
    return rows;
}

}  // namespace

BlockScan::BlockScan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block)
    : codes_(codes),
      entries_(entries),
      queries_(block.queries),
      nearest_(block.nearest),
      stride_(codes.n_bytes() * kernels().prepared_bytes),
      prepared_(queries_.n * stride_),
      thresholds_(queries_.n) {
    for (std::size_t q = 0; q < queries_.n; ++q) {
        kernels().prepare(queries_.row(q), codes_.n_bytes(), prepared_.data() + q * stride_);
    }
}

void BlockScan::run(NumberRange rows, Stopper& stopper) {
    slots_ = nullptr;
    compare(rows, queries_.n, prepared_.data(), stopper);
}

void BlockScan::run(NumberRange rows, const std::vector<std::uint32_t>& queries, Stopper& stopper) {
    slots_ = &queries;
    if (queries.size() == 1) return compare(rows, 1, prepared_.data() + queries[0] * stride_, stopper);
    if (queries != chosen_) choose(queries);
    compare(rows, queries.size(), gathered_.data(), stopper);
}

void BlockScan::choose(const std::vector<std::uint32_t>& queries) {
    chosen_ = queries;
    gathered_.resize(queries.size() * stride_);
    for (std::size_t slot = 0; slot < queries.size(); ++slot) {
        std::memcpy(gathered_.data() + slot * stride_, prepared_.data() + queries[slot] * stride_, stride_);
    }
}

void BlockScan::compare(NumberRange rows, std::size_t n_slots, const std::uint8_t* prepared, Stopper& stopper) {
    if (rows.begin >= rows.end) return;
    rows_ = rows;
    for (std::size_t slot = 0; slot < n_slots; ++slot) thresholds_[slot] = threshold_of(nearest_[query_of(slot)]);
    const std::size_t groups_per_call = std::max<std::size_t>(1, kCallBytes / (kGroup * codes_.n_bytes()));
    const std::size_t end_group = (rows.end + kGroup - 1) / kGroup;
    std::size_t n_calls = 0;
    for (first_group_ = rows.begin / kGroup; first_group_ < end_group; first_group_ += groups_per_call) {
        const std::size_t n = std::min(groups_per_call, end_group - first_group_);
        kernels().scan_groups({prepared, n_slots, thresholds_.data(), codes_.groups(first_group_, n, scratch_), n,
                               codes_.n_bytes(), this});
        push_waiting();
        if (++n_calls % 16 == 0 && stopper.stopped()) return;
    }
}

// The ids of a hit may be far away in memory: hits are queued while their ids are prefetched.
void BlockScan::take(std::size_t slot, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) {
    group += first_group_;
    const std::size_t first_row = group * kGroup;
    const TopK& nearest = nearest_[query_of(slot)];
    rows &= entries_.wanted_rows(group) & rows_in(rows_, first_row);
    const std::int32_t largest = nearest.largest_distance(entries_.least_id(group));
    // Very many codes may tie at the k-th distance: skip the groups whose ids are all too large to enter.
    if (largest + 1 < thresholds_[slot]) rows &= rows_within(largest, distances);
    for (; rows != 0; rows &= rows - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
        entries_.prefetch(first_row + i);
        waiting_[n_waiting_++] = {slot, first_row + i, distances[i]};
        if (n_waiting_ == kMostWaiting) push_waiting();
    }
}

void BlockScan::push_waiting() {
    for (std::size_t i = 0; i < n_waiting_; ++i) {
        const Hit& hit = waiting_[i];
        TopK& nearest = nearest_[query_of(hit.slot)];
        if (hit.distance > nearest.largest_distance()) continue;
        entries_.push(hit.row, hit.distance, nearest);
        thresholds_[hit.slot] = threshold_of(nearest);
    }
    n_waiting_ = 0;
}

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
    const NumberRange rows{std::min(groups.begin * kGroup, codes.size()), std::min(groups.end * kGroup, codes.size())};
    BlockScan(codes, entries, block).run(rows, stopper);
    QueryStats work;
    work.codes_compared = static_cast<std::int64_t>(rows.size());
    for (std::size_t q = 0; q < block.queries.n; ++q) block.note(q, work);
}

std::size_t most_queries_at_once(std::size_t n_bytes) {
    constexpr std::size_t kMaxQueries = 512, kMaxPreparedBytes = 256 * 1024;
    return std::clamp<std::size_t>(kMaxPreparedBytes / (n_bytes * kernels().prepared_bytes), 1, kMaxQueries);
}

}  // namespace fasthash
