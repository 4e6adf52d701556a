// AVX-512 kernels without an instruction that counts bits (Intel Skylake-X to Cascade Lake).
//
// Few queries look up half-bytes, as with AVX2. For more of them the codes are turned into planes first, one for each
// bit of 512 codes, whose sum a chain of full adders forms: two instructions for each three planes.
#include "kernels/planes.h"
#include "kernels/rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,popcnt,bmi,bmi2")))
#define AVX512_INLINE AVX512 inline __attribute__((always_inline))

namespace fasthash {
namespace {

#include "kernels/avx512_groups.h"
#include "kernels/avx512_totals.h"

constexpr std::size_t kGroupsOfPlanes = 8;
constexpr std::size_t kPlaneBytes = kGroup / 8 * kGroupsOfPlanes;
constexpr std::size_t kMostBytes = 48;  // of codes in planes, which fill the first-level cache

// The planes of narrow codes stand beside their complements, so that adding up one of both for each bit of a query
// gives the distances. Planes of wide codes stand alone, to fit the cache, and are flipped where the query has the bit.
template <bool kNarrow>
constexpr std::size_t kBitBytes = kNarrow ? 2 * kPlaneBytes : kPlaneBytes;

// A prepared byte of a query: repeated, to be broadcast, and where to find what its bits add: of narrow codes the
// offset of a plane or its complement, of wide codes that of a word in kFlips.
struct Prepared {
    std::uint8_t repeated[8];
    std::uint16_t offsets[8];
};

alignas(16) constexpr std::uint64_t kFlips[2] = {0, ~std::uint64_t{0}};  // in memory, to be broadcast

AVX512_INLINE __m512i flip_at(std::size_t offset) {
    long long word;
    std::memcpy(&word, reinterpret_cast<const char*>(kFlips) + offset, sizeof word);
    return _mm512_set1_epi64(word);
}

struct LookUp {
    static constexpr std::size_t kPrepared = sizeof(Prepared);

    static void prepare(const std::uint8_t* query, std::size_t n_bytes, std::uint8_t* prepared) {
        for (std::size_t b = 0; b < n_bytes; ++b) {
            Prepared byte;
            std::memset(byte.repeated, query[b], sizeof byte.repeated);
            for (std::size_t t = 0; t < 8; ++t) {
                const std::size_t set = query[b] >> t & 1u;
                byte.offsets[t] = static_cast<std::uint16_t>(n_bytes <= kMostPartBytes
                                                                 ? (b * 8 + t) * kBitBytes<true> + set * kPlaneBytes
                                                                 : set * sizeof *kFlips);
            }
            std::memcpy(prepared + b * kPrepared, &byte, sizeof byte);
        }
    }
    static AVX512_INLINE __m512i set_bits(__m512i bytes) {
        const __m512i counts = _mm512_set4_epi32(0x04030302, 0x03020201, 0x03020201, 0x02010100);  // of 15 .. 0
        const __m512i mask = _mm512_set1_epi8(15);
        const __m512i high = _mm512_and_si512(_mm512_srli_epi16(bytes, 4), mask);
        return _mm512_add_epi8(_mm512_shuffle_epi8(counts, _mm512_and_si512(bytes, mask)),
                               _mm512_shuffle_epi8(counts, high));
    }
};

// Sets the planes of each bit. Codes of missing groups are 0.
template <bool kNarrow>
AVX512_INLINE void make_planes(const std::uint8_t* groups, std::size_t n_groups, std::size_t n_bytes,
                               std::uint8_t* planes) {
    if (n_groups < kGroupsOfPlanes) std::memset(planes, 0, n_bytes * 8 * kBitBytes<kNarrow>);
    for (std::size_t g = 0; g < n_groups; ++g) {
        for (std::size_t b = 0; b < n_bytes; ++b) {
            const __m512i codes = load(groups + (g * n_bytes + b) * kGroup);
#pragma GCC unroll 8
            for (std::size_t t = 0; t < 8; ++t) {
                const std::uint64_t set = _mm512_test_epi8_mask(codes, all_bytes(static_cast<std::uint8_t>(1u << t)));
                std::memcpy(planes + (b * 8 + t) * kBitBytes<kNarrow> + g * sizeof set, &set, sizeof set);
            }
        }
    }
    for (std::size_t bit = 0; kNarrow && bit < n_bytes * 8; ++bit) {
        std::uint8_t* plane = planes + bit * kBitBytes<kNarrow>;
        _mm512_storeu_si512(plane + kPlaneBytes, _mm512_xor_si512(load(plane), _mm512_set1_epi8(-1)));
    }
}

// Adds two planes to a third of the same weight; returns the carry, of twice that weight.
AVX512_INLINE __m512i add(__m512i& sum, __m512i a, __m512i b) {
    constexpr int kMajority = 0xe8, kOdd = 0x96;
    const __m512i carry = _mm512_ternarylogic_epi64(sum, a, b, kMajority);
    sum = _mm512_ternarylogic_epi64(sum, a, b, kOdd);
    return carry;
}

// Adds eight planes to a sum of three digits; returns the carry, of eight times their weight.
AVX512_INLINE __m512i add_eight(__m512i* digits, const __m512i* x) {
    const __m512i a = add(digits[0], x[0], x[1]);
    const __m512i b = add(digits[0], x[2], x[3]);
    const __m512i c = add(digits[1], a, b);
    const __m512i d = add(digits[0], x[4], x[5]);
    const __m512i e = add(digits[0], x[6], x[7]);
    return add(digits[2], c, add(digits[1], d, e));
}

// Adds the planes of byte b; returns the carry, of weight 8.
template <bool kNarrow>
AVX512_INLINE __m512i add_byte(const std::uint8_t* planes, const std::uint8_t* query, std::size_t b, __m512i* digits) {
    __m512i x[8];
#pragma GCC unroll 8
    for (std::size_t t = 0; t < 8; ++t) {
        std::uint16_t offset;
        std::memcpy(&offset, query + b * LookUp::kPrepared + offsetof(Prepared, offsets) + t * sizeof offset,
                    sizeof offset);
        x[t] = kNarrow ? load(planes + offset)
                       : _mm512_xor_si512(load(planes + (b * 8 + t) * kPlaneBytes), flip_at(offset));
    }
    return add_eight(digits, x);
}

// The binary digits of the distances of a query to the codes in planes.
template <std::size_t kDigits>
struct Distances {
    __m512i digits[kDigits];

