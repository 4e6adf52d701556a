// AVX2 kernels: count the bits of 32 bytes at once by looking up half-bytes (vpshufb).
#include "kernels/planes.h"
#include "kernels/rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2,popcnt,bmi,bmi2")))
#define AVX2_INLINE AVX2 inline __attribute__((always_inline))

namespace fasthash {
namespace {

constexpr std::size_t kPrepared = 32;
constexpr std::size_t kHalf = kGroup / 2;

// Prepares, for each half of a query byte, a table of its distances to all 16 half-bytes. A lookup then gives the
// distance directly, and the half-bytes of the codes are split once for all queries of a block.
AVX2 void prepare(const std::uint8_t* query, std::size_t n_bytes, std::uint8_t* prepared) {
    const __m128i bits = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m128i all = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (std::size_t b = 0; b < n_bytes; ++b) {
        const auto low = static_cast<char>(query[b] & 15u), high = static_cast<char>(query[b] >> 4u);
        auto* tables = reinterpret_cast<__m128i*>(prepared + b * kPrepared);
        _mm_storeu_si128(tables, _mm_shuffle_epi8(bits, _mm_xor_si128(all, _mm_set1_epi8(low))));
        _mm_storeu_si128(tables + 1, _mm_shuffle_epi8(bits, _mm_xor_si128(all, _mm_set1_epi8(high))));
    }
}

AVX2_INLINE __m256i load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

AVX2_INLINE __m256i table(const std::uint8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}

// The low and high half-bytes of one byte of 32 codes.
struct Halves {
    __m256i low, high;
};

AVX2_INLINE Halves split(const std::uint8_t* codes) {
    const __m256i mask = _mm256_set1_epi8(15), bytes = load(codes);
    return {_mm256_and_si256(bytes, mask), _mm256_and_si256(_mm256_srli_epi16(bytes, 4), mask)};
}

AVX2_INLINE __m256i look_up(const Halves& codes, const std::uint8_t* prepared) {
    return _mm256_add_epi8(_mm256_shuffle_epi8(table(prepared), codes.low),
                           _mm256_shuffle_epi8(table(prepared + 16), codes.high));
}

// Whether all distances of both halves of a group, in bytes, reach the threshold.
AVX2_INLINE bool all_beyond(const __m256i* sums, __m256i threshold) {
    const __m256i least = _mm256_min_epu8(sums[0], sums[1]);
    return _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_max_epu8(least, threshold), least)) == -1;
}

// Hands the codes of a group below the threshold to the sink. sums: the distances of both halves of the group, in
// bytes.
AVX2_INLINE void offer(const GroupScan& scan, std::size_t q, std::size_t g, const __m256i* sums) {
    // AVX2 has no unsigned comparison: x >= threshold exactly if max(x, threshold) == x.
    const __m256i threshold = _mm256_set1_epi8(static_cast<char>(scan.thresholds[q]));
    if (__builtin_expect(all_beyond(sums, threshold), 1)) return;
    std::uint16_t distances[kGroup];
    std::uint64_t rows = 0;
    for (std::size_t half = 0; half < 2; ++half) {
        const __m256i out = _mm256_cmpeq_epi8(_mm256_max_epu8(sums[half], threshold), sums[half]);
        rows |= std::uint64_t{~static_cast<std::uint32_t>(_mm256_movemask_epi8(out))} << (half * kHalf);
        alignas(32) std::uint8_t bytes[kHalf];
        _mm256_store_si256(reinterpret_cast<__m256i*>(bytes), sums[half]);
        for (std::size_t i = 0; i < kHalf; ++i) distances[half * kHalf + i] = bytes[i];
    }
    scan.sink->take(q, g, rows, distances);
}

