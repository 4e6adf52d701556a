// Kernels over the distances of groups and the totals of PartScan, shared by some instruction sets.
//
// Used where vectors have 16 bytes: portable code and NEON. Vectors are those of the compiler.
#pragma once

#include "kernels/rows.h"

namespace fasthash::totals {

constexpr std::size_t kVector = 16;
using Bytes = std::uint8_t __attribute__((vector_size(kVector)));
using Words = std::uint16_t __attribute__((vector_size(kVector)));

FASTHASH_INLINE Bytes load(const std::uint8_t* values) {
    Bytes bytes;
    std::memcpy(&bytes, values, sizeof bytes);
    return bytes;
}

/// Hand the codes of a group below a query's threshold to the sink, whose distances are all known.
inline void give(const GroupScan& scan, std::size_t q, std::size_t g, const std::uint16_t* distances) {
    std::uint64_t rows = 0;
    for (std::size_t i = 0; i < kGroup; ++i) rows |= std::uint64_t{distances[i] < scan.thresholds[q]} << i;
    scan.sink->take(q, g, rows, distances);
}

inline std::size_t count_at_most(const std::uint8_t* values, std::size_t n_groups, std::uint8_t largest) {
    constexpr std::size_t kRounds = 63;  // of four vectors, whose counts fit a byte
    std::size_t count = 0;
    while (n_groups > 0) {
        const std::size_t n = n_groups < kRounds ? n_groups : kRounds;
        Bytes counts = {};
        for (std::size_t i = 0; i < n * kGroup; i += kVector) counts -= (Bytes)(load(values + i) <= largest);
        for (std::size_t i = 0; i < kVector; ++i) count += counts[i];
        values += n * kGroup;
        n_groups -= n;
    }
    return count;
}

inline std::uint64_t sum_at_most(const std::uint8_t* values, const std::uint8_t* weights, std::size_t n_groups,
                                 std::uint8_t largest) {
    constexpr std::size_t kRounds = 32;  // of eight bytes, whose sums fit a word
    std::uint64_t sum = 0;
    while (n_groups > 0) {
        const std::size_t n = n_groups < kRounds ? n_groups : kRounds;
        Words sums = {};
        for (std::size_t i = 0; i < n * kGroup; i += kVector) {
            const Words pairs = (Words)(load(weights + i) & (Bytes)(load(values + i) <= largest));
            sums += (pairs & 0xff) + (pairs >> 8);
        }
        for (std::size_t i = 0; i < kVector / 2; ++i) sum += sums[i];
        values += n * kGroup;
        weights += n * kGroup;
        n_groups -= n;
    }
    return sum;
}

inline std::size_t find_between(const std::uint8_t* values, std::size_t n_groups, std::uint8_t first, std::uint8_t last,
                                std::uint32_t* positions) {
    const auto width = static_cast<std::uint8_t>(last - first);
    std::size_t count = 0;
    for (std::size_t i = 0; i < n_groups * kGroup; i += kVector) {
        const Bytes between = (Bytes)(load(values + i) - first <= width);
        std::uint64_t words[kVector / 8];
        std::memcpy(words, &between, sizeof words);
        for (std::size_t w = 0; w < kVector / 8; ++w) {
            while (words[w] != 0) {
                const auto byte = static_cast<std::uint32_t>(__builtin_ctzll(words[w])) / 8;
                words[w] &= ~(std::uint64_t{0xff} << 8 * byte);
                positions[count++] = static_cast<std::uint32_t>(i + 8 * w) + byte;
            }
        }
    }
    return count;
}

/// Bit i: whether value i of a group is at most `largest`.
inline std::uint64_t within(const std::uint8_t* values, std::uint8_t largest) {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < kGroup; ++i) bits |= std::uint64_t{values[i] <= largest} << i;
    return bits;
}

