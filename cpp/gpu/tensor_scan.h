// The tensor-core scan: computes distances as products of bit matrices.
//
// Launched by scan.cu for many queries, at widths of 1, 2, 4 and 8 words. Same results as PopcountScan.
#pragma once

#include "gpu/search_kernels.h"

namespace fasthash::gpu {

constexpr unsigned kWarp = 32;
constexpr unsigned kTileQueries = 16;                       // of a product
constexpr unsigned kTiles = 4;                              // products that take the same codes
constexpr unsigned kTensorQueries = kTiles * kTileQueries;  // of a block
constexpr unsigned kTileRows = 8;                           // of a product
constexpr std::size_t kWarpRows = kTileRows * kQuad;        // that a warp takes at once

/// A product of queries (16, 128 bits) and codes (128 bits, 8) counts the common bits of each pair. The distance of a
/// query q and a code c is |q| + |c| - 2 |q & c|, which is at most d only if
///
///     |q & c| + ceil((n_bits - |c|) / 2) >= ceil((n_bits + |q| - d) / 2).
///
/// Where a product has words to spare, it computes the second term as well: that many ones are appended to the code,
/// and only ones to the query. Else the sums start at it. They start at minus the right side, too, so a sum >= 0 marks
/// a code that may be within d. These few are compared again by popcounts, since the rounding may admit a code one bit
/// too far.
///
/// Blocks along x share the rows; each block along y takes one tile of queries. Lane 4 g + t of a warp holds word t of
/// queries g and g + 8 and of code g, and the sums of these queries with codes 2 t and 2 t + 1, as the instruction
/// requires.
template <unsigned kWords>
struct TensorScan {
    ScanTask task;

    static constexpr unsigned kSteps = (kWords + 3) / 4;  // products of 4 words each
    static constexpr unsigned kSpare = (kWords + 1) / 2;  // words for half as many ones as a code has bits
    static constexpr bool kAppends = kWords + kSpare <= 4 * kSteps;
    static constexpr int kBits = static_cast<int>(kWords * 32);

    static constexpr unsigned kThreadsForRows = kWarp;  // that take the same rows
    static constexpr std::size_t kRowsAtOnce = kWarpRows;
    static constexpr unsigned kQueries = kTensorQueries;

    static std::size_t shared_bytes(unsigned) { return 0; }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        compare(block, nullptr, std::size_t{block.y()} * kTensorQueries, block.thread_of_row(), block.threads_of_row());
    }

    /// As PopcountScan::compare.
    FASTHASH_DEVICE void compare(const Block& block, void*, std::size_t first_query, std::size_t worker,
                                 std::size_t n_workers) const {
        const unsigned lane = block.thread() % kWarp, g = lane / 4, t = lane % 4;
        std::uint32_t wanted[kTiles][kSteps][2];
        int floors[kTiles][2];
        FASTHASH_UNROLL
        for (unsigned tile = 0; tile < kTiles; ++tile) {
            FASTHASH_UNROLL
            for (unsigned half = 0; half < 2; ++half) {
                const std::size_t query = first_query + tile * kTileQueries + half * 8 + g;
                floors[tile][half] = floor_of(query);
                FASTHASH_UNROLL
                for (unsigned s = 0; s < kSteps; ++s) wanted[tile][s][half] = word_of_query(query, 4 * s + t);
            }
        }
        const std::size_t warp = worker / kWarp, n_warps = n_workers / kWarp;
        for (std::size_t first = task.first_quad() + warp * kWarpRows; first < task.end; first += n_warps * kWarpRows) {
            Quad quads[kSteps];
            FASTHASH_UNROLL
            for (unsigned s = 0; s < kSteps; ++s) quads[s] = quad_of_codes(first + g * kQuad, 4 * s + t);
            std::uint32_t ones[kQuad / 2];
            count_ones(block, quads, ones);
            // The second term: of the lane's code or, unless it is appended, of both codes of the lane's sums.
            int missing[kQuad][2];
            half_of_zeros(block, ones, missing);
            FASTHASH_UNROLL
            for (unsigned r = 0; r < kQuad; ++r) {
                std::uint32_t codes[kSteps];
                FASTHASH_UNROLL
                for (unsigned s = 0; s < kSteps; ++s) {
                    const int behind = static_cast<int>(4 * s + t) - static_cast<int>(kWords);
                    codes[s] = behind < 0 ? quads[s].word[r] : ones_below(missing[r][0] - 32 * behind);
                }
                int sums[kTiles][4];
                int all = -1;
                FASTHASH_UNROLL
                for (unsigned tile = 0; tile < kTiles; ++tile) {
                    FASTHASH_UNROLL
                    for (unsigned i = 0; i < 4; ++i)
                        sums[tile][i] = floors[tile][i / 2] + (kAppends ? 0 : missing[r][i % 2]);
                    FASTHASH_UNROLL
                    for (unsigned s = 0; s < kSteps; ++s) add_common_bits(block, wanted[tile][s], codes[s], sums[tile]);
                    all &= sums[tile][0] & sums[tile][1] & sums[tile][2] & sums[tile][3];
                }
                if (all >= 0) compare(sums, first_query + g, first + 2 * t * kQuad + r);
                block.sync_warp();
            }
        }
    }

