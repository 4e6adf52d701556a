// Kernels over groups of codes in registers of 64 bytes, templates shared by both AVX-512 levels.
//
// Count has the way to count bits: kPrepared, the bytes of a prepared query for each of its bytes, and
// distances(group, prepared, b), the distances of byte b of the query to that byte of 64 codes. The including file
// defines AVX512, the target of its functions, and includes this inside its anonymous namespace.

AVX512_INLINE __m512i load(const void* p) { return _mm512_loadu_si512(p); }

AVX512_INLINE __m512i all_bytes(std::uint8_t value) { return _mm512_set1_epi8(static_cast<char>(value)); }

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

template <typename Count, std::size_t kBytes>
AVX512_INLINE __m512i group_sums(const std::uint8_t* group, const std::uint8_t* query, std::size_t any_bytes) {
    const std::size_t n_bytes = kBytes ? kBytes : any_bytes;
    __m512i sums = Count::distances(group, query, 0);
#pragma GCC unroll 16
    for (std::size_t b = 1; b < n_bytes; ++b) sums = _mm512_add_epi8(sums, Count::distances(group, query, b));
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
                sums[i] = group_sums<Count, kBytes>(group + i * group_bytes, query, n_bytes);
            }
            const __m512i least = _mm512_min_epu8(_mm512_min_epu8(sums[0], sums[1]), _mm512_min_epu8(sums[2], sums[3]));
            const __m512i threshold = _mm512_set1_epi8(static_cast<char>(scan.thresholds[q]));
            if (__builtin_expect(_mm512_cmplt_epu8_mask(least, threshold) == 0, 1)) continue;
            for (std::size_t i = 0; i < kTogether; ++i) give_narrow(scan, q, g + i, sums[i]);
        }
    }
    for (; g < scan.n_groups; ++g) {
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            const std::uint8_t* query = scan.prepared + q * n_bytes * Count::kPrepared;
            give_narrow(scan, q, g, group_sums<Count, kBytes>(scan.groups + g * group_bytes, query, n_bytes));
        }
    }
}

AVX512 __attribute__((noinline)) void give_wide(const GroupScan& scan, std::size_t q, std::size_t g, __mmask32 even,
                                                __mmask32 odd, __m512i even_sums, __m512i odd_sums) {
    std::uint16_t halves[2][kGroup / 2], distances[kGroup];
    _mm512_storeu_si512(halves[0], even_sums);
    _mm512_storeu_si512(halves[1], odd_sums);
    for (std::size_t i = 0; i < kGroup; ++i) distances[i] = halves[i % 2][i / 2];
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
                __m512i sums = Count::distances(group, query, b++);
                if (b + kBlock <= n_bytes + 1) {
#pragma GCC unroll 16
                    for (std::size_t i = 1; i < kBlock; ++i)
                        sums = _mm512_add_epi8(sums, Count::distances(group, query, b++));
                } else {
                    while (b < n_bytes) sums = _mm512_add_epi8(sums, Count::distances(group, query, b++));
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

template <typename Count>
AVX512_INLINE __m512i part_sums(const std::uint8_t* group, const std::uint8_t* prepared, const CodePart& part) {
    __m512i sums = _mm512_setzero_si512();
    for (std::size_t b = part.first_byte; b < part.first_byte + part.n_bytes; ++b) {
        sums = _mm512_add_epi8(sums, Count::distances(group, prepared, b));
    }
    return sums;
}

template <typename Count>
AVX512 void scan_parts(const PartScan& scan, TotalCount* counted) {
    const __m512i all = _mm512_set1_epi8(-1), zero = _mm512_setzero_si512();
    __m512i counts[2] = {zero, zero};
    for (const CodeRun* run = scan.runs; run != scan.runs + scan.n_runs; ++run) {
        std::size_t n_left = run->n_codes;
        for (std::size_t g = run->first_group; n_left > 0; ++g) {
            __m512i total = all_bytes(static_cast<std::uint8_t>(run->before));
            for (std::size_t p = 0; p < scan.n_parts; ++p) {
                const __m512i sums =
                    part_sums<Count>(scan.groups + g * kGroup * scan.n_bytes, scan.prepared, scan.parts[p]);
                total = _mm512_adds_epu8(total, sums);
                const __m512i judged = scan.alone ? sums : total;
                total = _mm512_mask_mov_epi8(total, _mm512_cmpgt_epu8_mask(judged, all_bytes(scan.parts[p].cut)), all);
            }
            if (n_left < kGroup) total = _mm512_mask_mov_epi8(total, ~std::uint64_t{0} << n_left, all);
            n_left -= n_left < kGroup ? n_left : kGroup;
            _mm512_storeu_si512(scan.totals + g * kGroup, total);
            if (counted == nullptr) continue;
            const __m512i weights =
                counted->weights == nullptr ? _mm512_set1_epi8(1) : load(counted->weights + g * kGroup);
            for (std::size_t i = 0; i < 2; ++i) {
                const __mmask64 within = _mm512_cmple_epu8_mask(total, all_bytes(counted->largest[i]));
                counts[i] = _mm512_add_epi64(counts[i], _mm512_sad_epu8(_mm512_maskz_mov_epi8(within, weights), zero));
            }
        }
    }
    if (counted == nullptr) return;
    for (std::size_t i = 0; i < 2; ++i) counted->counts[i] += sum_words(counts[i]);
}

AVX512 std::size_t count_at_most(const std::uint8_t* totals, std::size_t n_groups, std::uint8_t largest) {
    const __m512i ceiling = _mm512_set1_epi8(static_cast<char>(largest));
    std::uint64_t count = 0;
    for (std::size_t g = 0; g < n_groups; ++g) {
        const __mmask64 within = _mm512_cmple_epu8_mask(load(totals + g * kGroup), ceiling);
        count += static_cast<std::uint64_t>(__builtin_popcountll(within));
    }
    return count;
}

AVX512 std::uint64_t sum_at_most(const std::uint8_t* totals, const std::uint8_t* weights, std::size_t n_groups,
                                 std::uint8_t largest) {
    const __m512i ceiling = _mm512_set1_epi8(static_cast<char>(largest));
    __m512i sums = _mm512_setzero_si512();
    for (std::size_t g = 0; g < n_groups; ++g) {
        const __mmask64 within = _mm512_cmple_epu8_mask(load(totals + g * kGroup), ceiling);
        const __m512i counted = _mm512_maskz_loadu_epi8(within, weights + g * kGroup);
        sums = _mm512_add_epi64(sums, _mm512_sad_epu8(counted, _mm512_setzero_si512()));
    }
    return sum_words(sums);
}

AVX512 std::size_t find_between(const std::uint8_t* totals, std::size_t n_groups, std::uint8_t first, std::uint8_t last,
                                std::uint32_t* positions) {
    const __m512i base = _mm512_set1_epi8(static_cast<char>(first));
    const __m512i width = _mm512_set1_epi8(static_cast<char>(last - first));
    std::size_t count = 0;
    for (std::size_t g = 0; g < n_groups; ++g) {
        const __m512i offsets = _mm512_sub_epi8(load(totals + g * kGroup), base);
        for (std::uint64_t found = _mm512_cmple_epu8_mask(offsets, width); found != 0; found &= found - 1) {
            positions[count++] =
                static_cast<std::uint32_t>(g * kGroup) + static_cast<std::uint32_t>(__builtin_ctzll(found));
        }
    }
    return count;
}

using Words = std::uint64_t __attribute__((vector_size(64)));

AVX512 bool count_shared(const PlaneScan& scan) { return planes::count_shared<Words>(scan); }
