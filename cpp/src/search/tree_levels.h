// The levels of a tree for one query: the totals of their nodes, and the cuts.
//
// Used by the pruned search, for several queries in turns: each level is compared in chunks of groups that stay in the
// cache for all of them. Where nodes of the first level have many rows, only groups below its kept nodes are compared.
#pragma once

#include <cstring>
#include <type_traits>
#include <vector>

#include "codes/level_tree.h"
#include "fasthash/search.h"
#include "search/level_totals.h"

namespace fasthash {

constexpr std::size_t kGroupsAtOnce = 32;  // with their totals, they stay in the first-level cache

/// Call compare(groups) for the chunks of n_groups groups.
template <typename Compare>
void for_chunks(std::size_t n_groups, Compare compare) {
    for (std::size_t first = 0; first < n_groups; first += kGroupsAtOnce) {
        compare(NumberRange{first, std::min(first + kGroupsAtOnce, n_groups)});
    }
}

template <typename Totals>
class TreeLevels {
 public:
    using Value = typename Totals::Value;

    /// `guesses`: for each level, a likely cut; changed as cuts are found.
    TreeLevels(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
               std::vector<std::uint16_t>& guesses);

    /// Begin with a query. `prepared`: the whole query. `given`: its cuts, or null. `k`: entries that must be kept, if
    /// there are so many.
    void start(const std::uint8_t* prepared, const std::uint16_t* given, std::size_t k);
    /// Compare groups of the level under way. Called for all chunks of the level, in order; then comes settle().
    void compare(NumberRange groups);
    /// Find the cut of the level under way, and go to the next one if there is one.
    void settle();

    // After settling all levels:
    /// The largest score kept at each level.
    const std::vector<std::uint16_t>& cuts() const { return cuts_; }
    /// Nodes kept at all levels but the last.
    std::size_t n_kept() const { return n_kept_; }
    /// The largest total of a kept node of the last level. Other nodes have a larger one.
    std::size_t largest() const { return largest_total_; }
    /// Number of nodes of the last level whose total is at most this; with of_rows, about as many.
    std::size_t count_up_to(std::size_t total) {
        const bool counted_so = !by_level_ && given_ == nullptr && pruning_.mode == KeepMode::node_ratio;
        return counted_so ? counted(total) : count(total);
    }
    /// Call visit(node) for the nodes of the last level with this total.
    template <typename Visit>
    void each(std::size_t total, Visit visit) const;
    /// The groups of rows below the nodes kept at the first level; maybe with some others.
    std::vector<NumberRange> row_groups() const { return groups_at(tree_.n_levels()); }

    /// Whether each_near() can be called.
    bool has_rows() const { return kIsNarrow && tree_.last().of_rows && codes_.n_bytes() <= kMostPartBytes; }
    /// Before calling each_near() for all chunks in order.
    void rewind() { next_run_ = 0; }
    /// Compare the rows of these groups below kept nodes, and call visit(row, distance) for those within most(), which
    /// may fall.
    template <typename Most, typename Visit>
    void each_near(NumberRange groups, Most most, Visit visit);

 private:
    static constexpr bool kIsNarrow = std::is_same_v<Totals, NarrowTotals>;
    static constexpr std::size_t kUnknown = SIZE_MAX, kMostAtOnce = 8;

    const LevelNodes& level() const { return tree_.level(depth_); }
    bool is_last() const { return depth_ + 1 == tree_.n_levels(); }
    std::size_t largest_score() const;
    LevelScan scan_of(std::size_t first, std::size_t n, const std::uint16_t* cuts);
    template <typename Compare>
    void for_runs_in(NumberRange groups, Compare compare);
    template <typename Sum>
    std::size_t sum_over_runs(Sum sum) const;
    std::vector<NumberRange> groups_at(std::size_t depth) const;

    void open_level();
    void compare_groups(std::size_t first, std::size_t n);
    const Array<std::uint8_t>* weights() const;
    void drop_padding(Value* values) const;
    std::uint16_t find_cut();
    void widen_radius();
    std::size_t count(std::size_t total) const;
    std::size_t counted_in(std::size_t first, std::size_t n, std::size_t largest) const;
    std::size_t counted(std::size_t largest);
    std::size_t weighed(std::size_t largest, const Value* scores);
    template <typename Weigh>
    std::uint16_t smallest(std::size_t needed, std::uint16_t guess, Weigh weigh) const;