// Codes of up to 31 bytes, whose distances fit a byte, for several queries. kBytes: the width, or 0 for any. From 4
// bytes on a loop over the bytes is faster than a copy for each width, which GCC unrolls and fills with copies to the
// stack.
template <std::size_t kBytes>
AVX2 void scan_narrow(const GroupScan& scan) {
    const std::size_t n_bytes = kBytes ? kBytes : scan.n_bytes;
    for (std::size_t g = 0; g < scan.n_groups; ++g) {
        const std::uint8_t* group = scan.groups + g * kGroup * n_bytes;
        prefetch_ahead(group, kGroup * n_bytes, scan.n_queries);
        Halves halves[2][kMostPartBytes];
        for (std::size_t b = 0; b < n_bytes; ++b) {
            halves[0][b] = split(group + b * kGroup);
            halves[1][b] = split(group + b * kGroup + kHalf);
        }
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            const std::uint8_t* query = scan.prepared + q * n_bytes * kPrepared;
            __m256i sums[2] = {look_up(halves[0][0], query), look_up(halves[1][0], query)};
            for (std::size_t b = 1; b < n_bytes; ++b) {
                sums[0] = _mm256_add_epi8(sums[0], look_up(halves[0][b], query + b * kPrepared));
                sums[1] = _mm256_add_epi8(sums[1], look_up(halves[1][b], query + b * kPrepared));
            }
            offer(scan, q, g, sums);
        }
    }
}

// The same for a single query: nothing is kept for a second one, so the half-bytes stay in registers.
template <std::size_t kBytes>
AVX2 void scan_narrow_once(const GroupScan& scan) {
    const std::size_t n_bytes = kBytes ? kBytes : scan.n_bytes;
    const std::size_t q = scan.queries[0];
    const std::uint8_t* query = scan.prepared + q * n_bytes * kPrepared;
    for (std::size_t g = 0; g < scan.n_groups; ++g) {
        const std::uint8_t* group = scan.groups + g * kGroup * n_bytes;
        prefetch_ahead(group, kGroup * n_bytes, 1);
        __m256i sums[2] = {};
        for (std::size_t b = 0; b < n_bytes; ++b) {
            const std::uint8_t* tables = query + b * kPrepared;
            sums[0] = _mm256_add_epi8(sums[0], look_up(split(group + b * kGroup), tables));
            sums[1] = _mm256_add_epi8(sums[1], look_up(split(group + b * kGroup + kHalf), tables));
        }
        offer(scan, q, g, sums);
    }
}

// 16-bit distances of the even and the odd rows of both halves of a group.
struct WideSums {
    __m256i even[2], odd[2];

    AVX2_INLINE void add(const __m256i* sums) {
        const __m256i low = _mm256_set1_epi16(0xff);
        for (std::size_t half = 0; half < 2; ++half) {
            even[half] = _mm256_add_epi16(even[half], _mm256_and_si256(sums[half], low));
            odd[half] = _mm256_add_epi16(odd[half], _mm256_srli_epi16(sums[half], 8));
        }
    }
    // Distances and thresholds are at most 4097, so a signed comparison is correct.
    AVX2_INLINE bool any_within(__m256i threshold) const {
        const __m256i least = _mm256_min_epu16(_mm256_min_epu16(even[0], odd[0]), _mm256_min_epu16(even[1], odd[1]));
        return _mm256_movemask_epi8(_mm256_cmpgt_epi16(threshold, least)) != 0;
    }
    AVX2_INLINE void store(std::uint16_t* distances) const {
        std::uint16_t halves[4][kHalf / 2];
        for (std::size_t half = 0; half < 2; ++half) {
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(halves[2 * half]), even[half]);
            _mm256_storeu_si256(reinterpret_cast<__m256i*>(halves[2 * half + 1]), odd[half]);
        }
        for (std::size_t i = 0; i < kGroup; ++i) distances[i] = halves[i / kHalf * 2 + i % 2][i % kHalf / 2];
    }
};

// Codes of 32 bytes and more. A query leaves a group as soon as none of its codes can come within the threshold: most
// groups are left within the first kFirstBytes bytes, over which distances fit a byte.
constexpr std::size_t kFirstBytes = 24, kPeek = 16, kBlock = 16;

