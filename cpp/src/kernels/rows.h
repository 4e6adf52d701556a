// Kernels over rows of codes, templates shared by all instruction sets, and what scans of groups have in common.
//
// Each instruction set supplies its way to count the bits of a word. Everything is forced inline, so that it is
// compiled for the target of the calling function.
#pragma once

#include <algorithm>
#include <cstring>

#include "kernels/kernels.h"

#define FASTHASH_INLINE inline __attribute__((always_inline))

namespace fasthash {

/// Prefetch a group well ahead, since hardware prefetching alone does not saturate the memory. Skipped for larger
/// blocks of queries, which are bound by computation.
FASTHASH_INLINE void prefetch_ahead(const std::uint8_t* group, std::size_t group_bytes, std::size_t n_queries) {
    if (n_queries > 64) return;
    constexpr std::size_t kGroupsAhead = 8, kLeast = 4096, kMost = 16384, kLine = 64;
    const std::size_t ahead = std::min(std::max(kGroupsAhead * group_bytes, kLeast), kMost);
    for (std::size_t i = 0; i < group_bytes; i += kLine) __builtin_prefetch(group + ahead + i);
}

/// A scan of parts may find the codes within a distance, count those within two, or add up their weights.
enum class Counting { none, found, codes, weights };

namespace rows {

template <typename Word>
FASTHASH_INLINE std::uint64_t xor_word(const std::uint8_t* a, const std::uint8_t* b) {
    Word x, y;
    std::memcpy(&x, a, sizeof x);  // codes are not aligned
    std::memcpy(&y, b, sizeof y);
    return static_cast<Word>(x ^ y);
}

/// A single instruction when compiled for a target that has it.
struct Builtin {
    static FASTHASH_INLINE std::uint64_t count(std::uint64_t x) {
        return static_cast<std::uint64_t>(__builtin_popcountll(x));
    }
};

/// Hamming distance. Count provides static count(std::uint64_t), the number of bits set.
template <typename Count>
FASTHASH_INLINE std::int32_t distance(const std::uint8_t* a, const std::uint8_t* b, std::size_t n_bytes) {
    std::uint64_t sum = 0;
    std::size_t i = 0;
    for (; i + 8 <= n_bytes; i += 8) sum += Count::count(xor_word<std::uint64_t>(a + i, b + i));
    std::uint64_t rest = 0;
    if (n_bytes & 4) {
        rest = xor_word<std::uint32_t>(a + i, b + i);
        i += 4;
    }
    if (n_bytes & 2) {
        rest = rest << 16 | xor_word<std::uint16_t>(a + i, b + i);
        i += 2;
    }
    if (n_bytes & 1) rest = rest << 8 | xor_word<std::uint8_t>(a + i, b + i);
    if (n_bytes & 7) sum += Count::count(rest);
    return static_cast<std::int32_t>(sum);
}

/// Buffers hits; hands them to the sink at the end of a range or when full.
class HitBuffer {
 public:
    HitBuffer(std::int32_t first_threshold, RowSink& sink) : threshold(first_threshold), sink_(sink) {}

    FASTHASH_INLINE void push(std::uint32_t row, std::int32_t distance) {
        hits_[n_++] = {row, distance};
        if (n_ == kMostHits) flush();
    }
    /// True if the threshold may have changed.
    FASTHASH_INLINE bool end_range() {
        if (n_ == 0) return false;
        flush();
        return true;
    }

    std::int32_t threshold;

 private:
    __attribute__((noinline)) void flush() {
        threshold = sink_.take(hits_, n_);
        n_ = 0;
    }

