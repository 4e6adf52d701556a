// The levels of a tree for one query: the totals of their nodes, and the cuts.
//
// Used by the pruned search, for several queries in turns: each level is compared in chunks of groups that stay in the
// cache for all of them. In a coarse tree only what is below kept nodes of the first level is compared. Leaves are one
// more level, whose cut keeps the k nearest.
#pragma once

#include <vector>

#include "codes/level_tree.h"
#include "fasthash/search.h"
#include "search/group_set.h"
#include "search/level_totals.h"

namespace fasthash {

template <typename Totals>
class TreeLevels {
 public:
    using Value = typename Totals::Value;

    /// `guesses`: for each level, a likely cut; changed as cuts are found. `counts_kept`: whether n_kept() is wanted.
    TreeLevels(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
               std::vector<std::uint16_t>& guesses, bool counts_kept);

    /// Begin with a query. `prepared`: the whole query, prepared by Kernels::prepare. `given`: its cuts, or null. `k`:
    /// entries that must be kept, or all if there are fewer.
    void start(const std::uint8_t* query, const std::uint8_t* prepared, const std::uint16_t* given, std::size_t k);
    /// Compare groups of the level under way. Called for all of its groups, in order; then comes settle().
    void compare(NumberRange groups);
    /// Find the cut of the level under way, and go to the next one if there is one.
    void settle();

    // After settling the first level of a coarse tree, and each level after it:
    /// The nodes kept there, ascending.
    const Array<std::uint32_t>& first_kept();
    /// Nodes of the second level below them.
    std::size_t n_below();
    /// The totals of kept nodes are at most this, all others are larger.
    std::size_t largest() const { return largest_total_; }
    /// The totals of the level settled last, until the next one is compared.
    const Value* totals() const { return totals_.data(); }

    // After settling all levels:
    /// The largest score kept at each level.
    const std::vector<std::uint16_t>& cuts() const { return cuts_; }
    /// Nodes kept at all levels but the last; 0 unless they are counted.
    std::size_t n_kept() const { return n_kept_; }
    /// Number of nodes of the last level whose total is at most this. Only in a tree without leaves.
    std::size_t count_up_to(std::size_t total);
    /// Call visit(place) for the nodes of the last level with this total.
    template <typename Visit>
    void each(std::size_t total, Visit visit) const;
    /// In a tree with leaves, call visit(row, distance) for the nearest codes below kept nodes: at least k of them, or
    /// all if there are fewer.
    template <typename Visit>
    void each_leaf(Visit visit) const;
    /// Number of rows below nodes kept at the first level, or of all where all are compared.
    std::size_t n_rows();
    /// The numbers of the ranges of rows below nodes kept at the first level: the nearest, then the others ascending.
    std::vector<std::uint32_t> ranges();

 private:
    static constexpr std::size_t kUnknown = SIZE_MAX;

    const LevelNodes& level() const { return tree_.level(depth_); }
    bool is_last() const { return depth_ + 1 == tree_.n_depths(); }
    bool at_leaves() const { return depth_ == tree_.n_levels(); }
    std::size_t largest_score() const;
    // Whether codes are compared, in place of the nodes they are below. Where few codes are below a node of the first
    // level, most places of nodes are empty, while leaves have no gaps.
    bool reads_leaves() const {
        return at_leaves() || (reads_dense_ && counts() && depth_ > 0 && depth_ + 1 == tree_.n_levels());
    }
    // Whether the totals of the codes over the levels above are those of the level before: it read the leaves too.
    bool goes_on() const { return at_leaves() && totals_of_leaves_; }
    bool starts_below_first() const { return tree_.is_coarse() && depth_ > 0 && !reads_leaves(); }
    LevelScan scan_of(const std::vector<CodeRun>& runs, const std::uint16_t* cuts) const;
    void list_runs();
    void list_leaves();
    void list_runs_in(NumberRange groups);
    // Calls visit(run, its first position in totals_).
    template <typename Visit>
    void each_run(Visit visit) const;
    // Calls visit(number of a run, place in it, total).
    template <typename Visit>
    void each_between(std::size_t least, std::size_t largest, Visit visit) const;