// Compares a query with the bytes of a group from kFirstBytes on. sums: the distances over the bytes before.
AVX2 __attribute__((noinline)) void scan_rest(const GroupScan& scan, std::size_t q, std::size_t g,
                                              const __m256i* first) {
    const std::uint8_t* group = scan.groups + g * kGroup * scan.n_bytes;
    const std::uint8_t* query = scan.prepared + q * scan.n_bytes * kPrepared;
    const __m256i threshold = _mm256_set1_epi16(static_cast<short>(scan.thresholds[q]));
    WideSums totals = {};
    totals.add(first);
    for (std::size_t begin = kFirstBytes; begin < scan.n_bytes; begin += kBlock) {
        const std::size_t end = begin + kBlock < scan.n_bytes ? begin + kBlock : scan.n_bytes;
        __m256i sums[2] = {};
        for (std::size_t b = begin; b < end; ++b) {
            const std::uint8_t* codes = group + b * kGroup;
            sums[0] = _mm256_add_epi8(sums[0], look_up(split(codes), query + b * kPrepared));
            sums[1] = _mm256_add_epi8(sums[1], look_up(split(codes + kHalf), query + b * kPrepared));
        }
        totals.add(sums);
        if (!totals.any_within(threshold)) return;
    }
    std::uint16_t distances[kGroup];
    totals.store(distances);
    std::uint64_t rows = 0;
    for (std::size_t i = 0; i < kGroup; ++i) rows |= std::uint64_t{distances[i] < scan.thresholds[q]} << i;
    scan.sink->take(q, g, rows, distances);
}

// kAlone: for a single query nothing is kept for a second one, so the half-bytes stay in registers.
template <bool kAlone>
AVX2 void scan_wide(const GroupScan& scan) {
    for (std::size_t g = 0; g < scan.n_groups; ++g) {
        const std::uint8_t* group = scan.groups + g * kGroup * scan.n_bytes;
        prefetch_ahead(group, kGroup * scan.n_bytes, scan.n_queries);
        Halves halves[2][kFirstBytes];
        for (std::size_t b = 0; !kAlone && b < kFirstBytes; ++b) {
            halves[0][b] = split(group + b * kGroup);
            halves[1][b] = split(group + b * kGroup + kHalf);
        }
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            const std::uint8_t* query = scan.prepared + q * scan.n_bytes * kPrepared;
            const bool in_bytes = scan.thresholds[q] <= UINT8_MAX;
            const __m256i threshold = _mm256_set1_epi8(static_cast<char>(scan.thresholds[q]));
            __m256i sums[2] = {};
            bool beyond = false;
            for (std::size_t begin = 0, end = kPeek; begin < kFirstBytes && !beyond; begin = end, end = kFirstBytes) {
                for (std::size_t b = begin; b < end; ++b) {
                    const std::uint8_t* tables = query + b * kPrepared;
                    const std::uint8_t* codes = group + b * kGroup;
                    sums[0] = _mm256_add_epi8(sums[0], look_up(kAlone ? split(codes) : halves[0][b], tables));
                    sums[1] = _mm256_add_epi8(sums[1], look_up(kAlone ? split(codes + kHalf) : halves[1][b], tables));
                }
                beyond = in_bytes && all_beyond(sums, threshold);
            }
            if (__builtin_expect(!beyond, 0)) scan_rest(scan, q, g, sums);
        }
    }
}

AVX2 void scan_groups(const GroupScan& scan) {
    const bool alone = scan.n_queries == 1;
    if (scan.n_bytes > kMostPartBytes) return alone ? scan_wide<true>(scan) : scan_wide<false>(scan);
    if (!alone) return scan.n_bytes == 2 ? scan_narrow<2>(scan) : scan_narrow<0>(scan);
    switch (scan.n_bytes) {
        case 2:
            return scan_narrow_once<2>(scan);
        case 4:
            return scan_narrow_once<4>(scan);
        case 8:
            return scan_narrow_once<8>(scan);
        case 16:
            return scan_narrow_once<16>(scan);
        default:
            return scan_narrow_once<0>(scan);
    }
}

