// The levels of a pruned search after the first, for trees of three levels that hold leaves: one pass over the codes
// below the kept nodes of the first level, which several queries share.
//
// Used by the pruned search. The cut of the second level is known only after the pass. During it, codes nearer than a
// guess of the cut lower the limit of the hits, so that few are kept in memory. The hits are complete if k of them turn
// out to be within the cut. Otherwise, or if a query meets too many hits, it is left to TreeLevels.
#pragma once

#include <algorithm>
#include <vector>

#include "codes/level_tree.h"
#include "codes/sorted_codes.h"
#include "fasthash/codes.h"
#include "search/scan.h"

namespace fasthash {

/// The nodes that a query keeps at the first level.
struct FirstLevel {
    const std::vector<std::uint32_t>& nodes;  ///< ascending
    const std::uint8_t* distances;            ///< of all nodes of the level

    std::uint32_t nearest() const {
        return *std::min_element(nodes.begin(), nodes.end(),
                                 [this](std::uint32_t a, std::uint32_t b) { return distances[a] < distances[b]; });
    }
};

class LeafSearch final : private TwoPartSink {
 public:
    static constexpr std::size_t kMostQueries = 16;

    /// `prepared`: the queries of the block, prepared by Kernels::prepare.
    LeafSearch(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
               const QueryBlock& block, const std::uint8_t* prepared);

    /// Whether the tree and the mode allow this step.
    static bool serves(const LevelTree& tree, const Pruning& pruning);
    /// Search at most kMostQueries queries of the block from `first` on. Returns a mask of those that it answered.
    std::uint32_t run(std::size_t first, const std::vector<FirstLevel>& kept, std::uint16_t& likely_cut);

 private:
    struct Hit {
        std::uint32_t row;
        std::uint8_t first, total;  // distances over both levels, and over the whole code
    };
    struct Query : TwoPartQuery {
        const std::uint8_t* distances;  // to all nodes of the first level
        std::uint8_t certain;           // the guess; codes no farther over both levels lower the limit
        bool gave_up;                   // too many hits
        std::size_t n_within;           // hits up to the guess, within the limit
        std::uint32_t n_at[kDropped];   // of them, by distance
        std::vector<Hit> hits;
        Array<std::uint8_t> all_firsts;  // totals of all codes compared
    };

    void begin(Query& query, const FirstLevel& kept, const std::uint8_t* prepared, std::uint16_t guess);
    void compare(std::size_t node, std::uint32_t mask);
    void take(TwoPartQuery& query, std::size_t group, std::uint64_t rows, const std::uint8_t* firsts,
              const std::uint8_t* totals) override;
    bool finish(std::size_t q, const FirstLevel& kept, const Query& query, std::uint16_t& likely_cut);
    void note(std::size_t q, const FirstLevel& kept, std::size_t n_nodes) const;
    std::size_t needed(const FirstLevel& kept) const;
    RowRange places_of(std::size_t node) const { return tree_.places_below(tree_.n_levels())[node]; }
    std::size_t weigh(const FirstLevel& kept, const Query& query, const Array<std::uint8_t>& weights,
                      std::size_t largest) const;

    const SortedCodes& codes_;
    const DistinctEntries entries_;
    const LevelTree& tree_;
    const Pruning pruning_;
    const QueryBlock& block_;
    const std::uint8_t* prepared_;
    const std::size_t stride_, skipped_;  // bytes of a prepared query, and of its first level
    const std::size_t first_bytes_, largest_first_;
    const bool by_level_;             // the cut is that of the second level alone, and known
    const std::size_t cut_on_level_;  // if so
    const std::size_t n_needed_;      // entries to return
    const std::size_t most_hits_;
    const Array<std::uint8_t>& weights_;
    std::vector<Query> queries_;
    std::vector<std::uint32_t> wanting_;  // for each node of the first level, a mask of queries
    std::size_t first_row_ = 0;           // of the node under way
};

}  // namespace fasthash
