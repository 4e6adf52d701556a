// Scans of groups of codes in registers of 64 bytes, templates shared by both AVX-512 levels.
//
// Count has the way to count bits: set_bits(bytes), the numbers of bits that 64 bytes set, and kPrepared, the bytes of
// a prepared query for each of its bytes, which begin with that byte repeated eight times. The including file defines
// AVX512, the target of its functions, and includes this inside its anonymous namespace.

AVX512_INLINE __m512i load(const void* p) { return _mm512_loadu_si512(p); }

AVX512_INLINE __m512i all_bytes(std::uint8_t value) { return _mm512_set1_epi8(static_cast<char>(value)); }

// Byte b of the query, repeated by one broadcast load.
template <typename Count>
AVX512_INLINE __m512i query_byte(const std::uint8_t* prepared, std::size_t b) {
    long long word;
    std::memcpy(&word, prepared + b * Count::kPrepared, sizeof word);
    return _mm512_set1_epi64(word);
}

// Distances of byte b of the query to that byte of 64 codes.
template <typename Count>
AVX512_INLINE __m512i byte_distances(const std::uint8_t* group, __m512i query, std::size_t b) {
    return Count::set_bits(_mm512_xor_si512(load(group + b * kGroup), query));
}

template <typename Count>
AVX512_INLINE __m512i byte_distances(const std::uint8_t* group, const std::uint8_t* prepared, std::size_t b) {
    return byte_distances<Count>(group, query_byte<Count>(prepared, b), b);
}

AVX512_INLINE std::uint64_t sum_words(__m512i words) {
    std::uint64_t each[8], sum = 0;
    _mm512_storeu_si512(each, words);
    for (const std::uint64_t one : each) sum += one;
    return sum;
}

AVX512 __attribute__((noinline)) void give_narrow(const GroupScan& scan, std::size_t q, std::size_t g, __m512i sums) {
    const __m512i threshold = _mm512_set1_epi8(static_cast<char>(scan.thresholds[q]));  // re-read: it may have fallen
    const __mmask64 rows = _mm512_cmplt_epu8_mask(sums, threshold);
    if (rows == 0) return;
    std::uint8_t bytes[kGroup];
    std::uint16_t distances[kGroup];
    _mm512_storeu_si512(bytes, sums);
    for (std::size_t i = 0; i < kGroup; ++i) distances[i] = bytes[i];
    scan.sink->take(q, g, rows, distances);
}

// Distances over some bytes. kBytes: their number, or 0 for any.
template <typename Count, std::size_t kBytes>
AVX512_INLINE __m512i sums_of(const std::uint8_t* group, const std::uint8_t* prepared, std::size_t first,
                              std::size_t any_bytes) {
    const std::size_t n_bytes = kBytes ? kBytes : any_bytes;
    __m512i sums = byte_distances<Count>(group, prepared, first);
#pragma GCC unroll 16
    for (std::size_t b = 1; b < n_bytes; ++b)
        sums = _mm512_add_epi8(sums, byte_distances<Count>(group, prepared, first + b));
    return sums;
}

// Codes of up to 31 bytes, whose distances fit a byte, from group g on. kBytes: the width, or 0 for any. Four groups
// share one comparison, since codes within the threshold are rare.
template <typename Count, std::size_t kBytes>
AVX512_INLINE void scan_narrow(const GroupScan& scan, std::size_t g = 0) {
    constexpr std::size_t kTogether = 4;
    const std::size_t n_bytes = kBytes ? kBytes : scan.n_bytes;
    const std::size_t group_bytes = kGroup * n_bytes;
    for (; g + kTogether <= scan.n_groups; g += kTogether) {
        const std::uint8_t* group = scan.groups + g * group_bytes;
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            const std::uint8_t* query = scan.prepared + q * n_bytes * Count::kPrepared;
            __m512i sums[kTogether];
#pragma GCC unroll 4
            for (std::size_t i = 0; i < kTogether; ++i) {
                if (slot == 0) prefetch_ahead(group + i * group_bytes, group_bytes, scan.n_queries);
                sums[i] = sums_of<Count, kBytes>(group + i * group_bytes, query, 0, n_bytes);
            }
            const __m512i least = _mm512_min_epu8(_mm512_min_epu8(sums[0], sums[1]), _mm512_min_epu8(sums[2], sums[3]));
            const __m512i threshold = _mm512_set1_epi8(static_cast<char>(scan.thresholds[q]));
            if (__builtin_expect(_mm512_cmplt_epu8_mask(least, threshold) == 0, 1)) continue;
#pragma GCC unroll 4
            for (std::size_t i = 0; i < kTogether; ++i) {
                if (_mm512_cmplt_epu8_mask(sums[i], threshold) != 0) give_narrow(scan, q, g + i, sums[i]);
            }
        }
    }
    for (; g < scan.n_groups; ++g) {
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            const std::uint8_t* query = scan.prepared + q * n_bytes * Count::kPrepared;
            give_narrow(scan, q, g, sums_of<Count, kBytes>(scan.groups + g * group_bytes, query, 0, n_bytes));
        }
    }
}

