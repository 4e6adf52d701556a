// Comparisons by parts of codes in registers of 64 bytes, and kernels over their totals, shared by both AVX-512 levels.
//
// Count is that of avx512_groups.h, which the including file includes before this one, in the same way.

// Numbers of totals up to two distances, or sums of their weights; or which totals are up to one distance.
template <Counting kCounting>
class CountWithin {
 public:
    AVX512_INLINE CountWithin(const PartScan& scan, TotalCount* wanted)
        : wanted_(wanted), weights_(kCounting == Counting::weights ? wanted->weights : nullptr), found_(scan.found) {
        for (std::size_t i = 0; i < 2; ++i) {
            sums_[i] = bytes_[i] = _mm512_setzero_si512();
            largest_[i] = all_bytes(kCounts ? wanted->largest[i] : scan.largest_found);
        }
        if (kCounting == Counting::weights && wanted->most_weight > 0) most_in_bytes_ /= wanted->most_weight;
    }

    AVX512_INLINE void add(__m512i total, std::size_t group) {
        if (kCounting == Counting::found) *found_++ = _mm512_cmple_epu8_mask(total, largest_[0]);
        if (!kCounts) return;
        const bool weighed = kCounting == Counting::weights;
        const __m512i weights = weighed ? load(weights_ + group * kGroup) : _mm512_set1_epi8(1);
        for (std::size_t i = 0; i < 2; ++i) {
            const __mmask64 within = _mm512_cmple_epu8_mask(total, largest_[i]);
            bytes_[i] = _mm512_mask_add_epi8(bytes_[i], within, bytes_[i], weights);
            asm("" : "+v"(bytes_[i]));  // in one register: GCC copies it twice otherwise
        }
        if (++n_in_bytes_ == most_in_bytes_) end();
    }

    // Add what has been counted to the numbers wanted.
    AVX512_INLINE void finish() {
        if (!kCounts) return;
        end();
        for (std::size_t i = 0; i < 2; ++i) wanted_->counts[i] += sum_words(sums_[i]);
    }

 private:
    AVX512_INLINE void end() {
        for (std::size_t i = 0; i < 2; ++i) flush(i);
        n_in_bytes_ = 0;
    }
    AVX512_INLINE void flush(std::size_t i) {
        sums_[i] = _mm512_add_epi64(sums_[i], _mm512_sad_epu8(bytes_[i], _mm512_setzero_si512()));
        bytes_[i] = _mm512_setzero_si512();
    }

    static constexpr bool kCounts = kCounting == Counting::codes || kCounting == Counting::weights;

    TotalCount* wanted_;
    const std::uint8_t* const weights_;
    std::uint64_t* found_;
    __m512i largest_[2], sums_[2];
    __m512i bytes_[2];                                        // not yet in the sums
    std::size_t n_in_bytes_ = 0, most_in_bytes_ = UINT8_MAX;  // groups
};

// The totals, dropped where a distance is beyond the cut.
AVX512_INLINE __m512i drop_beyond(__m512i totals, __m512i distances, __m512i cut) {
    return _mm512_mask_mov_epi8(totals, _mm512_cmpgt_epu8_mask(distances, cut), _mm512_set1_epi8(-1));
}

// Adds the distances over one part to the totals, and drops what is beyond its cut.
AVX512_INLINE __m512i add_part(__m512i totals, __m512i sums, __m512i cut, bool by_part) {
    totals = _mm512_adds_epu8(totals, sums);
    return drop_beyond(totals, by_part ? sums : totals, cut);
}

// The parts of a comparison: any, or of kBytes bytes each, one after the other, which stay in registers.
template <typename Count, std::size_t... kBytes>
class Parts {
 public:
    static bool fit(const PartScan& scan) {
        if (scan.n_parts != kParts) return false;
        for (std::size_t p = 0, first = 0; p < kParts; first += kWidths[p++]) {
            if (scan.parts[p].first_byte != first || scan.parts[p].n_bytes != kWidths[p]) return false;
        }
        return true;
    }