// All bits of the bytes that are at most `largest`.
AVX2_INLINE __m256i at_most(__m256i bytes, __m256i largest) {
    return _mm256_cmpeq_epi8(_mm256_max_epu8(bytes, largest), largest);
}

AVX2_INLINE __m256i all_bytes(std::uint8_t value) { return _mm256_set1_epi8(static_cast<char>(value)); }

AVX2_INLINE void store(std::uint8_t* to, __m256i bytes) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes); }

AVX2_INLINE std::uint64_t bits_of(__m256i low, __m256i high) {
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(low)) |
           std::uint64_t{static_cast<std::uint32_t>(_mm256_movemask_epi8(high))} << kHalf;
}

AVX2_INLINE std::uint64_t sum_words(__m256i words) {
    std::uint64_t each[4];
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(each), words);
    return each[0] + each[1] + each[2] + each[3];
}

// Adds the distances of both halves of a group over some bytes. kBytes: their number, or 0 for any.
template <std::size_t kBytes>
AVX2_INLINE void add_bytes(const std::uint8_t* codes, const std::uint8_t* query, std::size_t any_bytes, __m256i* sums) {
    const std::size_t n_bytes = kBytes ? kBytes : any_bytes;
#pragma GCC unroll 8
    for (std::size_t b = 0; b < n_bytes; ++b) {
        sums[0] = _mm256_add_epi8(sums[0], look_up(split(codes + b * kGroup), query + b * kPrepared));
        sums[1] = _mm256_add_epi8(sums[1], look_up(split(codes + b * kGroup + kHalf), query + b * kPrepared));
    }
}

AVX2_INLINE void add_part(const std::uint8_t* codes, const std::uint8_t* query, std::size_t n_bytes, __m256i* sums) {
    switch (n_bytes) {
        case 1:
            return add_bytes<1>(codes, query, n_bytes, sums);
        case 2:
            return add_bytes<2>(codes, query, n_bytes, sums);
        default:
            return add_bytes<0>(codes, query, n_bytes, sums);
    }
}

// The totals, dropped where a distance is beyond the cut.
AVX2_INLINE __m256i drop_beyond(__m256i totals, __m256i distances, std::uint8_t cut) {
    return _mm256_or_si256(totals, _mm256_andnot_si256(at_most(distances, all_bytes(cut)), _mm256_set1_epi8(-1)));
}

AVX2_INLINE void add_distances(const PartScan& scan, const CodePart& part, std::size_t n_bytes,
                               const std::uint8_t* group, __m256i* totals) {
    __m256i sums[2] = {};
    add_part(group + part.first_byte * kGroup, scan.prepared + part.first_byte * kPrepared, n_bytes, sums);
    for (std::size_t half = 0; half < 2; ++half) {
        totals[half] = _mm256_adds_epu8(totals[half], sums[half]);
        if (part.cut == kDropped) continue;
        totals[half] = drop_beyond(totals[half], scan.by_part ? sums[half] : totals[half], part.cut);
    }
}

// Drops the codes of a group from the n-th on.
AVX2_INLINE void drop_from(std::size_t n, __m256i* totals) {
    alignas(32) static constexpr char kNumbers[kHalf] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10,
                                                         11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21,
                                                         22, 23, 24, 25, 26, 27, 28, 29, 30, 31};
    const __m256i last = _mm256_set1_epi8(static_cast<char>(n - 1));
    const __m256i low = load(kNumbers), high = _mm256_add_epi8(low, _mm256_set1_epi8(kHalf));
    totals[0] = _mm256_or_si256(totals[0], _mm256_cmpgt_epi8(low, last));
    totals[1] = _mm256_or_si256(totals[1], _mm256_cmpgt_epi8(high, last));
}