/// Distances provides static of(group, prepared, n_bytes, distances): those of the 64 codes of a group over some bytes.
template <typename Distances>
void scan_group(const PartScan& scan, std::size_t prepared_bytes, const CodeRun& run, std::size_t g,
                std::uint8_t* totals) {
    if (scan.goes_on) {
        for (std::size_t i = 0; i < kGroup; ++i) totals[i] = totals[i] > scan.cut_before ? kDropped : totals[i];
    } else {
        std::memset(totals, static_cast<std::uint8_t>(run.before), kGroup);
    }
    for (std::size_t p = 0; p < scan.n_parts; ++p) {
        const CodePart& part = scan.parts[p];
        std::uint8_t distances[kGroup];
        Distances::of(scan.groups + (g * scan.n_bytes + part.first_byte) * kGroup,
                      scan.prepared + part.first_byte * prepared_bytes, part.n_bytes, distances);
        for (std::size_t i = 0; i < kGroup; i += kVector) {
            const Bytes here = load(distances + i), before = load(totals + i);
            Bytes total = before + here;
            total |= (Bytes)(total < before);  // an overflow: the code was dropped before
            total |= (Bytes)((scan.by_part ? here : total) > part.cut);
            std::memcpy(totals + i, &total, sizeof total);
        }
    }
    const std::size_t n = run.n_codes - (g - run.first_group) * kGroup;  // left from this group on
    if (n < kGroup) std::memset(totals + n, kDropped, kGroup - n);
}

template <typename Distances>
void scan_parts(const PartScan& scan, std::size_t prepared_bytes, TotalCount* count) {
    std::uint8_t* totals = scan.totals;
    std::uint64_t* found = scan.found;
    const std::size_t n_runs = scan.list.n > 0 ? scan.list.n : scan.n_runs;
    for (std::size_t r = 0; r < n_runs; ++r) {
        const CodeRun run = scan.list.n > 0 ? scan.list.run(r) : scan.runs[r];
        const std::size_t n_groups = groups_of(run);
        for (std::size_t g = 0; g < n_groups; ++g) {
            scan_group<Distances>(scan, prepared_bytes, run, run.first_group + g, totals + g * kGroup);
        }
        const std::uint8_t* of_run = totals;
        totals += n_groups * kGroup;
        for (const std::uint8_t* group = of_run; count == nullptr && found != nullptr && group < totals;
             group += kGroup) {
            *found++ = within(group, scan.largest_found);
        }
        if (count == nullptr) continue;
        const std::size_t first = run.first_group * kGroup;
        for (std::size_t i = 0; i < 2; ++i) {
            count->counts[i] += count->weights == nullptr
                                    ? count_at_most(of_run, n_groups, count->largest[i])
                                    : sum_at_most(of_run, count->weights + first, n_groups, count->largest[i]);
        }
    }
}

template <typename Distances>
void scan_three_parts_of_group(const ThreePartScan& scan, std::size_t prepared_bytes, std::size_t g,
                               ThreePartQuery& query) {
    std::uint8_t prefix_totals[kGroup], totals[kGroup];
    const auto compare = [&](std::size_t first_byte, std::size_t n_bytes, std::uint8_t* distances) {
        Distances::of(scan.groups + (g * scan.n_bytes + first_byte) * kGroup,
                      query.prepared + first_byte * prepared_bytes, n_bytes, distances);
    };
    compare(0, scan.first_bytes, prefix_totals);
    compare(scan.first_bytes, scan.second_bytes, totals);
    for (std::size_t i = 0; i < kGroup; ++i) {
        const auto total = static_cast<std::uint8_t>(prefix_totals[i] + totals[i]);
        prefix_totals[i] = prefix_totals[i] <= query.first_cut ? total : kDropped;
    }
    for (std::size_t j = 0; j < scan.n_counted; ++j) {
        query.counts[j][0] += sum_at_most(prefix_totals, scan.weights + g * kGroup, 1, query.largest[j]);
    }
    const std::size_t two_parts = scan.first_bytes + scan.second_bytes;
    compare(two_parts, scan.n_bytes - two_parts, totals);
    std::uint64_t rows = 0;
    for (std::size_t i = 0; i < kGroup; ++i) {
        const unsigned total =
            unsigned{prefix_totals[i]} + totals[i];  // larger than a threshold if the code was dropped
        totals[i] = static_cast<std::uint8_t>(total);
        rows |= std::uint64_t{total <= query.threshold} << i;
    }
    if (rows != 0) scan.sink->take(query, g, rows, prefix_totals, totals);
}

template <typename Distances>
void scan_three_parts(const ThreePartScan& scan, std::size_t prepared_bytes) {
    for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
        ThreePartQuery& query = *scan.queries[slot];
        for (std::uint64_t left = query.wanted; left != 0; left &= left - 1) {
            const auto g = static_cast<std::size_t>(__builtin_ctzll(left));
            scan_three_parts_of_group<Distances>(scan, prepared_bytes, g, query);
        }
    }
}

}  // namespace fasthash::totals