    AVX512_INLINE explicit Parts(const PartScan& scan)
        : by_part_(scan.by_part), cuts_last_(scan.parts[kParts - 1].cut != kDropped) {
        for (std::size_t b = 0; b < kAllBytes; ++b) query_[b] = query_byte<Count>(scan.prepared, b);
        for (std::size_t p = 0; p < kParts; ++p) cut_[p] = all_bytes(scan.parts[p].cut);
    }
    AVX512_INLINE __m512i add(const std::uint8_t* group, __m512i totals) const {
        std::size_t b = 0;
#pragma GCC unroll 4
        for (std::size_t p = 0; p < kParts; ++p) {
            __m512i sums = byte_distances<Count>(group, query_[b], b);
            ++b;
#pragma GCC unroll 16
            for (std::size_t i = 1; i < kWidths[p]; ++i, ++b) {
                sums = _mm512_add_epi8(sums, byte_distances<Count>(group, query_[b], b));
            }
            const bool cuts = p + 1 < kParts || cuts_last_;  // what was dropped stays so
            totals = cuts ? add_part(totals, sums, cut_[p], by_part_) : _mm512_adds_epu8(totals, sums);
        }
        return totals;
    }

 private:
    static constexpr std::size_t kParts = sizeof...(kBytes), kAllBytes = (kBytes + ...), kWidths[kParts] = {kBytes...};

    const bool by_part_, cuts_last_;
    __m512i query_[kAllBytes], cut_[kParts];
};

template <typename Count>
class Parts<Count> {
 public:
    AVX512_INLINE explicit Parts(const PartScan& scan) : scan_(scan) {}
    AVX512_INLINE __m512i add(const std::uint8_t* group, __m512i totals) const {
        for (const CodePart* part = scan_.parts; part != scan_.parts + scan_.n_parts; ++part) {
            const __m512i sums = sums_of<Count, 0>(group, scan_.prepared, part->first_byte, part->n_bytes);
            totals = add_part(totals, sums, all_bytes(part->cut), scan_.by_part);
        }
        return totals;
    }

 private:
    const PartScan& scan_;
};

// The distances of a group before those of the parts.
template <bool kGoesOn>
AVX512_INLINE __m512i before_of(const std::uint8_t* totals, __m512i cut_before, __m512i of_run) {
    return kGoesOn ? drop_beyond(load(totals), load(totals), cut_before) : of_run;
}

// The comparison of one group after the other. kGoesOn: scan.goes_on.
template <typename Count, Counting kCounting, bool kGoesOn, std::size_t... kBytes>
class GroupTotals {
 public:
    AVX512_INLINE GroupTotals(const PartScan& scan, TotalCount* counted)
        : parts_(scan),
          counts_(scan, counted),
          groups_(scan.groups),
          group_bytes_(kGroup * scan.n_bytes),
          totals_(scan.totals),
          cut_before_(all_bytes(scan.cut_before)) {}
    AVX512_INLINE void add(std::size_t group, __m512i before) { store(compared(group, before), group); }
    // The same, of a group with fewer codes.
    AVX512_INLINE void add(std::size_t group, __m512i before, std::size_t n_codes) {
        const __mmask64 none = ~std::uint64_t{0} << n_codes;
        store(_mm512_mask_mov_epi8(compared(group, before), none, _mm512_set1_epi8(-1)), group);
    }
    AVX512_INLINE void finish() { counts_.finish(); }

 private:
    AVX512_INLINE __m512i compared(std::size_t group, __m512i before) const {
        return parts_.add(groups_ + group * group_bytes_, before_of<kGoesOn>(totals_, cut_before_, before));
    }
    AVX512_INLINE void store(__m512i totals, std::size_t group) {
        _mm512_storeu_si512(totals_, totals);
        totals_ += kGroup;
        counts_.add(totals, group);
    }

