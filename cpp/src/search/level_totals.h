// Distances between a query and groups of prefixes, added up level by level; prefixes beyond the cut of a level are
// dropped.
//
// Used by the pruned search, for the nodes of a level and for codes. Two forms: bytes, by kernels, for trees whose
// prefixes have at most kMostPartBytes; 16-bit numbers, in plain loops, for wider ones.
#pragma once

#include <algorithm>
#include <cstdint>

#include "codes/code_bits.h"
#include "fasthash/codes.h"
#include "kernels/kernels.h"

namespace fasthash {

/// Runs of byte-major codes or prefixes, one query, and the levels to compare.
struct LevelScan {
    const std::uint8_t* prepared;  ///< the whole query, prepared by Kernels::prepare
    const std::uint8_t* groups;    ///< these hold the bytes from first_level on
    std::size_t n_bytes;           ///< of each code or prefix there
    const CodeRun* runs;
    std::size_t n_runs;
    const LevelLayout& layout;
    std::size_t first_level, end_level;
    const std::uint16_t* cuts;  ///< of each level from 0 on
    bool by_level;              ///< whether cuts apply to the distance on one level, else to the total so far
    bool goes_on = false;       ///< whether the totals hold those over the levels before first_level, with the cut of
                                ///< the last one still to apply; never if totals are wide
    // Never if totals are wide:
    GroupList list = {nullptr, 0, 0};  ///< if not empty, taken in place of the runs
    std::uint64_t* found = nullptr;    ///< if not null, set for each group: bit i if total i is at most largest_found
    std::size_t largest_found = 0;
};

/// Which cut drops a code, if one does.
struct LevelCuts {
    const LevelLayout& layout;
    const std::uint16_t* cuts;
    std::size_t n_levels;
    bool by_level;  ///< see LevelScan

    /// The first level whose cut code i of a byte-major group of whole codes is beyond; n_levels if there is none.
    /// `total` is set to its distance over the levels up to that one.
    std::size_t first_beyond(const std::uint8_t* query, const std::uint8_t* group, std::size_t i,
                             unsigned& total) const {
        total = 0;
        for (std::size_t depth = 0; depth < n_levels; ++depth) {
            unsigned on_level = 0;
            const std::size_t end = layout.offset(depth + 1);
            for (std::size_t byte = layout.offset(depth); byte < end; ++byte) {
                on_level += kByteCounts.of[query[byte] ^ group[byte * kGroup + i]];
            }
            total += on_level;
            if ((by_level ? on_level : total) > cuts[depth]) return depth;
        }
        return n_levels;
    }
};

struct NarrowTotals {
    using Value = std::uint8_t;
    static constexpr Value kDropped = fasthash::kDropped;

    /// Set the totals of the runs, one run after the other, or with `goes_on` add to them, and count them unless
    /// `count` is null.
    static void scan(const LevelScan& levels, Value* totals, TotalCount* count = nullptr) {
        CodePart parts[kMostPartBytes];
        const std::size_t first_byte = levels.layout.offset(levels.first_level);
        std::size_t n_parts = 0;
        for (std::size_t d = levels.first_level; d < levels.end_level; ++d) {
            parts[n_parts++] = {levels.layout.offset(d) - first_byte, levels.layout.level_bytes(d),
                                narrow(levels.cuts[d])};
        }
        kernels().scan_parts({levels.prepared + first_byte * kernels().prepared_bytes, levels.groups, levels.n_bytes,
                              levels.runs, levels.n_runs, parts, n_parts, levels.by_level, totals, levels.goes_on,
                              levels.goes_on ? narrow(levels.cuts[levels.first_level - 1]) : kDropped, levels.list,
                              levels.found, below_dropped(levels.largest_found)},
                             count);
    }
    static std::size_t count_at_most(const Value* totals, std::size_t n_groups, std::size_t largest) {
        return kernels().count_at_most(totals, n_groups, below_dropped(largest));
    }
    static std::uint64_t sum_at_most(const Value* totals, const std::uint8_t* weights, std::size_t n_groups,
                                     std::size_t largest) {
        return kernels().sum_at_most(totals, weights, n_groups, below_dropped(largest));
    }
    /// The positions of the totals in least .. largest. least < kDropped.
    static std::size_t find(const Value* totals, std::size_t n_groups, std::size_t least, std::size_t largest,
                            std::uint32_t* positions) {
        return kernels().find_between(totals, n_groups, static_cast<Value>(least), below_dropped(largest), positions);
    }

