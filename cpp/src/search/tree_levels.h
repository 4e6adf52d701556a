// The levels of a tree for one query: the totals of their nodes, and the cuts.
//
// Used by the pruned search, for several queries in turns: each level is compared in chunks of groups that stay in the
// cache for all of them. In a coarse tree only what is below kept nodes of the first level is compared. Leaves are one
// more level, whose cut keeps the k nearest.
#pragma once

#include <vector>

#include "codes/level_tree.h"
#include "fasthash/search.h"
#include "search/level_totals.h"
#include "search/nearest_leaves.h"

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
    /// The codes or prefixes that are compared at a level.
    const ByteMajorCodes& compared(std::size_t depth) const {
        return reads_leaves(depth) ? tree_.leaves().codes : tree_.prefixes(depth);
    }
    /// Compare groups of those at the level under way. Called for all of them, in order; then comes settle().
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
    /// In a tree with leaves, the nearest codes below kept nodes: at least k of them, or all if there are fewer.
    const std::vector<RowHit>& nearest_leaves() const { return leaves_.hits(); }
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
    // Whether codes are compared at a level. In a coarse tree they also take the place of the nodes of the last level:
    // leaves have no gaps between them, and the comparison of whole codes goes on with their totals.
    bool reads_leaves(std::size_t depth) const {
        return depth == tree_.n_levels() || (depth + 1 == tree_.n_levels() && leaves_are_nodes());
    }
    bool reads_leaves() const { return reads_leaves(depth_); }
    bool leaves_are_nodes() const {
        return tree_.is_coarse() && tree_.n_levels() > 1 && tree_.has_leaves() && !tree_.leaves().entries.empty() &&
               !by_level_ && given_ == nullptr;
    }
    // Whether the totals over the levels above are those of the level before.
    bool goes_on() const { return at_leaves() && leaves_are_nodes(); }
    bool starts_below_first() const { return tree_.is_coarse() && depth_ > 0 && !reads_leaves(); }
    LevelScan scan_of(const std::vector<CodeRun>& runs, const std::uint16_t* cuts) const;
    void list_runs();
    void list_leaves();
    // Whether comparing all leaves takes less time than those below kept nodes of the first level.
    bool reads_all_leaves() const {
        return tree_.has_leaves() && 2 * tree_.leaves().codes.n_groups() < 3 * n_first_kept_;
    }
    void list_runs_in(NumberRange groups);
    GroupList list_in(NumberRange groups);
    CodeRun listed_run(std::size_t i) const { return GroupList{listed_.data(), listed_.size(), tree_.n_rows()}.run(i); }
    // Calls visit(run, its first position in totals_).
    template <typename Visit>
    void each_run(Visit visit) const;
    // Calls visit(place, total).
    template <typename Visit>
    void each_between(std::size_t least, std::size_t largest, Visit visit) const;

    // Whether the cut is found by counting.
    bool counts() const { return !at_leaves() && !by_level_ && given_ == nullptr; }
    // Whether what is counted is known without comparing.
    bool knows_sums() const { return sums_ != nullptr && depth_ == 0; }
    bool by_entries() const { return pruning_.mode == KeepMode::gallery_ratio; }
    struct PlaceWeights {
        const std::uint8_t* of_place;
        std::uint8_t most;
    };
    // Of the places that are counted; null if each counts as 1.
    PlaceWeights weights() const {
        if (!reads_leaves()) return {by_entries() ? level().weights.data() : nullptr, LevelNodes::kMostWeight};
        const Leaves& leaves = tree_.leaves();
        if (by_entries()) return {leaves.most_entries > 1 ? leaves.entries.data() : nullptr, leaves.most_entries};
        return {leaves.begins.data(), Leaves::kMostBegins};
    }
    void open_level();
    void settle_leaves();
    std::uint16_t find_cut();
    void widen_radius();
    std::size_t count(std::size_t total) const;
    std::size_t sum_of(const std::uint8_t* weights, const Value* scores, std::size_t largest) const;
    std::size_t count_candidates();
    std::size_t counted(std::size_t largest);
    void count_listed(std::size_t largest);
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
    std::size_t n_first_kept_ = 0;     // nodes
    Array<Value> first_totals_;        // of the nodes of the first level of a coarse tree
    Array<std::uint32_t> first_kept_;  // see first_kept(); listed when it is first asked for
    bool first_listed_ = false;
    std::vector<CodeRun> runs_;  // places compared at the level under way, ascending
    std::vector<CodeRun> runs_in_chunk_;
    Array<std::uint32_t> listed_;      // groups of leaves compared at the level under way, if there are no runs
    std::size_t next_ = 0;             // the first run or listed group that does not end before the chunk under way
    std::size_t guess_ = 0;            // of the cut; at the leaves, of a distance within which there are k
    std::vector<std::size_t> counts_;  // by largest score: nodes, or for gallery_ratio the sum of their weights
    NearestLeaves leaves_;
    Array<Value> totals_;         // of the nodes of one run after the other: distance over all levels so far
    std::size_t n_compared_ = 0;  // groups in totals_
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
    for (std::size_t i = 0; i < listed_.size(); ++i) visit(listed_run(i), i * kGroup);
}

template <typename Totals>
template <typename Visit>
void TreeLevels<Totals>::each_between(std::size_t least, std::size_t largest, Visit visit) const {
    constexpr std::size_t kGroupsAtOnce = 64;
    std::uint32_t positions[kGroupsAtOnce * kGroup];
    std::size_t run = 0, first_of_run = 0;
    const bool in_runs = listed_.empty();
    for (std::size_t group = 0; group < n_compared_; group += kGroupsAtOnce) {
        const std::size_t n_groups = std::min(kGroupsAtOnce, n_compared_ - group);
        const std::size_t n = Totals::find(totals_.data() + group * kGroup, n_groups, least, largest, positions);
        for (std::size_t i = 0; i < n; ++i) {
            const std::size_t position = group * kGroup + positions[i];
            while (in_runs && position >= first_of_run + groups_of(runs_[run]) * kGroup) {
                first_of_run += groups_of(runs_[run++]) * kGroup;
            }
            const std::size_t place = in_runs ? runs_[run].first_group * kGroup + position - first_of_run
                                              : listed_[position / kGroup] * kGroup + position % kGroup;
            visit(place, totals_[position]);
        }
    }
}

template <typename Totals>
template <typename Visit>
void TreeLevels<Totals>::each(std::size_t total, Visit visit) const {
    each_between(total, total, [&](std::size_t place, Value) { visit(place); });
}

}  // namespace fasthash