    const Parts<Count, kBytes...> parts_;
    CountWithin<kCounting> counts_;
    const std::uint8_t* groups_;
    const std::size_t group_bytes_;
    std::uint8_t* totals_;
    const __m512i cut_before_;
};

template <typename Count, Counting kCounting, bool kGoesOn, std::size_t... kBytes>
AVX512 void scan_parts_of(const PartScan& scan, TotalCount* counted) {
    GroupTotals<Count, kCounting, kGoesOn, kBytes...> totals(scan, counted);
    if (scan.list.n > 0) {
        const GroupList list = scan.list;
        const __m512i before = _mm512_setzero_si512();
        const std::size_t last = list.groups[list.n - 1], n_left = list.n_codes - last * kGroup;
        const std::size_t n_whole = list.n - (n_left < kGroup ? 1 : 0);
        for (std::size_t i = 0; i < n_whole; ++i) totals.add(list.groups[i], before);
        if (n_left < kGroup) totals.add(last, before, n_left);
        return totals.finish();
    }
    for (const CodeRun* run = scan.runs; run != scan.runs + scan.n_runs; ++run) {
        const __m512i before = all_bytes(static_cast<std::uint8_t>(run->before));
        std::size_t group = run->first_group;
        for (const std::size_t end = group + run->n_codes / kGroup; group < end; ++group) totals.add(group, before);
        const std::size_t n_left = run->n_codes % kGroup;
        if (n_left > 0) totals.add(group, before, n_left);
    }
    totals.finish();
}

template <typename Count, Counting kCounting>
void scan_parts_by_width(const PartScan& scan, TotalCount* counted) {
    if (scan.goes_on) {
        if (Parts<Count, 5>::fit(scan)) return scan_parts_of<Count, kCounting, true, 5>(scan, counted);
        return scan_parts_of<Count, kCounting, true>(scan, counted);
    }
    if (Parts<Count, 1>::fit(scan)) return scan_parts_of<Count, kCounting, false, 1>(scan, counted);
    if (Parts<Count, 2>::fit(scan)) return scan_parts_of<Count, kCounting, false, 2>(scan, counted);
    if (Parts<Count, 8>::fit(scan)) return scan_parts_of<Count, kCounting, false, 8>(scan, counted);
    if (Parts<Count, 1, 2>::fit(scan)) return scan_parts_of<Count, kCounting, false, 1, 2>(scan, counted);
    if (Parts<Count, 2, 5>::fit(scan)) return scan_parts_of<Count, kCounting, false, 2, 5>(scan, counted);
    if (Parts<Count, 1, 2, 5>::fit(scan)) return scan_parts_of<Count, kCounting, false, 1, 2, 5>(scan, counted);
    if (Parts<Count, 1, 2, 13>::fit(scan)) return scan_parts_of<Count, kCounting, false, 1, 2, 13>(scan, counted);
    if (Parts<Count, 1, 1, 1, 5>::fit(scan)) return scan_parts_of<Count, kCounting, false, 1, 1, 1, 5>(scan, counted);
    scan_parts_of<Count, kCounting, false>(scan, counted);
}

template <typename Count>
void scan_parts(const PartScan& scan, TotalCount* counted) {
    if (counted == nullptr && scan.found != nullptr) return scan_parts_by_width<Count, Counting::found>(scan, counted);
    if (counted == nullptr) return scan_parts_by_width<Count, Counting::none>(scan, counted);
    if (counted->weights == nullptr) return scan_parts_by_width<Count, Counting::codes>(scan, counted);
    scan_parts_by_width<Count, Counting::weights>(scan, counted);
}