// Adds the weights of the totals that are at most `largest` to the words of a vector; without weights, 1 each.
AVX2_INLINE __m256i counted(const __m256i* totals, const std::uint8_t* weights, __m256i largest, __m256i count) {
    const __m256i zero = _mm256_setzero_si256();
    const __m256i within[2] = {at_most(totals[0], largest), at_most(totals[1], largest)};
    if (weights == nullptr) {
        const __m256i negative = _mm256_add_epi8(within[0], within[1]);
        return _mm256_add_epi64(count, _mm256_sad_epu8(_mm256_sub_epi8(zero, negative), zero));
    }
    const __m256i low = _mm256_sad_epu8(_mm256_and_si256(load(weights), within[0]), zero);
    const __m256i high = _mm256_sad_epu8(_mm256_and_si256(load(weights + kHalf), within[1]), zero);
    return _mm256_add_epi64(count, _mm256_add_epi64(low, high));
}

// kOnly: the bytes of the only part; 0: any number of parts of any size.
template <Counting kCounting, std::size_t kOnly>
AVX2 void scan_parts_of(const PartScan& scan, TotalCount* count) {
    constexpr bool kCounts = kCounting == Counting::codes || kCounting == Counting::weights;
    const __m256i largest_found = all_bytes(scan.largest_found);
    std::uint64_t* found = scan.found;
    const __m256i largest[2] = {all_bytes(kCounts ? count->largest[0] : 0), all_bytes(kCounts ? count->largest[1] : 0)};
    __m256i counts[2] = {};
    std::uint8_t* to = scan.totals;
    const std::size_t n_runs = scan.list.n > 0 ? scan.list.n : scan.n_runs;
    for (std::size_t r = 0; r < n_runs; ++r) {
        const CodeRun run = scan.list.n > 0 ? scan.list.run(r) : scan.runs[r];
        const __m256i before = all_bytes(static_cast<std::uint8_t>(run.before));
        std::size_t n_left = run.n_codes;
        for (std::size_t g = run.first_group; n_left > 0; ++g) {
            const std::uint8_t* group = scan.groups + g * kGroup * scan.n_bytes;
            __m256i totals[2] = {before, before};
            for (std::size_t half = 0; half < 2 && scan.goes_on; ++half) {
                const __m256i known = load(to + half * kHalf);
                totals[half] = drop_beyond(known, known, scan.cut_before);
            }
            if (kOnly > 0) {
                add_distances(scan, scan.parts[0], kOnly, group, totals);
            } else {
                for (const CodePart* part = scan.parts; part != scan.parts + scan.n_parts; ++part) {
                    add_distances(scan, *part, part->n_bytes, group, totals);
                }
            }
            if (n_left < kGroup) drop_from(n_left, totals);
            n_left -= n_left < kGroup ? n_left : kGroup;
            store(to, totals[0]);
            store(to + kHalf, totals[1]);
            to += kGroup;
            if (kCounting == Counting::found) {
                const auto low = static_cast<std::uint32_t>(_mm256_movemask_epi8(at_most(totals[0], largest_found)));
                const auto high = static_cast<std::uint32_t>(_mm256_movemask_epi8(at_most(totals[1], largest_found)));
                *found++ = low | std::uint64_t{high} << kHalf;
            }
            if (!kCounts) continue;
            const std::uint8_t* weights = kCounting == Counting::weights ? count->weights + g * kGroup : nullptr;
            counts[0] = counted(totals, weights, largest[0], counts[0]);
            counts[1] = counted(totals, weights, largest[1], counts[1]);
        }
    }
    if (!kCounts) return;
    for (std::size_t i = 0; i < 2; ++i) count->counts[i] += sum_words(counts[i]);
}

template <Counting kCounting>
AVX2 void scan_parts_counting(const PartScan& scan, TotalCount* count) {
    if (scan.n_parts == 1 && scan.parts[0].n_bytes == 2) return scan_parts_of<kCounting, 2>(scan, count);
    scan_parts_of<kCounting, 0>(scan, count);
}