 private:
    static Value narrow(std::uint16_t cut) { return static_cast<Value>(std::min<std::uint16_t>(cut, kDropped)); }
    static Value below_dropped(std::size_t largest) {
        return static_cast<Value>(std::min<std::size_t>(largest, kDropped - 1));
    }
};

struct WideTotals {
    using Value = std::uint16_t;
    static constexpr Value kDropped = UINT16_MAX;

    static void scan(const LevelScan& levels, Value* totals, TotalCount* count = nullptr) {
        for (std::size_t r = 0; r < levels.n_runs; ++r) {
            const CodeRun& run = levels.runs[r];
            const std::size_t n_groups = groups_of(run), first = run.first_group * kGroup;
            for (std::size_t g = 0; g < n_groups; ++g) scan_group(levels, run, g, totals + g * kGroup);
            for (std::size_t i = 0; count != nullptr && i < 2; ++i) {
                const std::size_t largest = count->largest[i];
                count->counts[i] += count->weights == nullptr
                                        ? count_at_most(totals, n_groups, largest)
                                        : sum_at_most(totals, count->weights + first, n_groups, largest);
            }
            totals += n_groups * kGroup;
        }
    }
    static std::size_t count_at_most(const Value* totals, std::size_t n_groups, std::size_t largest) {
        std::size_t count = 0;
        for (std::size_t i = 0; i < n_groups * kGroup; ++i) count += totals[i] <= largest && totals[i] != kDropped;
        return count;
    }
    static std::uint64_t sum_at_most(const Value* totals, const std::uint8_t* weights, std::size_t n_groups,
                                     std::size_t largest) {
        std::uint64_t sum = 0;
        for (std::size_t i = 0; i < n_groups * kGroup; ++i) {
            if (totals[i] <= largest && totals[i] != kDropped) sum += weights[i];
        }
        return sum;
    }
    static std::size_t find(const Value* totals, std::size_t n_groups, std::size_t least, std::size_t largest,
                            std::uint32_t* positions) {
        std::size_t n = 0;
        for (std::size_t i = 0; i < n_groups * kGroup; ++i) {
            if (totals[i] < least || totals[i] > largest || totals[i] == kDropped) continue;
            positions[n++] = static_cast<std::uint32_t>(i);
        }
        return n;
    }

 private:
    static void scan_group(const LevelScan& levels, const CodeRun& run, std::size_t number, Value* of_group) {
        const std::size_t group = run.first_group + number;
        std::fill(of_group, of_group + kGroup, Value{run.before});
        for (std::size_t d = levels.first_level; d < levels.end_level; ++d) {
            std::uint16_t distances[kGroup];
            distances_on(levels, group, d, distances);
            for (std::size_t i = 0; i < kGroup; ++i) {
                const auto total = static_cast<Value>(of_group[i] + distances[i]);
                const bool beyond = (levels.by_level ? distances[i] : total) > levels.cuts[d];
                of_group[i] = of_group[i] == kDropped || beyond ? kDropped : total;
            }
        }
        for (std::size_t i = run.n_codes - number * kGroup; i < kGroup; ++i) of_group[i] = kDropped;
    }
    static void distances_on(const LevelScan& levels, std::size_t group, std::size_t depth, std::uint16_t* distances) {
        std::fill(distances, distances + kGroup, std::uint16_t{0});
        const std::size_t first_byte = levels.layout.offset(levels.first_level);
        const std::size_t end = levels.layout.offset(depth + 1) - first_byte;
        const CodeRun alone{0, kGroup, 0};
        for (std::size_t byte = levels.layout.offset(depth) - first_byte; byte < end; byte += kMostPartBytes) {
            std::uint8_t of_part[kGroup];
            const CodePart part{byte, std::min(kMostPartBytes, end - byte), fasthash::kDropped};
            kernels().scan_parts(
                {levels.prepared + first_byte * kernels().prepared_bytes,
                 levels.groups + group * kGroup * levels.n_bytes, levels.n_bytes, &alone, 1, &part, 1, false, of_part},
                nullptr);
            for (std::size_t i = 0; i < kGroup; ++i) distances[i] = static_cast<Value>(distances[i] + of_part[i]);
        }
    }
};

}  // namespace fasthash