    RowSink& sink_;
    std::size_t n_ = 0;
    RowHit hits_[kMostHits];
};

/// Distance of a code shorter than a word, given its end. Loads the 8 bytes that end with the code and shifts out those
/// of earlier codes; so at least 8 bytes of codes must precede `end`.
template <typename Count>
FASTHASH_INLINE std::int32_t short_distance(const std::uint8_t* end, std::uint64_t query, unsigned shift) {
    std::uint64_t word;
    std::memcpy(&word, end - 8, 8);
    return static_cast<std::int32_t>(Count::count((word >> shift) ^ query));
}

template <typename Count>
FASTHASH_INLINE void scan_short(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n_bytes,
                                const RowRange* ranges, std::size_t n_ranges, std::int32_t threshold, RowSink& sink) {
    std::uint64_t word = 0;
    std::memcpy(&word, query, n_bytes);
    const auto shift = static_cast<unsigned>(8 * (8 - n_bytes));
    HitBuffer buffer(threshold, sink);
    for (std::size_t r = 0; r < n_ranges; ++r) {
        for (std::size_t row = ranges[r].begin; row < ranges[r].end; ++row) {
            const std::size_t end = (row + 1) * n_bytes;
            const std::int32_t d = end >= 8 ? short_distance<Count>(codes + end, word, shift)
                                            : distance<Count>(query, codes + end - n_bytes, n_bytes);
            if (d <= buffer.threshold) buffer.push(static_cast<std::uint32_t>(row), d);
        }
        buffer.end_range();
    }
}

/// kBytes: the width, or 0 for any. A known width lets the compiler unroll `distance`.
template <typename Count, std::size_t kBytes>
FASTHASH_INLINE void scan(const std::uint8_t* query, const std::uint8_t* codes, std::size_t any_bytes,
                          const RowRange* ranges, std::size_t n_ranges, std::int32_t threshold, RowSink& sink) {
    const std::size_t n_bytes = kBytes ? kBytes : any_bytes;
    HitBuffer buffer(threshold, sink);
    for (std::size_t r = 0; r < n_ranges; ++r) {
        for (std::uint32_t row = ranges[r].begin; row < ranges[r].end; ++row) {
            const std::int32_t d = distance<Count>(query, codes + row * n_bytes, n_bytes);
            if (d <= buffer.threshold) buffer.push(row, d);
        }
        buffer.end_range();
    }
}

template <typename Count, std::size_t kBytes>
FASTHASH_INLINE void distances(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n,
                               std::size_t any_bytes, std::uint16_t base, std::uint16_t* out) {
    const std::size_t n_bytes = kBytes ? kBytes : any_bytes;
    for (std::size_t i = 0; i < n; ++i) {
        out[i] = static_cast<std::uint16_t>(base + distance<Count>(query, codes + i * n_bytes, n_bytes));
    }
}

template <typename Count>
FASTHASH_INLINE void scan_any(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n_bytes,
                              const RowRange* ranges, std::size_t n_ranges, std::int32_t threshold, RowSink& sink) {
    switch (n_bytes) {
        case 8:
            return scan<Count, 8>(query, codes, n_bytes, ranges, n_ranges, threshold, sink);
        case 16:
            return scan<Count, 16>(query, codes, n_bytes, ranges, n_ranges, threshold, sink);
        case 32:
            return scan<Count, 32>(query, codes, n_bytes, ranges, n_ranges, threshold, sink);
        default:
            if (n_bytes < 8) return scan_short<Count>(query, codes, n_bytes, ranges, n_ranges, threshold, sink);
            return scan<Count, 0>(query, codes, n_bytes, ranges, n_ranges, threshold, sink);
    }
}

template <typename Count>
FASTHASH_INLINE void distances_any(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n,
                                   std::size_t n_bytes, std::uint16_t base, std::uint16_t* out) {
    switch (n_bytes) {
        case 1:
            return distances<Count, 1>(query, codes, n, n_bytes, base, out);
        case 2:
            return distances<Count, 2>(query, codes, n, n_bytes, base, out);
        case 8:
            return distances<Count, 8>(query, codes, n, n_bytes, base, out);
        case 16:
            return distances<Count, 16>(query, codes, n, n_bytes, base, out);
        case 32:
            return distances<Count, 32>(query, codes, n, n_bytes, base, out);
        default:
            return distances<Count, 0>(query, codes, n, n_bytes, base, out);
    }
}

}  // namespace rows

// Defines scan_rows and distances for one instruction set.
#define FASTHASH_ROW_KERNELS(TARGET, COUNT)                                                                         \
    TARGET void scan_rows(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n_bytes,                \
                          const RowRange* ranges, std::size_t n_ranges, std::int32_t threshold, RowSink& sink) {    \
        rows::scan_any<COUNT>(query, codes, n_bytes, ranges, n_ranges, threshold, sink);                            \
    }                                                                                                               \
    TARGET void distances(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::size_t n_bytes, \
                          std::uint16_t base, std::uint16_t* out) {                                                 \
        rows::distances_any<COUNT>(query, codes, n, n_bytes, base, out);                                            \
    }

}  // namespace fasthash