AVX2 void scan_parts(const PartScan& scan, TotalCount* count) {
    if (count == nullptr && scan.found != nullptr) return scan_parts_counting<Counting::found>(scan, count);
    if (count == nullptr) return scan_parts_counting<Counting::none>(scan, count);
    if (count->weights == nullptr) return scan_parts_counting<Counting::codes>(scan, count);
    scan_parts_counting<Counting::weights>(scan, count);
}

FASTHASH_ROW_KERNELS(AVX2, rows::Builtin)

AVX2 std::size_t count_at_most(const std::uint8_t* totals, std::size_t n_groups, std::uint8_t largest) {
    constexpr std::size_t kRounds = 127;  // of two vectors, whose counts fit a byte
    const __m256i ceiling = _mm256_set1_epi8(static_cast<char>(largest)), zero = _mm256_setzero_si256();
    __m256i count = zero;
    while (n_groups > 0) {
        const std::size_t n = n_groups < kRounds ? n_groups : kRounds;
        __m256i counts[2] = {zero, zero};
        for (const std::uint8_t* end = totals + n * kGroup; totals != end; totals += kGroup) {
            counts[0] = _mm256_sub_epi8(counts[0], at_most(load(totals), ceiling));
            counts[1] = _mm256_sub_epi8(counts[1], at_most(load(totals + kHalf), ceiling));
        }
        count = _mm256_add_epi64(count, _mm256_sad_epu8(_mm256_add_epi8(counts[0], counts[1]), zero));
        n_groups -= n;
    }
    return sum_words(count);
}

AVX2 std::uint64_t sum_at_most(const std::uint8_t* totals, const std::uint8_t* weights, std::size_t n_groups,
                               std::uint8_t largest) {
    const __m256i ceiling = _mm256_set1_epi8(static_cast<char>(largest)), zero = _mm256_setzero_si256();
    __m256i sums[2] = {zero, zero};
    for (std::size_t i = 0; i < n_groups * kGroup; i += kGroup) {
        for (std::size_t half = 0; half < 2; ++half) {
            const __m256i within = at_most(load(totals + i + half * kHalf), ceiling);
            const __m256i counted = _mm256_and_si256(load(weights + i + half * kHalf), within);
            sums[half] = _mm256_add_epi64(sums[half], _mm256_sad_epu8(counted, zero));
        }
    }
    return sum_words(_mm256_add_epi64(sums[0], sums[1]));
}

// Adds the distances of a query over the bytes begin .. end of a group.
AVX2_INLINE void add_halves(const Halves (*halves)[2], const std::uint8_t* tables, std::size_t begin, std::size_t end,
                            __m256i* sums) {
#pragma GCC unroll 1
    for (std::size_t b = begin; b < end; ++b) {
        sums[0] = _mm256_add_epi8(sums[0], look_up(halves[b][0], tables + b * kPrepared));
        sums[1] = _mm256_add_epi8(sums[1], look_up(halves[b][1], tables + b * kPrepared));
    }
}