    const SortedCodes& codes_;
    const LevelTree& tree_;
    const LevelLayout& layout_;
    const Pruning pruning_;
    const bool by_level_;  // scores are distances on one level alone, not totals
    std::vector<std::uint16_t>& guesses_;

    const std::uint8_t* prepared_ = nullptr;
    const std::uint16_t* given_ = nullptr;
    std::size_t n_needed_ = 0;  // entries that must be kept
    std::size_t depth_ = 0;
    std::vector<std::uint16_t> cuts_;
    std::size_t largest_total_ = 0;  // of a kept node of the level settled last
    std::size_t n_kept_ = 0;
    std::vector<std::uint32_t> first_kept_;  // nodes kept at the first level, if the tree is coarse
    std::vector<NumberRange> runs_;          // groups compared at the level under way
    std::size_t next_run_ = 0;               // the first one that does not end before the chunk under way
    std::size_t guess_ = 0;
    std::vector<std::size_t> counts_;  // by largest score: nodes, or for gallery_ratio the sum of their weights
    Array<std::uint8_t> scratch_;
    Array<Value> totals_;     // of the nodes of the runs: distance over all levels so far
    std::size_t n_most_ = 1;  // groups that each_near compares at once: few at first, so that most() falls early
};

extern template class TreeLevels<NarrowTotals>;
extern template class TreeLevels<WideTotals>;

template <typename Totals>
template <typename Compare>
void TreeLevels<Totals>::for_runs_in(NumberRange groups, Compare compare) {
    for (; next_run_ < runs_.size() && runs_[next_run_].begin < groups.end; ++next_run_) {
        const NumberRange run = runs_[next_run_];
        const std::size_t first = std::max(run.begin, groups.begin);
        compare(first, std::min(run.end, groups.end) - first);
        if (run.end > groups.end) return;
    }
}

template <typename Totals>
template <typename Visit>
void TreeLevels<Totals>::each(std::size_t total, Visit visit) const {
    std::uint32_t positions[kGroupsAtOnce * kGroup];
    for (const NumberRange& run : runs_) {
        for (std::size_t first = run.begin; first < run.end; first += kGroupsAtOnce) {
            const std::size_t n_groups = std::min(kGroupsAtOnce, run.end - first);
            const std::size_t n = Totals::find(totals_.data() + first * kGroup, n_groups, total, positions);
            for (std::size_t i = 0; i < n; ++i) visit(first * kGroup + positions[i]);
        }
    }
}

template <typename Totals>
template <typename Most, typename Visit>
void TreeLevels<Totals>::each_near(NumberRange groups, Most most, Visit visit) {
    if constexpr (kIsNarrow) {
        const std::size_t n_prefix = layout_.offset(tree_.n_levels());
        for_runs_in(groups, [&](std::size_t first, std::size_t n_groups) {
            std::uint32_t positions[kGroupsAtOnce * kGroup];
            std::uint8_t distances[kGroupsAtOnce * kGroup];
            for (std::size_t begin = first, end = first + n_groups, n = 0; begin < end; begin += n) {
                n = std::min(n_most_, end - begin);
                n_most_ = std::min(2 * n_most_, kMostAtOnce);
                const std::int32_t within = most();
                if (within < 0) return;
                const CodePart rest{n_prefix, codes_.n_bytes() - n_prefix, static_cast<std::uint8_t>(within)};
                Value* totals = totals_.data() + begin * kGroup;
                const std::size_t n_found = kernels().find_sums(
                    {prepared_, codes_.groups(begin, n, scratch_), n, codes_.n_bytes(), &rest, 1, false, totals},
                    positions, distances);
                for (std::size_t i = 0; i < n_found; ++i) {
                    if (totals[positions[i]] <= largest_total_) visit(begin * kGroup + positions[i], distances[i]);
                }
            }
        });
    }
}

}  // namespace fasthash