AVX512 __attribute__((noinline)) void give_wide(const GroupScan& scan, std::size_t q, std::size_t g, __mmask32 even,
                                                __mmask32 odd, __m512i even_sums, __m512i odd_sums) {
    std::uint16_t two_parts[2][kGroup / 2], distances[kGroup];
    _mm512_storeu_si512(two_parts[0], even_sums);
    _mm512_storeu_si512(two_parts[1], odd_sums);
    for (std::size_t i = 0; i < kGroup; ++i) distances[i] = two_parts[i % 2][i / 2];
    const std::uint64_t rows = _pdep_u64(even, 0x5555555555555555u) | _pdep_u64(odd, 0xaaaaaaaaaaaaaaaau);
    scan.sink->take(q, g, rows, distances);
}

// Codes of 32 bytes and more: 16-bit distances, of even and odd rows apart. A query leaves a group as soon as none of
// its codes can come within the threshold.
template <typename Count, std::size_t kBytes>
AVX512_INLINE void scan_wide(const GroupScan& scan, std::size_t g = 0) {
    const std::size_t n_bytes = kBytes ? kBytes : scan.n_bytes;
    constexpr std::size_t kBlock = 16;
    const __m512i low = _mm512_set1_epi16(0xff);
    for (; g < scan.n_groups; ++g) {
        const std::uint8_t* group = scan.groups + g * kGroup * n_bytes;
        prefetch_ahead(group, kGroup * n_bytes, scan.n_queries);
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            const std::uint8_t* query = scan.prepared + q * n_bytes * Count::kPrepared;
            const __m512i threshold = _mm512_set1_epi16(static_cast<short>(scan.thresholds[q]));
            __m512i even_sums = _mm512_setzero_si512(), odd_sums = even_sums;
            __mmask32 even = 0, odd = 0;
            std::size_t b = 0;
            while (b < n_bytes) {
                __m512i sums = byte_distances<Count>(group, query, b++);
                if (b + kBlock <= n_bytes + 1) {
#pragma GCC unroll 16
                    for (std::size_t i = 1; i < kBlock; ++i)
                        sums = _mm512_add_epi8(sums, byte_distances<Count>(group, query, b++));
                } else {
                    while (b < n_bytes) sums = _mm512_add_epi8(sums, byte_distances<Count>(group, query, b++));
                }
                even_sums = _mm512_add_epi16(even_sums, _mm512_and_si512(sums, low));
                odd_sums = _mm512_add_epi16(odd_sums, _mm512_srli_epi16(sums, 8));
                even = _mm512_cmplt_epu16_mask(even_sums, threshold);
                odd = _mm512_cmplt_epu16_mask(odd_sums, threshold);
                if ((even | odd) == 0) break;
            }
            if (__builtin_expect((even | odd) != 0, 0)) give_wide(scan, q, g, even, odd, even_sums, odd_sums);
        }
    }
}

template <typename Count, std::size_t kBytes>
AVX512 void scan_narrow_of(const GroupScan& scan) {
    scan_narrow<Count, kBytes>(scan);
}

template <typename Count>
AVX512 void scan_wide_of(const GroupScan& scan) {
    scan_wide<Count, 0>(scan);
}

template <typename Count>
void scan_groups(const GroupScan& scan) {
    switch (scan.n_bytes) {
        case 1:
            return scan_narrow_of<Count, 1>(scan);
        case 2:
            return scan_narrow_of<Count, 2>(scan);
        case 4:
            return scan_narrow_of<Count, 4>(scan);
        case 8:
            return scan_narrow_of<Count, 8>(scan);
        case 12:
            return scan_narrow_of<Count, 12>(scan);
        case 16:
            return scan_narrow_of<Count, 16>(scan);
        case 24:
            return scan_narrow_of<Count, 24>(scan);
        default:
            return scan.n_bytes < 32 ? scan_narrow_of<Count, 0>(scan) : scan_wide_of<Count>(scan);
    }
}

using Words = std::uint64_t __attribute__((vector_size(64)));

AVX512 bool count_shared(const PlaneScan& scan) { return planes::count_shared<Words>(scan); }
