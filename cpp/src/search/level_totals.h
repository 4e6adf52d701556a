// Distances between a query and groups of prefixes, added up level by level; prefixes beyond the cut of a level are
// dropped.
//
// Used by the pruned search, for the nodes of a level and for codes. Two forms: bytes, by kernels, for trees whose
// prefixes have at most kMostPartBytes; 16-bit numbers, in plain loops, for wider ones.
#pragma once

#include <algorithm>
#include <cstdint>

#include "fasthash/codes.h"
#include "kernels/kernels.h"

namespace fasthash {

/// Byte-major groups of codes or prefixes, one query, and the levels to compare.
struct LevelScan {
    const std::uint8_t* prepared;  ///< the whole query, prepared by Kernels::prepare
    const std::uint8_t* groups;
    std::size_t n_groups;
    std::size_t n_bytes;  ///< of each code or prefix
    const LevelLayout& layout;
    std::size_t n_levels;
    const std::uint16_t* cuts;  ///< of each level
    bool by_level;              ///< whether cuts apply to the distance on one level, else to the total so far
};

struct NarrowTotals {
    using Value = std::uint8_t;
    static constexpr Value kDropped = fasthash::kDropped;

    /// Set the totals of all groups, and count them unless `count` is null.
    static void scan(const LevelScan& levels, Value* totals, TotalCount* count = nullptr) {
        CodePart parts[kMostPartBytes];
        for (std::size_t d = 0; d < levels.n_levels; ++d) {
            parts[d] = {levels.layout.offset(d), levels.layout.level_bytes(d),
                        static_cast<Value>(std::min<std::uint16_t>(levels.cuts[d], kDropped))};
        }
        kernels().scan_parts({levels.prepared, levels.groups, levels.n_groups, levels.n_bytes, parts, levels.n_levels,
                              levels.by_level, totals},
                             count);
    }
    static std::size_t count_at_most(const Value* totals, std::size_t n_groups, std::size_t largest) {
        return kernels().count_at_most(totals, n_groups, static_cast<Value>(std::min<std::size_t>(largest, 254)));
    }
    static std::uint64_t sum_at_most(const Value* totals, const std::uint8_t* weights, std::size_t n_groups,
                                     std::size_t largest) {
        return kernels().sum_at_most(totals, weights, n_groups,
                                     static_cast<Value>(std::min<std::size_t>(largest, 254)));
    }
    static std::size_t find(const Value* totals, std::size_t n_groups, std::size_t wanted, std::uint32_t* positions) {
        const auto value = static_cast<Value>(wanted);
        return kernels().find_between(totals, n_groups, value, value, positions);
    }
    static std::size_t find_at_most(const Value* totals, std::size_t n_groups, std::size_t largest,
                                    std::uint32_t* positions) {
        return kernels().find_between(totals, n_groups, 0, static_cast<Value>(std::min<std::size_t>(largest, 254)),
                                      positions);
    }
};

struct WideTotals {
    using Value = std::uint16_t;
    static constexpr Value kDropped = UINT16_MAX;

    static void scan(const LevelScan& levels, Value* totals, TotalCount* count = nullptr) {
        for (std::size_t g = 0; g < levels.n_groups; ++g) {
            Value* of_group = totals + g * kGroup;
            std::fill(of_group, of_group + kGroup, Value{0});
            for (std::size_t d = 0; d < levels.n_levels; ++d) {
                std::uint16_t distances[kGroup];
                distances_on(levels, g, d, distances);
                for (std::size_t i = 0; i < kGroup; ++i) {
                    const auto total = static_cast<Value>(of_group[i] + distances[i]);
                    const bool beyond = (levels.by_level ? distances[i] : total) > levels.cuts[d];
                    of_group[i] = of_group[i] == kDropped || beyond ? kDropped : total;
                }
            }
        }
        if (count == nullptr) return;
        for (std::size_t i = 0; i < 2; ++i) {
            count->counts[i] += count->weights == nullptr
                                    ? count_at_most(totals, levels.n_groups, count->largest[i])
                                    : sum_at_most(totals, count->weights, levels.n_groups, count->largest[i]);
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
    static std::size_t find(const Value* totals, std::size_t n_groups, std::size_t wanted, std::uint32_t* positions) {
        return find_where(n_groups, positions, [&](std::size_t i) { return totals[i] == wanted; });
    }
    static std::size_t find_at_most(const Value* totals, std::size_t n_groups, std::size_t largest,
                                    std::uint32_t* positions) {
        return find_where(n_groups, positions,
                          [&](std::size_t i) { return totals[i] <= largest && totals[i] != kDropped; });
    }

 private:
    static void distances_on(const LevelScan& levels, std::size_t group, std::size_t depth, std::uint16_t* distances) {
        std::fill(distances, distances + kGroup, std::uint16_t{0});
        const std::size_t end = levels.layout.offset(depth + 1);
        for (std::size_t byte = levels.layout.offset(depth); byte < end; byte += kMostPartBytes) {
            std::uint8_t of_part[kGroup];
            const CodePart part{byte, std::min(kMostPartBytes, end - byte), fasthash::kDropped};
            kernels().scan_parts({levels.prepared, levels.groups + group * kGroup * levels.n_bytes, 1, levels.n_bytes,
                                  &part, 1, false, of_part},
                                 nullptr);
            for (std::size_t i = 0; i < kGroup; ++i) distances[i] = static_cast<Value>(distances[i] + of_part[i]);
        }
    }

    template <typename Condition>
    static std::size_t find_where(std::size_t n_groups, std::uint32_t* positions, Condition holds) {
        std::size_t n = 0;
        for (std::size_t i = 0; i < n_groups * kGroup; ++i) {
            if (holds(i)) positions[n++] = static_cast<std::uint32_t>(i);
        }
        return n;
    }
};

}  // namespace fasthash
