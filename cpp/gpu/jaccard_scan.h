// The scan by Jaccard distance: counts shared bits with popcount instructions and keeps pairs within the threshold.
//
// Launched by scan.cu for segments whose codes are in the order of their number of bits set.
#pragma once

#include "gpu/popcount_scan.h"

namespace fasthash::gpu {

/// The distance of two codes with these numbers of bits set; as JaccardDistance::value().
FASTHASH_DEVICE float jaccard_distance(unsigned n_set, unsigned n_set_other, unsigned shared) {
    const unsigned united = n_set + n_set_other - shared;
    return united == 0 ? 0 : divided(static_cast<float>(united - shared), static_cast<float>(united));
}

/// Blocks along x share the rows; each block along y takes one tile of queries.
struct JaccardScan {
    static constexpr unsigned kThreadsForRows = 1;  // that take the same rows
    static constexpr std::size_t kRowsAtOnce = kQuad;
    static constexpr unsigned kQueries = kTile;

    ScanTask task;
    std::size_t every = 1;  ///< compare only the last of each `every` quads: a sample of the rows

    static std::size_t shared_bytes(unsigned n_words) { return kTile * (n_words + 2) * sizeof(std::uint32_t); }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const QueryView& queries = task.queries;
        const unsigned width = task.n_words;
        const std::size_t first_query = std::size_t{block.y()} * kTile;
        auto* const words = static_cast<std::uint32_t*>(block.shared());
        std::uint32_t* const n_set = words + kTile * width;
        auto* const thresholds = reinterpret_cast<float*>(n_set + kTile);
        const unsigned n = static_cast<unsigned>(queries.n - first_query < kTile ? queries.n - first_query : kTile);
        for (unsigned i = block.thread(); i < n * width; i += block.n_threads()) {
            words[i] = queries.words[queries.number(first_query + i / width) * width + i % width];
        }
        block.sync();
        for (unsigned q = block.thread(); q < n; q += block.n_threads()) {
            n_set[q] = 0;
            for (unsigned w = 0; w < width; ++w) n_set[q] += static_cast<unsigned>(count_bits(words[q * width + w]));
            // inclusive: the id decides
            thresholds[q] = key_distance<float>(queries.thresholds[queries.number(first_query + q)]);
        }
        block.sync();

        const std::size_t step = block.threads_of_row() * every * kQuad;
        std::size_t row = task.first_quad() + (block.thread_of_row() * every + every - 1) * kQuad;
        for (; row < task.end; row += step) {
            const Quad sizes = task.segment.sizes.of_quad(row);
            for (unsigned q = 0; q < n; q += kGroup) {
                bool near = false;
                for (unsigned g = q; g < q + kGroup && g < n; ++g) {
                    near = near || least_distance(n_set[g], sizes) <= thresholds[g];
                }
                if (near) compare(Tile{words, n_set, thresholds, first_query, n}, q, row, sizes);
            }
        }
    }

 private:
    static constexpr unsigned kGroup = 4;  // each word of a code is read once for so many queries

    struct Tile {
        const std::uint32_t* words;
        const std::uint32_t* n_set;
        const float* thresholds;
        std::size_t first_query;
        unsigned n;
    };

    /// A lower bound of the distance of a query and four codes in the order of their number of bits set: codes with a
    /// and b bits set share at most min(a, b).
    FASTHASH_DEVICE static float least_distance(unsigned n_set, const Quad& sizes) {
        const unsigned first = sizes.word[0], last = sizes.word[kQuad - 1];
        const unsigned closest = n_set < first ? first : n_set > last ? last : n_set;
        return jaccard_distance(n_set, closest, n_set < closest ? n_set : closest);
    }

    /// Compare the queries q .. q + kGroup of a tile with four rows.
    FASTHASH_DEVICE void compare(const Tile& tile, unsigned q, std::size_t row, const Quad& sizes) const {
        unsigned shared[kGroup][kQuad] = {};
        for (unsigned w = 0; w < task.n_words; ++w) {
            const Quad quad = task.segment.codes.quad(row, w);
            FASTHASH_UNROLL
            for (unsigned g = 0; g < kGroup; ++g) {
                // Beyond the last query the tile is undefined; these numbers are not used.
                const std::uint32_t word = tile.words[(q + g) % kTile * task.n_words + w];
                for (unsigned r = 0; r < kQuad; ++r) {
                    shared[g][r] += static_cast<unsigned>(count_bits(quad.word[r] & word));
                }
            }
        }
        FASTHASH_UNROLL
        for (unsigned g = 0; g < kGroup; ++g) {
            if (q + g >= tile.n) continue;
            FASTHASH_UNROLL
            for (unsigned r = 0; r < kQuad; ++r) {
                const unsigned size = sizes.word[r];
                // The minimum matters in a file alone that was loaded unchecked and lies about its codes.
                const unsigned common = shared[g][r] < size ? shared[g][r] : size;
                const float distance = jaccard_distance(tile.n_set[q + g], size, common);
                if (distance <= tile.thresholds[q + g] && task.has(row + r)) {
                    task.keep(task.queries.number(tile.first_query + q + g), row + r, distance);
                }
            }
        }
    }
};

}  // namespace fasthash::gpu
