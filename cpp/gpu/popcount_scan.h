// The popcount scan: computes distances with popcount instructions and keeps those within the threshold.
//
// Launched by scan.cu for few queries, and for widths that TensorScan does not support.
#pragma once

#include "gpu/search_kernels.h"

namespace fasthash::gpu {

constexpr unsigned kTile = 64;  // queries whose words the threads of a block share

/// kWords: words of a code, or 0 for any number. Blocks along x share the rows; each block along y takes one tile of
/// queries.
template <unsigned kWords>
struct PopcountScan {
    static constexpr unsigned kThreadsForRows = 1;  // that take the same rows
    static constexpr std::size_t kRowsAtOnce = kQuad;
    static constexpr unsigned kQueries = kTile;

    ScanTask task;

    static std::size_t shared_bytes(unsigned n_words) { return kTile * (n_words + 1) * sizeof(std::uint32_t); }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        compare(block, block.shared(), std::size_t{block.y()} * kTile, block.thread_of_row(), block.threads_of_row());
    }

    /// Compare a tile of queries with the rows that fall to this one of n_workers threads. All threads of the block
    /// call it together; `shared`: shared_bytes() of its memory.
    FASTHASH_DEVICE void compare(const Block& block, void* shared, std::size_t first_query, std::size_t worker,
                                 std::size_t n_workers) const {
        const QueryView& queries = task.queries;
        const unsigned width = kWords != 0 ? kWords : task.n_words;
        auto* const words = static_cast<std::uint32_t*>(shared);
        auto* const thresholds = reinterpret_cast<std::int32_t*>(words + kTile * width);
        const unsigned n = static_cast<unsigned>(queries.n - first_query < kTile ? queries.n - first_query : kTile);
        for (unsigned i = block.thread(); i < n * width; i += block.n_threads()) {
            words[i] = queries.words[queries.number(first_query + i / width) * width + i % width];
        }
        for (unsigned q = block.thread(); q < n; q += block.n_threads()) {
            // inclusive: the id decides
            thresholds[q] = key_distance(queries.thresholds[queries.number(first_query + q)]);
        }
        block.sync();

        const std::size_t step = n_workers * kQuad;
        for (std::size_t row = task.first_quad() + worker * kQuad; row < task.end; row += step) {
            if constexpr (kWords != 0) {
                Quad quads[kWords];
                for (unsigned w = 0; w < kWords; ++w) quads[w] = task.segment.codes.quad(row, w);
                for (unsigned q = 0; q < n; ++q) {
                    int distances[kQuad] = {};
                    for (unsigned w = 0; w < kWords; ++w) add(quads[w], words[q * kWords + w], distances);
                    keep(distances, thresholds[q], first_query + q, row);
                }
            } else {
                // The words of a code do not fit registers: they are read again for every kGroup queries.
                constexpr unsigned kGroup = 4;
                for (unsigned q = 0; q < n; q += kGroup) {
                    int distances[kGroup][kQuad] = {};
                    for (unsigned w = 0; w < width; ++w) {
                        const Quad quad = task.segment.codes.quad(row, w);
                        FASTHASH_UNROLL
                        for (unsigned g = 0; g < kGroup; ++g) {
                            // Beyond the last query the tile is undefined; these distances are not kept.
                            add(quad, words[(q + g) % kTile * width + w], distances[g]);
                        }
                    }
                    FASTHASH_UNROLL
                    for (unsigned g = 0; g < kGroup; ++g) {
                        if (q + g < n) keep(distances[g], thresholds[q + g], first_query + q + g, row);
                    }
                }
            }
        }
    }

 private:
    FASTHASH_DEVICE static void add(const Quad& quad, std::uint32_t word, int* distances) {
        for (unsigned r = 0; r < kQuad; ++r) distances[r] += count_bits(quad.word[r] ^ word);
    }

    FASTHASH_DEVICE static int smallest(const int* distances) {
        const int a = distances[0] < distances[1] ? distances[0] : distances[1];
        const int b = distances[2] < distances[3] ? distances[2] : distances[3];
        return a < b ? a : b;
    }

    FASTHASH_DEVICE void keep(const int* distances, int threshold, std::size_t query, std::size_t row) const {
        if (smallest(distances) > threshold) return;
        for (unsigned r = 0; r < kQuad; ++r) {
            if (distances[r] <= threshold && task.has(row + r)) {
                task.keep(task.queries.number(query), row + r, distances[r]);
            }
        }
    }
};

}  // namespace fasthash::gpu
