// The first rows of a search, which give each query its first threshold.
//
// Launched by Gallery. A scan without a threshold would store all of these rows as candidates, only to sort them.
#pragma once

#include "gpu/search_kernels.h"

namespace fasthash::gpu {

/// Counts the entries of the rows first .. end by distance, and adds those up to the k-th distance to the candidates.
/// One block for each query.
struct FirstRows {
    ScanTask task;
    unsigned n_bits;

    static std::size_t shared_bytes(unsigned n_bits) {
        return sizeof(std::uint64_t) + (n_bits + 1) * sizeof(std::uint32_t);
    }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        auto* const threshold = static_cast<std::uint64_t*>(block.shared());
        auto* const counts = reinterpret_cast<std::uint32_t*>(threshold + 1);  // entries by distance
        const std::size_t query = task.queries.number(block.x());
        for (unsigned d = block.thread(); d <= n_bits; d += block.n_threads()) counts[d] = 0;
        if (block.thread() == 0) *threshold = task.queries.thresholds[query];
        block.sync();
        each_entry(block, query, *threshold, [&](std::uint64_t key) { add_to(counts + key_distance(key), 1); });
        block.sync();
        if (block.thread() == 0) *threshold = tightened(*threshold, counts, n_bits, task.k);
        block.sync();
        each_entry(block, query, *threshold, [&](std::uint64_t key) { task.found.push(query, key); });
    }

 private:
    template <typename Take>
    FASTHASH_DEVICE void each_entry(const Block& block, std::size_t query, std::uint64_t threshold,
                                    const Take& take) const {
        for (std::size_t row = task.first + block.thread(); row < task.end; row += block.n_threads()) {
            const int d = task.queries.distance(query, task.segment.codes, task.n_words, row, 0, n_bits / 8);
            if (d > key_distance(threshold)) continue;
            if (!task.queries.keeps(query, task.segment.codes, task.n_words, row)) continue;
            take_entries(task.segment, row, d, threshold, task.k, take);
        }
    }
};

}  // namespace fasthash::gpu
