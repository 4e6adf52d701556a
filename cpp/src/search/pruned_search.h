// HDHash's pruned coarse-to-fine search (ICPR 2020) over the level tree of one segment.
//
// Called by SortedSegment::search_pruned. Each level keeps only the nodes nearest to the query; the codes below the
// nodes kept at the last level are compared. Not exact, but always returns k entries if the segment has k.
#pragma once

#include <vector>

#include "codes/level_tree.h"
#include "codes/sorted_codes.h"
#include "fasthash/search.h"
#include "search/row_entries.h"
#include "search/scan.h"

namespace fasthash {

/// Search a block of queries, with the pruning and cuts of its first query on.
void search_tree(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
                 const QueryBlock& block, Stopper& stopper);

/// Searches one query at a time. Unlike HDHash, compares the candidates in the order of their nodes' distance and stops
/// once none can be among the k; the result is the same.
class PrunedSearch final : private RowSink {
 public:
    PrunedSearch(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, Pruning pruning);
    /// `cuts`: for each level of the tree, the largest score kept; null computes the cuts from `pruning`.
    QueryStats run(const std::uint8_t* query, const std::uint16_t* cuts, TopK& nearest);

 private:
    // The children of one kept node; at first those of the root.
    struct Family {
        NumberRange nodes;
        std::uint16_t distance;  // of the parent, summed over the levels up to it
        std::size_t offset;      // of the children's scores
    };

    void add_family(NumberRange nodes, std::uint16_t distance);
    void score(std::size_t depth);
    // The largest score kept at this level.
    std::uint16_t cut(std::size_t depth);
    const Array<std::uint32_t>& find(const std::uint16_t* scores, std::size_t n, std::uint16_t first,
                                     std::uint16_t last);
    std::uint16_t smallest_with(std::size_t n_candidates, std::size_t largest_score) const;
    template <typename Weight>
    std::uint16_t score_covering(std::size_t needed, Weight weight);
    void compare_codes(std::uint16_t largest);
    void read(NumberRange rows);
    void read_ranges();
    std::int32_t take(const RowHit* hits, std::size_t n) override;

    // Whether scores are distances on this level alone, not sums over the levels so far.
    bool by_level() const { return pruning_.mode == KeepMode::radius; }

    const SortedCodes& codes_;
    const DistinctEntries entries_;
    const LevelTree& tree_;
    const LevelLayout& layout_;
    Pruning pruning_;

    const std::uint8_t* query_ = nullptr;
    const std::uint16_t* cuts_ = nullptr;
    TopK* nearest_ = nullptr;
    QueryStats stats_;
    std::vector<Family> families_, parents_;
    std::size_t n_scores_ = 0;
    Array<std::uint16_t> scores_;  // distance of each candidate, compared with the cut
    std::vector<std::size_t> weight_at_;
    Array<std::uint32_t> found_;

    std::vector<RowRange> ranges_;
    std::size_t first_row_ = 0;  // added to the row numbers of hits
    Array<std::uint8_t> scratch_;
};

}  // namespace fasthash