// Adds the weights counted to sums of single places, or for each eighth of a group. kSmall: those of 64 groups fit a
// byte.
template <bool kSmall>
AVX512_INLINE void add_weights(__m512i& sums, __mmask64 counted, __m512i weights) {
    if (kSmall) {
        sums = _mm512_mask_add_epi8(sums, counted, sums, weights);
    } else {
        const __m512i of_group = _mm512_maskz_mov_epi8(counted, weights);
        sums = _mm512_add_epi64(sums, _mm512_sad_epu8(of_group, _mm512_setzero_si512()));
    }
    asm("" : "+v"(sums));  // in one register: GCC copies it twice otherwise, which takes 3 of 18 cycles a group
}

// kFirst, kSecond, kThird: the bytes of the parts; 0 for any. kCounted: n_counted. Hits wait until the query has been
// compared with all groups: without a call in the loop it stays in registers.
template <typename Count, std::size_t kFirst, std::size_t kSecond, std::size_t kThird, std::size_t kCounted,
          bool kSmall>
AVX512_INLINE void scan_three_parts_for(const ThreePartScan& scan, ThreePartQuery& query) {
    constexpr std::size_t kAllBytes = kFirst + kSecond + kThird, kMost = ThreePartScan::kMostGroups;
    const std::size_t n_bytes = kFirst ? kAllBytes : scan.n_bytes;
    const std::size_t first_bytes = kFirst ? kFirst : scan.first_bytes;
    const std::size_t two_parts = first_bytes + (kFirst ? kSecond : scan.second_bytes);
    __m512i bytes[kFirst ? kAllBytes : kMostPartBytes], sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 16
    for (std::size_t b = 0; b < n_bytes; ++b) bytes[b] = query_byte<Count>(query.prepared, b);
    const __m512i first_cut = all_bytes(query.first_cut), threshold = all_bytes(query.threshold);
    const __m512i largest[2] = {all_bytes(query.largest[0]), all_bytes(query.largest[1])};
    std::uint64_t rows_of[kMost];
    std::uint8_t group_of[kMost], prefix_totals_of[kMost][kGroup], totals_of[kMost][kGroup];
    std::size_t n_hit = 0;
    for (std::uint64_t left = query.wanted; left != 0; left &= left - 1) {
        const auto g = static_cast<std::size_t>(__builtin_ctzll(left));
        const std::uint8_t* group = scan.groups + g * kGroup * n_bytes;
        __m512i firsts = byte_distances<Count>(group, bytes[0], 0);
#pragma GCC unroll 16
        for (std::size_t b = 1; b < first_bytes; ++b) {
            firsts = _mm512_add_epi8(firsts, byte_distances<Count>(group, bytes[b], b));
        }
        const __mmask64 near = _mm512_cmple_epu8_mask(firsts, first_cut);
        __m512i prefix_totals = firsts;
#pragma GCC unroll 16
        for (std::size_t b = first_bytes; b < two_parts; ++b) {
            prefix_totals = _mm512_add_epi8(prefix_totals, byte_distances<Count>(group, bytes[b], b));
        }
        const __m512i weights = load(scan.weights + g * kGroup);
        for (std::size_t i = 0; i < kCounted; ++i) {
            add_weights<kSmall>(sums[i], _mm512_mask_cmple_epu8_mask(near, prefix_totals, largest[i]), weights);
        }
        __m512i totals = prefix_totals;
#pragma GCC unroll 16
        for (std::size_t b = two_parts; b < n_bytes; ++b) {
            totals = _mm512_add_epi8(totals, byte_distances<Count>(group, bytes[b], b));
        }
        const __mmask64 rows = _mm512_mask_cmple_epu8_mask(near, totals, threshold);
        if (__builtin_expect(rows == 0, 1)) continue;
        rows_of[n_hit] = rows;
        group_of[n_hit] = static_cast<std::uint8_t>(g);
        _mm512_storeu_si512(prefix_totals_of[n_hit], prefix_totals);
        _mm512_storeu_si512(totals_of[n_hit++], totals);
    }
    for (std::size_t i = 0; i < kCounted; ++i) {
        if (kSmall) sums[i] = _mm512_sad_epu8(sums[i], _mm512_setzero_si512());
        _mm512_storeu_si512(query.counts[i], _mm512_add_epi64(load(query.counts[i]), sums[i]));
    }
    for (std::size_t i = 0; i < n_hit; ++i) {
        scan.sink->take(query, group_of[i], rows_of[i], prefix_totals_of[i], totals_of[i]);
    }
}