// kFirstBytes, kSecond, kThird: the bytes of the parts; 0 for any. Queries share the halves of a group's bytes.
template <std::size_t kFirst, std::size_t kSecond, std::size_t kThird>
AVX2 void scan_three_parts_of(const ThreePartScan& scan) {
    const std::size_t first_bytes = kFirst ? kFirst : scan.first_bytes;
    const std::size_t two_parts = first_bytes + (kFirst ? kSecond : scan.second_bytes);
    const std::size_t n_bytes = kFirst ? kFirst + kSecond + kThird : scan.n_bytes;
    std::uint16_t slots[ThreePartScan::kMostGroups] = {};  // for each group, a mask of queries
    for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
        for (std::uint64_t left = scan.queries[slot]->wanted; left != 0; left &= left - 1) {
            slots[__builtin_ctzll(left)] |= static_cast<std::uint16_t>(1u << slot);
        }
    }
    for (std::size_t g = 0; g < scan.n_groups; ++g) {
        if (slots[g] == 0) continue;
        const std::uint8_t *group = scan.groups + g * kGroup * n_bytes, *weights = scan.weights + g * kGroup;
        Halves halves[kMostPartBytes][2];
        for (std::size_t b = 0; b < n_bytes; ++b) {
            halves[b][0] = split(group + b * kGroup);
            halves[b][1] = split(group + b * kGroup + kHalf);
        }
        for (unsigned left = slots[g]; left != 0; left &= left - 1) {
            ThreePartQuery& query = *scan.queries[__builtin_ctz(left)];
            __m256i sums[2] = {};
            add_halves(halves, query.prepared, 0, first_bytes, sums);
            const __m256i cut = all_bytes(query.first_cut), ones = _mm256_set1_epi8(-1);
            const __m256i far[2] = {_mm256_xor_si256(at_most(sums[0], cut), ones),
                                    _mm256_xor_si256(at_most(sums[1], cut), ones)};
            add_halves(halves, query.prepared, first_bytes, two_parts, sums);
            for (std::size_t half = 0; half < 2; ++half) sums[half] = _mm256_or_si256(sums[half], far[half]);
            alignas(32) std::uint8_t prefix_totals[kGroup], totals[kGroup];
            store(prefix_totals, sums[0]);
            store(prefix_totals + kHalf, sums[1]);
            for (std::size_t i = 0; i < scan.n_counted; ++i) {
                auto* count = reinterpret_cast<__m256i*>(query.counts[i]);
                _mm256_storeu_si256(count, counted(sums, weights, all_bytes(query.largest[i]), load(count)));
            }
            add_halves(halves, query.prepared, two_parts, n_bytes, sums);
            for (std::size_t half = 0; half < 2; ++half) sums[half] = _mm256_or_si256(sums[half], far[half]);
            const __m256i beyond = all_bytes(static_cast<std::uint8_t>(query.threshold + 1));
            if (__builtin_expect(all_beyond(sums, beyond), 1)) continue;
            store(totals, sums[0]);
            store(totals + kHalf, sums[1]);
            const __m256i within = all_bytes(query.threshold);
            scan.sink->take(query, g, bits_of(at_most(sums[0], within), at_most(sums[1], within)), prefix_totals,
                            totals);
        }
    }
}

AVX2 void scan_three_parts(const ThreePartScan& scan) {
    if (scan.first_bytes == 1 && scan.second_bytes == 2 && scan.n_bytes == 8) return scan_three_parts_of<1, 2, 5>(scan);
    scan_three_parts_of<0, 0, 0>(scan);
}

AVX2 std::size_t find_between(const std::uint8_t* totals, std::size_t n_groups, std::uint8_t first, std::uint8_t last,
                              std::uint32_t* positions) {
    const __m256i base = _mm256_set1_epi8(static_cast<char>(first));
    const __m256i width = _mm256_set1_epi8(static_cast<char>(last - first));
    std::size_t count = 0;
    for (std::size_t i = 0; i < n_groups * kGroup; i += kGroup) {
        const __m256i low = at_most(_mm256_sub_epi8(load(totals + i), base), width);
        const __m256i high = at_most(_mm256_sub_epi8(load(totals + i + kHalf), base), width);
        std::uint64_t found = bits_of(low, high);
        for (; found != 0; found &= found - 1) {
            positions[count++] = static_cast<std::uint32_t>(i) + static_cast<std::uint32_t>(__builtin_ctzll(found));
        }
    }
    return count;
}

using Words = std::uint64_t __attribute__((vector_size(32)));

AVX2 bool count_shared(const PlaneScan& scan) { return planes::count_shared<Words>(scan); }

}  // namespace

const Kernels* avx2_kernels() {
    static constexpr Kernels table = {SimdLevel::avx2, 0,           80,           kPrepared,   prepare,
                                      scan_groups,     scan_rows,   distances,    scan_parts,  scan_three_parts,
                                      count_at_most,   sum_at_most, find_between, count_shared};
    return &table;
}

}  // namespace fasthash

#else

namespace fasthash {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace fasthash

#endif
