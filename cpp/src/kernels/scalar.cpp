// Portable kernels: the fallback on every machine, and the reference for all other tables in tests.
#include "kernels/planes.h"
#include "kernels/totals.h"

namespace fasthash {
namespace {

constexpr std::uint64_t kPairs = 0x5555555555555555u;
constexpr std::uint64_t kNibbles = 0x3333333333333333u;
constexpr std::uint64_t kBytes = 0x0f0f0f0f0f0f0f0fu;
constexpr std::uint64_t kEvenBytes = 0x00ff00ff00ff00ffu;
constexpr std::uint64_t kEachByte = 0x0101010101010101u;
constexpr std::uint64_t kEachPair = 0x0001000100010001u;

// Number of bits set in each group of four bits.
FASTHASH_INLINE std::uint64_t count_nibbles(std::uint64_t x) {
    x -= (x >> 1) & kPairs;
    return (x & kNibbles) + ((x >> 2) & kNibbles);
}

struct Swar {
    static FASTHASH_INLINE std::uint64_t count(std::uint64_t x) {
        x = count_nibbles(x);
        return (((x + (x >> 4)) & kBytes) * kEachByte) >> 56;
    }
};

void prepare(const std::uint8_t* query, std::size_t n_bytes, std::uint8_t* prepared) {
    for (std::size_t b = 0; b < n_bytes; ++b) {
        const std::uint64_t word = query[b] * kEachByte;
        std::memcpy(prepared + b * sizeof word, &word, sizeof word);
    }
}

// Sixteen bytes: compiled to vector instructions where the ABI's baseline has them (SSE2 on x86-64), to plain words
// elsewhere.
using Words = std::uint64_t __attribute__((vector_size(16)));
constexpr std::size_t kWords = kGroup / sizeof(Words);

FASTHASH_INLINE Words count_nibbles(Words x) {
    x -= (x >> 1) & kPairs;
    return (x & kNibbles) + ((x >> 2) & kNibbles);
}

// Adds the distances of the 64 codes of a group over the bytes begin .. end, one byte per code.
FASTHASH_INLINE void add_bytes(const std::uint8_t* group, const std::uint8_t* prepared, std::size_t begin,
                               std::size_t end, Words* sums) {
#pragma GCC unroll 4
    for (std::size_t b = begin; b < end;) {
        Words nibbles[kWords] = {};  // three counts of at most 4 fit four bits
#pragma GCC unroll 3
        for (const std::size_t stop = b + 3 < end ? b + 3 : end; b < stop; ++b) {
            std::uint64_t query;
            std::memcpy(&query, prepared + b * 8, sizeof query);
            for (std::size_t i = 0; i < kWords; ++i) {
                Words codes;
                std::memcpy(&codes, group + b * kGroup + i * sizeof codes, sizeof codes);
                nibbles[i] += count_nibbles(codes ^ query);
            }
        }
        for (std::size_t i = 0; i < kWords; ++i) sums[i] += (nibbles[i] & kBytes) + ((nibbles[i] >> 4) & kBytes);
    }
}

// Whether any number in these words is below the threshold. `each` has a 1 in every number; `top` is a number's highest
// bit, which must be clear.
template <std::size_t kCount>
FASTHASH_INLINE bool any_below(const Words* words, std::uint64_t threshold, std::uint64_t each, std::uint64_t top) {
    const std::uint64_t offset = (top - threshold) * each;  // sets the top bit of numbers at or above the threshold
    Words all = words[0] + offset;
    for (std::size_t i = 1; i < kCount; ++i) all &= words[i] + offset;
    return ((all[0] & all[1]) & top * each) != top * each;
}

// Codes of up to 15 bytes, whose distances are bytes with a clear top bit. kWidth: the width, or 0 for any.
template <std::size_t kWidth>
void scan_narrow(const GroupScan& scan) {
    const std::size_t n_bytes = kWidth ? kWidth : scan.n_bytes;
    for (std::size_t g = 0; g < scan.n_groups; ++g) {
        const std::uint8_t* group = scan.groups + g * kGroup * n_bytes;
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            Words sums[kWords] = {};
            add_bytes(group, scan.prepared + q * n_bytes * 8, 0, n_bytes, sums);
            if (!any_below<kWords>(sums, scan.thresholds[q], kEachByte, 0x80)) continue;
            std::uint8_t narrow[kGroup];
            std::uint16_t distances[kGroup];
            std::memcpy(narrow, sums, kGroup);
            for (std::size_t i = 0; i < kGroup; ++i) distances[i] = narrow[i];
            totals::give(scan, q, g, distances);
        }
    }
}

// Codes of 16 bytes and more: 16-bit distances, of even and odd rows apart. A query leaves a group as soon as none of
// its codes can come within the threshold.
void scan_wide(const GroupScan& scan) {
    constexpr std::size_t kBlock = 30;  // bytes whose counts fit a byte
    for (std::size_t g = 0; g < scan.n_groups; ++g) {
        const std::uint8_t* group = scan.groups + g * kGroup * scan.n_bytes;
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            Words both[2 * kWords] = {};
            bool within = true;
            for (std::size_t b = 0; b < scan.n_bytes && within; b += kBlock) {
                const std::size_t end = b + kBlock < scan.n_bytes ? b + kBlock : scan.n_bytes;
                Words sums[kWords] = {};
                add_bytes(group, scan.prepared + q * scan.n_bytes * 8, b, end, sums);
                for (std::size_t i = 0; i < kWords; ++i) {
                    both[i] += sums[i] & kEvenBytes;
                    both[kWords + i] += (sums[i] >> 8) & kEvenBytes;
                }
                within = any_below<2 * kWords>(both, scan.thresholds[q], kEachPair, 0x8000);
            }
            if (!within) continue;
            std::uint16_t halves[2][kGroup / 2], distances[kGroup];
            std::memcpy(halves, both, sizeof halves);
            for (std::size_t i = 0; i < kGroup; ++i) distances[i] = halves[i % 2][i / 2];
            totals::give(scan, q, g, distances);
        }
    }
}

void scan_groups(const GroupScan& scan) {
    if (scan.n_bytes == 8) return scan_narrow<8>(scan);
    return scan.n_bytes < 16 ? scan_narrow<0>(scan) : scan_wide(scan);
}

struct Distances {
    static void of(const std::uint8_t* group, const std::uint8_t* prepared, std::size_t n_bytes,
                   std::uint8_t* distances) {
        Words sums[kWords] = {};
        add_bytes(group, prepared, 0, n_bytes, sums);
        std::memcpy(distances, sums, kGroup);
    }
};

void scan_parts(const PartScan& scan, TotalCount* count) { totals::scan_parts<Distances>(scan, 8, count); }

void scan_three_parts(const ThreePartScan& scan) { totals::scan_three_parts<Distances>(scan, 8); }

bool count_shared(const PlaneScan& scan) { return planes::count_shared<Words>(scan); }

FASTHASH_ROW_KERNELS(, Swar)

}  // namespace

const Kernels kScalarKernels = {SimdLevel::scalar,
                                0,
                                64,
                                8,
                                prepare,
                                scan_groups,
                                scan_rows,
                                distances,
                                scan_parts,
                                scan_three_parts,
                                totals::count_at_most,
                                totals::sum_at_most,
                                totals::find_between,
                                count_shared};

}  // namespace fasthash
