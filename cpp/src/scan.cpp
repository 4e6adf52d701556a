#include "scan.h"

#include <algorithm>
#include <vector>

#include "number_range.h"

namespace fasthash {
namespace {

// Codes per call of the kernel: they stay in the first-level cache while all queries of a block pass over them.
constexpr std::size_t kChunkBytes = 16 * 1024;
// Queries per block: enough that reading the codes from memory is paid for, few enough that they stay in the
// second-level cache.
constexpr std::size_t kMaxQueries = 512;
constexpr std::size_t kMaxPreparedBytes = 256 * 1024;
// A part of the codes that is worth a thread of its own.
constexpr std::size_t kMinPartBytes = 1024 * 1024;

std::uint64_t nearer_than(std::int32_t limit, const std::uint16_t* distances) {
    std::uint64_t rows = 0;
    for (std::size_t i = 0; i < kGroup; ++i) rows |= std::uint64_t{distances[i] < limit} << i;
    return rows;
}

// The nearest codes of a block of queries in some groups.
class BlockScan final : public GroupSink {
 public:
    BlockScan(const GroupSource& codes, const RowItems& items, std::size_t n_queries, std::size_t k)
        : codes_(codes),
          items_(items),
          nearest_(n_queries, TopK(k, codes.n_bytes() * 8, items.order())),
          bounds_(n_queries),
          prepared_(n_queries * codes.n_bytes() * kernels().prepared_bytes) {}

    void run(CodeView queries, NumberRange groups, Stopper& stopper) {
        const Kernels& kernel = kernels();
        const std::size_t stride = codes_.n_bytes() * kernel.prepared_bytes;
        for (std::size_t q = 0; q < queries.n; ++q) {
            kernel.prepare(queries.row(q), codes_.n_bytes(), prepared_.data() + q * stride);
            nearest_[q].clear();
            bounds_[q] = static_cast<std::uint16_t>(nearest_[q].bound());
        }
        const std::size_t n_chunk = std::max<std::size_t>(1, kChunkBytes / (kGroup * codes_.n_bytes()));
        std::size_t n_chunks = 0;
        for (first_group_ = groups.begin; first_group_ < groups.end; first_group_ += n_chunk) {
            const std::size_t n = std::min(n_chunk, groups.end - first_group_);
            kernel.scan_groups({prepared_.data(), queries.n, bounds_.data(), codes_.groups(first_group_, n, scratch_),
                                n, codes_.n_bytes(), this});
            push_waiting();
            if (++n_chunks % 16 == 0 && stopper.stopped()) return;
        }
    }

    TopK& nearest(std::size_t q) { return nearest_[q]; }

    // What stands behind a row may be far away in memory: hits wait until it has come.
    void take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) override {
        const std::size_t first_row = (first_group_ + group) * kGroup;
        const TopK& nearest = nearest_[query];
        if (items_.order() == IdOrder::any && items_.least_id(first_group_ + group) >= nearest.id_limit()) {
            rows &= nearer_than(nearest.limit(), distances);  // without ties, of which there may be very many
        }
        for (; rows != 0; rows &= rows - 1) {
            const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
            if (first_row + i >= codes_.size()) break;  // what fills up the last group
            items_.prefetch(first_row + i);
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

    void push_waiting() {
        for (std::size_t i = 0; i < n_waiting_; ++i) {
            const Hit& hit = waiting_[i];
            TopK& nearest = nearest_[hit.query];
            if (hit.distance >= nearest.bound()) continue;
            items_.push(hit.row, hit.distance, nearest);
            bounds_[hit.query] = static_cast<std::uint16_t>(nearest.bound());
        }
        n_waiting_ = 0;
    }

    const GroupSource& codes_;
    const RowItems& items_;
    std::vector<TopK> nearest_;
    std::vector<std::uint16_t> bounds_;
    Array<std::uint8_t> prepared_;
    Array<std::uint8_t> scratch_;
    std::size_t first_group_ = 0;
    Hit waiting_[kMostWaiting];
    std::size_t n_waiting_ = 0;
};

}  // namespace

void scan(const GroupSource& codes, const RowItems& items, CodeView queries, std::size_t k, std::int32_t* distances,
          std::int64_t* ids, Stopper& stopper) {
    if (queries.n == 0) return;
    const std::size_t n_threads = num_threads();
    const std::size_t stride = codes.n_bytes() * kernels().prepared_bytes;
    const std::size_t per_block = std::min(
        {kMaxQueries, std::max<std::size_t>(1, kMaxPreparedBytes / stride), (queries.n + n_threads - 1) / n_threads});
    const std::size_t n_blocks = (queries.n + per_block - 1) / per_block;
    // Fewer blocks of queries than threads: each block passes over several parts of the codes at once.
    const std::size_t total_bytes = codes.n_groups() * kGroup * codes.n_bytes();
    const std::size_t n_parts =
        std::max<std::size_t>(1, std::min((n_threads + n_blocks - 1) / n_blocks, total_bytes / kMinPartBytes));
    const auto block_of = [&](std::size_t b) { return piece_of(queries.n, n_blocks, b); };

    if (n_parts == 1) {
        parallel_for(n_blocks, [&](std::size_t b) {
            const NumberRange block = block_of(b);
            BlockScan search(codes, items, block.size(), k);
            search.run({queries.row(block.begin), block.size(), queries.n_bytes}, {0, codes.n_groups()}, stopper);
            for (std::size_t q = 0; q < block.size(); ++q) {
                search.nearest(q).write(distances + (block.begin + q) * k, ids + (block.begin + q) * k);
            }
        });
    } else {
        std::vector<BlockScan> searches;
        searches.reserve(n_blocks * n_parts);
        for (std::size_t i = 0; i < n_blocks * n_parts; ++i) {
            searches.emplace_back(codes, items, block_of(i / n_parts).size(), k);
        }
        parallel_for(searches.size(), [&](std::size_t i) {
            const NumberRange block = block_of(i / n_parts);
            searches[i].run({queries.row(block.begin), block.size(), queries.n_bytes},
                            piece_of(codes.n_groups(), n_parts, i % n_parts), stopper);
        });
        for (std::size_t b = 0; b < n_blocks; ++b) {
            const NumberRange block = block_of(b);
            for (std::size_t q = 0; q < block.size(); ++q) {
                TopK& nearest = searches[b * n_parts].nearest(q);
                for (std::size_t part = 1; part < n_parts; ++part) {
                    nearest.push_all(searches[b * n_parts + part].nearest(q));
                }
                nearest.write(distances + (block.begin + q) * k, ids + (block.begin + q) * k);
            }
        }
    }
    stopper.finish();
}

}  // namespace fasthash