template <typename Count, std::size_t kFirst, std::size_t kSecond, std::size_t kThird, std::size_t kCounted>
AVX512 void scan_three_parts_counting(const ThreePartScan& scan) {
    const bool small = scan.most_weight * ThreePartScan::kMostGroups <= UINT8_MAX;
    for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
        ThreePartQuery& query = *scan.queries[slot];
        if (small) {
            scan_three_parts_for<Count, kFirst, kSecond, kThird, kCounted, true>(scan, query);
        } else {
            scan_three_parts_for<Count, kFirst, kSecond, kThird, kCounted, false>(scan, query);
        }
    }
}

template <typename Count, std::size_t kFirst, std::size_t kSecond, std::size_t kThird>
void scan_three_parts_of(const ThreePartScan& scan) {
    if (scan.n_counted == 1) return scan_three_parts_counting<Count, kFirst, kSecond, kThird, 1>(scan);
    scan_three_parts_counting<Count, kFirst, kSecond, kThird, 2>(scan);
}

template <typename Count>
void scan_three_parts(const ThreePartScan& scan) {
    const bool usual = scan.first_bytes == 1 && scan.second_bytes == 2 && scan.n_bytes == 8;
    if (usual) return scan_three_parts_of<Count, 1, 2, 5>(scan);
    scan_three_parts_of<Count, 0, 0, 0>(scan);
}

AVX512 std::size_t count_at_most(const std::uint8_t* totals, std::size_t n_groups, std::uint8_t largest) {
    constexpr std::size_t kRounds = 255;  // whose counts fit a byte
    const __m512i ceiling = all_bytes(largest), one = _mm512_set1_epi8(-1);
    __m512i sums = _mm512_setzero_si512();
    while (n_groups > 0) {
        const std::size_t n = n_groups < kRounds ? n_groups : kRounds;
        __m512i counts = _mm512_setzero_si512();
        for (std::size_t g = 0; g < n; ++g) {
            const __mmask64 within = _mm512_cmple_epu8_mask(load(totals + g * kGroup), ceiling);
            counts = _mm512_mask_sub_epi8(counts, within, counts, one);
        }
        sums = _mm512_add_epi64(sums, _mm512_sad_epu8(counts, _mm512_setzero_si512()));
        totals += n * kGroup;
        n_groups -= n;
    }
    return sum_words(sums);
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
    constexpr std::size_t kAtOnce = 64;
    const __m512i base = all_bytes(first), width = all_bytes(static_cast<std::uint8_t>(last - first));
    std::size_t count = 0;
    for (std::size_t begin = 0; begin < n_groups; begin += kAtOnce) {
        // Which groups have one can hardly be predicted, so that there is no branch.
        std::uint64_t found[kAtOnce];
        std::uint32_t first_position[kAtOnce];
        std::size_t n = 0;
        for (std::size_t g = begin; g < n_groups && g < begin + kAtOnce; ++g) {
            found[n] = _mm512_cmple_epu8_mask(_mm512_sub_epi8(load(totals + g * kGroup), base), width);
            first_position[n] = static_cast<std::uint32_t>(g * kGroup);
            n += found[n] != 0 ? 1 : 0;
        }
        for (std::size_t i = 0; i < n; ++i) {
            std::uint64_t left = found[i];
            do {
                positions[count++] = first_position[i] + static_cast<std::uint32_t>(__builtin_ctzll(left));
                left &= left - 1;
            } while (left != 0);
        }
    }
    return count;
}
