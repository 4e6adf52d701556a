// AVX-512 kernels (VPOPCNTDQ, BITALG; Intel since Ice Lake, AMD since Zen 4): count the bits of 64 bytes at once.
#include "kernels/planes.h"
#include "kernels/rows.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define AVX512 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,avx512bitalg,popcnt,bmi,bmi2")))
#define AVX512_INLINE AVX512 inline __attribute__((always_inline))

namespace fasthash {
namespace {

#include "kernels/avx512_groups.h"
#include "kernels/avx512_totals.h"

struct Popcount {
    static constexpr std::size_t kPrepared = 8;

    // Repeats every query byte eight times, so that one broadcast load fills a register with it.
    static void prepare(const std::uint8_t* query, std::size_t n_bytes, std::uint8_t* prepared) {
        for (std::size_t b = 0; b < n_bytes; ++b) std::memset(prepared + b * kPrepared, query[b], kPrepared);
    }
    static AVX512_INLINE __m512i set_bits(__m512i bytes) { return _mm512_popcnt_epi8(bytes); }
};

// Rows of 64-bit codes, eight per register.
AVX512 void scan_rows_8(const std::uint8_t* query, const std::uint8_t* codes, const RowRange* ranges,
                        std::size_t n_ranges, std::int32_t first_threshold, RowSink& sink) {
    long long word;
    std::memcpy(&word, query, 8);
    const __m512i wanted = _mm512_set1_epi64(word);
    rows::HitBuffer buffer(first_threshold, sink);
    __m512i threshold = _mm512_set1_epi64(buffer.threshold);
    for (std::size_t r = 0; r < n_ranges; ++r) {
        for (std::size_t row = ranges[r].begin; row < ranges[r].end; row += 8) {
            const std::size_t n_left = ranges[r].end - row;
            const auto valid = static_cast<__mmask8>(n_left < 8 ? (1u << n_left) - 1 : 0xff);
            const __m512i flips = _mm512_xor_si512(_mm512_maskz_loadu_epi64(valid, codes + row * 8), wanted);
            const __m512i sums = _mm512_popcnt_epi64(flips);
            unsigned within = _mm512_mask_cmple_epi64_mask(valid, sums, threshold);
            if (__builtin_expect(within == 0, 1)) continue;
            std::int64_t distances[8];
            _mm512_storeu_si512(distances, sums);
            for (; within != 0; within &= within - 1) {
                const int i = __builtin_ctz(within);
                buffer.push(static_cast<std::uint32_t>(row) + static_cast<std::uint32_t>(i),
                            static_cast<std::int32_t>(distances[i]));
            }
            threshold = _mm512_set1_epi64(buffer.threshold);
        }
        if (buffer.end_range()) threshold = _mm512_set1_epi64(buffer.threshold);
    }
}

AVX512 void scan_rows(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n_bytes, const RowRange* ranges,
                      std::size_t n_ranges, std::int32_t threshold, RowSink& sink) {
    if (n_bytes == 8) return scan_rows_8(query, codes, ranges, n_ranges, threshold, sink);
    rows::scan_any<rows::Builtin>(query, codes, n_bytes, ranges, n_ranges, threshold, sink);
}

AVX512_INLINE __mmask32 first_of(std::size_t n) { return n < 32 ? (1u << n) - 1 : ~0u; }

// Distances of 16-bit keys, a common width of HDHash's levels.
AVX512 void distances_2(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::uint16_t base,
                        std::uint16_t* out) {
    std::uint16_t word;
    std::memcpy(&word, query, 2);
    const __m512i wanted = _mm512_set1_epi16(static_cast<short>(word));
    const __m512i bases = _mm512_set1_epi16(static_cast<short>(base));
    for (std::size_t i = 0; i < n; i += 32) {
        const __mmask32 valid = first_of(n - i);
        const __m512i flips = _mm512_xor_si512(_mm512_maskz_loadu_epi16(valid, codes + i * 2), wanted);
        _mm512_mask_storeu_epi16(out + i, valid, _mm512_add_epi16(_mm512_popcnt_epi16(flips), bases));
    }
}

AVX512 void distances(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::size_t n_bytes,
                      std::uint16_t base, std::uint16_t* out) {
    if (n_bytes == 2) return distances_2(query, codes, n, base, out);
    rows::distances_any<rows::Builtin>(query, codes, n, n_bytes, base, out);
}

}  // namespace

const Kernels* avx512_kernels() {
    static constexpr Kernels table = {
        SimdLevel::avx512,     96,          224,          Popcount::kPrepared,  Popcount::prepare,
        scan_groups<Popcount>, scan_rows,   distances,    scan_parts<Popcount>, scan_three_parts<Popcount>,
        count_at_most,         sum_at_most, find_between, count_shared};
    return &table;
}

}  // namespace fasthash

#else

namespace fasthash {
const Kernels* avx512_kernels() { return nullptr; }
}  // namespace fasthash

#endif