 private:
    /// Initial value of a query's sums; very negative beyond the last query, so that nothing is found.
    FASTHASH_DEVICE int floor_of(std::size_t query) const {
        if (query >= task.queries.n) return -(1 << 20);
        const std::size_t number = task.queries.number(query);
        int n_ones = 0;
        for (unsigned w = 0; w < kWords; ++w) n_ones += count_bits(task.queries.words[number * kWords + w]);
        return -((kBits + n_ones - key_distance(task.queries.thresholds[number]) + 1) >> 1);
    }

    FASTHASH_DEVICE std::uint32_t word_of_query(std::size_t query, unsigned w) const {
        if (query >= task.queries.n || w >= kWords + kSpare) return 0;
        return w < kWords ? task.queries.words[task.queries.number(query) * kWords + w] : ~std::uint32_t{0};
    }

    FASTHASH_DEVICE Quad quad_of_codes(std::size_t row, unsigned w) const {
        return w < kWords && row < task.end ? task.segment.codes.quad(row, w) : Quad{};
    }

    /// Number of ones in codes whose words are spread over four neighbouring lanes: two numbers in a word.
    FASTHASH_DEVICE static void count_ones(const Block& block, const Quad* quads, std::uint32_t* ones) {
        FASTHASH_UNROLL
        for (unsigned pair = 0; pair < kQuad / 2; ++pair) {
            ones[pair] = 0;
            FASTHASH_UNROLL
            for (unsigned s = 0; s < kSteps; ++s) {
                const Quad& quad = quads[s];
                ones[pair] += static_cast<std::uint32_t>(count_bits(quad.word[2 * pair]) |
                                                         count_bits(quad.word[2 * pair + 1]) << 16);
            }
            ones[pair] = sum_of_four_lanes(block, ones[pair]);
        }
    }

    /// Half the number of zeros, rounded up, of the lane's code in each place or of the two codes of its sums.
    FASTHASH_DEVICE static void half_of_zeros(const Block& block, const std::uint32_t* ones, int (*missing)[2]) {
        const unsigned t = block.thread() % 4;
        FASTHASH_UNROLL
        for (unsigned r = 0; r < kQuad; ++r) {
            FASTHASH_UNROLL
            for (unsigned i = 0; i < (kAppends ? 1u : 2u); ++i) {
                const std::uint32_t both = kAppends ? ones[r / 2] : value_of_lane(block, ones[r / 2], 8 * t + 4 * i);
                missing[r][i] = (kBits - static_cast<int>(both >> 16 * (r % 2) & 0xffff) + 1) / 2;
            }
        }
    }

    FASTHASH_DEVICE static std::uint32_t ones_below(int n) {
        return n <= 0 ? 0 : n >= 32 ? ~std::uint32_t{0} : (std::uint32_t{1} << n) - 1;
    }

    /// Compare the pairs whose sums are not negative. The lane's first sum is that of first_query and first_row.
    FASTHASH_DEVICE void compare(const int (&sums)[kTiles][4], std::size_t first_query, std::size_t first_row) const {
        std::uint32_t near = 0;
        FASTHASH_UNROLL
        for (unsigned i = 0; i < kTiles * 4; ++i) near |= (sums[i / 4][i % 4] >= 0 ? 1u : 0u) << i;
        for (unsigned i = 0; near != 0; ++i, near >>= 1) {
            const std::size_t row = first_row + i % 2 * kQuad;
            if ((near & 1) == 0 || !task.has(row)) continue;
            const std::size_t query = task.queries.number(first_query + i / 4 * kTileQueries + i / 2 % 2 * 8);
            int distance = 0;
            for (unsigned w = 0; w < kWords; ++w) {
                distance += count_bits(task.segment.codes.word(row, w) ^ task.queries.words[query * kWords + w]);
            }
            if (distance <= key_distance(task.queries.thresholds[query])) task.keep(query, row, distance);
        }
    }
};

}  // namespace fasthash::gpu