    AVX512_INLINE void clear() {
        for (__m512i& digit : digits) digit = _mm512_setzero_si512();
    }
    // Adds the planes of n <= 8 bytes from byte `first` on.
    AVX512_INLINE void add_bytes(const std::uint8_t* planes, const std::uint8_t* query, std::size_t first,
                                 std::size_t n) {
        __m512i eights[8];
#pragma GCC unroll 8
        for (std::size_t b = 0; b < 8; ++b) {
            eights[b] = b < n ? add_byte<kDigits == 8>(planes, query, first + b, digits) : _mm512_setzero_si512();
        }
        __m512i carry = add_eight(digits + 3, eights);
        for (std::size_t d = 6; d < kDigits; ++d) {
            const __m512i next = _mm512_and_si512(digits[d], carry);
            digits[d] = _mm512_xor_si512(digits[d], carry);
            carry = next;
        }
    }
    // Bit i: group i has a code whose distance is smaller than the threshold.
    AVX512_INLINE unsigned groups_below(std::uint16_t threshold) const {
        constexpr int kLess = 0x8e;  // the digit is below that of the threshold, or equal and the lower ones are less
        __m512i less = _mm512_setzero_si512();
#pragma GCC unroll 16
        for (std::size_t d = 0; d < kDigits; ++d) {
            const __m512i of_threshold = flip_at((threshold >> d & 1u) * sizeof *kFlips);
            less = _mm512_ternarylogic_epi64(digits[d], of_threshold, less, kLess);
        }
        return _mm512_test_epi64_mask(less, less);
    }
};

// Hands the codes of some groups below the threshold to the sink. groups: bit i is set if group g + i has such codes.
AVX512 __attribute__((noinline)) void give(const GroupScan& scan, std::size_t q, std::size_t g, unsigned groups,
                                           const Distances<8>& of_query) {
    std::uint64_t words[8][kGroupsOfPlanes];
    std::memcpy(words, of_query.digits, sizeof words);
    for (; groups != 0; groups &= groups - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctz(groups));
        __m512i sums = _mm512_setzero_si512();
        for (std::size_t d = 0; d < 8; ++d) {
            sums = _mm512_mask_add_epi8(sums, words[d][i], sums, all_bytes(static_cast<std::uint8_t>(1u << d)));
        }
        give_narrow(scan, q, g + i, sums);
    }
}

AVX512 __attribute__((noinline)) void give(const GroupScan& scan, std::size_t q, std::size_t g, unsigned groups,
                                           const Distances<10>& of_query) {
    std::uint64_t words[10][kGroupsOfPlanes];
    std::memcpy(words, of_query.digits, sizeof words);
    for (; groups != 0; groups &= groups - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctz(groups));
        __m512i halves[2] = {};
        for (std::size_t d = 0; d < 10; ++d) {
            const __m512i value = _mm512_set1_epi16(static_cast<short>(1u << d));
            const auto low = static_cast<__mmask32>(words[d][i]), high = static_cast<__mmask32>(words[d][i] >> 32);
            halves[0] = _mm512_mask_add_epi16(halves[0], low, halves[0], value);
            halves[1] = _mm512_mask_add_epi16(halves[1], high, halves[1], value);
        }
        const __m512i threshold = _mm512_set1_epi16(static_cast<short>(scan.thresholds[q]));  // it may have fallen
        const std::uint64_t rows = _mm512_cmplt_epu16_mask(halves[0], threshold) |
                                   std::uint64_t{_mm512_cmplt_epu16_mask(halves[1], threshold)} << 32;
        std::uint16_t distances[kGroup];
        std::memcpy(distances, halves, sizeof distances);
        if (rows != 0) scan.sink->take(q, g + i, rows, distances);
    }
}