    // Whether cuts are found by counting.
    bool counts() const { return at_leaves() || (!by_level_ && given_ == nullptr); }
    // Whether what is counted is known without comparing.
    bool knows_sums() const { return sums_ != nullptr && depth_ == 0; }
    bool by_entries() const { return !at_leaves() && pruning_.mode == KeepMode::gallery_ratio; }
    struct PlaceWeights {
        const std::uint8_t* of_place;
        std::uint8_t most;
    };
    // Of the places that are counted; null if each counts as 1.
    PlaceWeights weights() const {
        if (!reads_leaves()) return {by_entries() ? level().weights.data() : nullptr, LevelNodes::kMostWeight};
        if (at_leaves()) return {nullptr, 1};
        const Leaves& leaves = tree_.leaves();
        if (by_entries()) return {leaves.entries.data(), leaves.most_entries};
        return {leaves.begins.data(), Leaves::kMostBegins};
    }
    void open_level();
    std::uint16_t find_cut();
    void widen_radius();
    std::size_t count(std::size_t total) const;
    std::size_t sum_of(const std::uint8_t* weights, const Value* scores, std::size_t largest) const;
    std::size_t count_candidates();
    std::size_t counted(std::size_t largest);
    std::size_t weighed(std::size_t largest, const Value* scores);

    const SortedCodes& codes_;
    const LevelTree& tree_;
    const LevelLayout& layout_;
    const Pruning pruning_;
    const bool by_level_;  // scores are distances on one level alone, not totals
    std::vector<std::uint16_t>& guesses_;
    const bool counts_kept_;

    const std::uint8_t* prepared_ = nullptr;
    const std::uint16_t* given_ = nullptr;
    const Weights* sums_ = nullptr;  // of first-level nodes up to each distance, if the tree holds them
    std::size_t n_needed_ = 0;       // entries that must be kept
    std::size_t depth_ = 0;
    std::vector<std::uint16_t> cuts_;
    std::size_t largest_total_ = 0;  // see largest()
    std::size_t n_kept_ = 0;
    bool reads_dense_ = false;         // see reads_leaves()
    bool totals_of_leaves_ = false;    // see goes_on()
    Array<Value> first_totals_;        // of the nodes of the first level of a coarse tree
    Array<std::uint32_t> first_kept_;  // see first_kept(); listed when it is first asked for
    bool first_listed_ = false;
    std::vector<CodeRun> runs_;  // places compared at the level under way, ascending
    std::vector<CodeRun> runs_in_chunk_;
    GroupSet groups_;           // of leaves
    std::size_t next_run_ = 0;  // the first run that does not end before the chunk under way
    std::size_t guess_ = 0;
    std::vector<std::size_t> counts_;  // by largest score: nodes, or for gallery_ratio the sum of their weights
    Array<Value> totals_;              // of the nodes of one run after the other: distance over all levels so far
    std::size_t n_compared_ = 0;       // groups in totals_
};

extern template class TreeLevels<NarrowTotals>;
extern template class TreeLevels<WideTotals>;

template <typename Totals>
template <typename Visit>
void TreeLevels<Totals>::each_run(Visit visit) const {
    std::size_t first = 0;
    for (const CodeRun& run : runs_) {
        visit(run, first);
        first += groups_of(run) * kGroup;
    }
}

template <typename Totals>
template <typename Visit>
void TreeLevels<Totals>::each_between(std::size_t least, std::size_t largest, Visit visit) const {
    constexpr std::size_t kGroupsAtOnce = 64;
    std::uint32_t positions[kGroupsAtOnce * kGroup];
    std::size_t run = 0, first_of_run = 0;
    for (std::size_t group = 0; group < n_compared_; group += kGroupsAtOnce) {
        const std::size_t n_groups = std::min(kGroupsAtOnce, n_compared_ - group);
        const std::size_t n = Totals::find(totals_.data() + group * kGroup, n_groups, least, largest, positions);
        for (std::size_t i = 0; i < n; ++i) {
            const std::size_t position = group * kGroup + positions[i];
            while (position >= first_of_run + groups_of(runs_[run]) * kGroup) {
                first_of_run += groups_of(runs_[run++]) * kGroup;
            }
            visit(run, position - first_of_run, totals_[position]);
        }
    }
}

template <typename Totals>
template <typename Visit>
void TreeLevels<Totals>::each(std::size_t total, Visit visit) const {
    each_between(total, total,
                 [&](std::size_t run, std::size_t place, Value) { visit(runs_[run].first_group * kGroup + place); });
}

template <typename Totals>
template <typename Visit>
void TreeLevels<Totals>::each_leaf(Visit visit) const {
    each_between(0, largest_total_, [&](std::size_t run, std::size_t place, Value total) {
        visit(runs_[run].first_group * kGroup + place, std::int32_t{total});
    });
}

}  // namespace fasthash