// Compares a query with groups in planes. A query leaves wide codes as soon as none of them can come within the
// threshold. kBytes: the width, or 0 for any.
template <std::size_t kBytes, std::size_t kDigits>
AVX512_INLINE void compare(const GroupScan& scan, std::size_t q, std::size_t g, std::size_t n_groups,
                           const std::uint8_t* planes) {
    constexpr std::size_t kPeek = 16;
    const std::size_t n_bytes = kBytes ? kBytes : scan.n_bytes;
    const std::uint8_t* query = scan.prepared + q * n_bytes * LookUp::kPrepared;
    const unsigned all = (1u << n_groups) - 1;
    Distances<kDigits> distances;
    distances.clear();
    std::size_t b = 0;
    for (; b + 8 <= n_bytes; b += 8) {
        if (kDigits > 8 && b >= kPeek && (distances.groups_below(scan.thresholds[q]) & all) == 0) return;
        distances.add_bytes(planes, query, b, 8);
    }
    if (b < n_bytes) distances.add_bytes(planes, query, b, n_bytes - b);
    const unsigned groups = distances.groups_below(scan.thresholds[q]) & all;
    if (__builtin_expect(groups != 0, 0)) give(scan, q, g, groups, distances);
}

// Planes are made only for blocks of at least so many queries, and so many groups of codes; fewer do not repay it.
constexpr std::size_t kFewestQueries = 12, kFewestOfWide = 24, kFewestGroups = 4;

template <std::size_t kBytes, std::size_t kDigits = 8>
AVX512 void scan_planes(const GroupScan& scan) {
    const std::size_t n_bytes = kBytes ? kBytes : scan.n_bytes;
    alignas(64)
        std::uint8_t planes[kDigits == 8 ? kMostPartBytes * 8 * kBitBytes<true> : kMostBytes * 8 * kBitBytes<false>];
    std::size_t g = 0;
    for (; g + kFewestGroups <= scan.n_groups; g += kGroupsOfPlanes) {
        const std::size_t n_groups = scan.n_groups - g < kGroupsOfPlanes ? scan.n_groups - g : kGroupsOfPlanes;
        make_planes<kDigits == 8>(scan.groups + g * kGroup * n_bytes, n_groups, n_bytes, planes);
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            compare<kBytes, kDigits>(scan, scan.queries[slot], g, n_groups, planes);
        }
    }
    if (g >= scan.n_groups) return;
    if (kDigits == 8) {
        scan_narrow<LookUp, kBytes>(scan, g);
    } else {
        scan_wide<LookUp, kBytes>(scan, g);
    }
}

void scan_groups_of_queries(const GroupScan& scan) {
    const bool narrow = scan.n_bytes <= kMostPartBytes;
    if (scan.n_queries < (narrow ? kFewestQueries : kFewestOfWide) || scan.n_bytes > kMostBytes) {
        return scan_groups<LookUp>(scan);
    }
    switch (scan.n_bytes) {
        case 4:
            return scan_planes<4>(scan);
        case 8:
            return scan_planes<8>(scan);
        case 16:
            return scan_planes<16>(scan);
        case 32:
            return scan_planes<32, 10>(scan);
        default:
            return narrow ? scan_planes<0>(scan) : scan_planes<0, 10>(scan);
    }
}

}  // namespace

const Kernels* avx512bw_kernels() {
    static const Kernels table = {SimdLevel::avx512bw,
                                  0,
                                  224,
                                  LookUp::kPrepared,
                                  LookUp::prepare,
                                  scan_groups_of_queries,
                                  avx2_kernels()->scan_rows,
                                  avx2_kernels()->distances,
                                  scan_parts<LookUp>,
                                  scan_three_parts<LookUp>,
                                  count_at_most,
                                  sum_at_most,
                                  find_between,
                                  count_shared};
    return &table;
}

}  // namespace fasthash

#else

namespace fasthash {
const Kernels* avx512bw_kernels() { return nullptr; }
}  // namespace fasthash

#endif
