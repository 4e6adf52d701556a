// The levels of a pruned search after the first, for codes of three levels in a tree with leaves: one pass over the
// groups that hold codes below kept nodes of the first level, which several queries share.
//
// Used by the pruned search. The cut of the second level is known only after the pass, which counts the nodes up to a
// guess of it. A sample, and hits nearer than the guess, lower the threshold of later hits, so that few are kept in
// memory. The hits are complete if k of them turn out to be within the cut. Otherwise, or if a query meets too many
// hits, it is left to TreeLevels.
#pragma once

#include <initializer_list>
#include <numeric>
#include <vector>

#include "codes/level_tree.h"
#include "codes/sorted_codes.h"
#include "fasthash/codes.h"
#include "search/group_set.h"
#include "search/scan.h"

namespace fasthash {

/// The nodes that a query keeps at the first level.
struct FirstLevel {
    const Array<std::uint32_t>& nodes;  ///< ascending
    const std::uint8_t* distances;      ///< of all nodes of the level, up to a whole group; kDropped beyond
    std::uint16_t cut;                  ///< distances of nodes that are not kept are larger
    std::size_t n_below;                ///< nodes of the second level below them
};

class LeafSearch final : private ThreePartSink {
 public:
    static constexpr std::size_t kMostQueries = ThreePartScan::kMostQueries;

    /// `prepared`: the queries of the block, prepared by Kernels::prepare. `likely_cut`: of the second level.
    LeafSearch(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
               const QueryBlock& block, const std::uint8_t* prepared, std::uint16_t likely_cut);

    /// Whether the tree, the mode and k allow this step, and it saves time.
    static bool serves(const LevelTree& tree, const Pruning& pruning, std::size_t k);
    /// Search at most kMostQueries queries of the block from `first` on. Returns a mask of those that it answered.
    std::uint32_t run(std::size_t first, const std::vector<FirstLevel>& kept);
    /// The most frequent cut that was found so far, or the one given: a guess for the next queries.
    std::uint16_t likely_cut() const { return likely_cut_; }
    /// Take a cut into account that was found without this search.
    void note_cut(std::uint16_t cut) {
        if (!by_level_ && ++n_with_cut_[cut] > n_with_cut_[likely_cut_]) likely_cut_ = cut;
    }

 private:
    struct Hit {
        std::uint32_t row;
        std::uint8_t prefix, total;  // distances over both levels, and over the whole code
    };
    struct Query : ThreePartQuery {
        const std::uint8_t* code;
        const FirstLevel* kept;
        GroupSet groups;               // that hold codes below kept nodes
        std::size_t needed;            // the weight that the nodes kept at the second level must have
        std::uint8_t guess;            // of the cut; nearer codes over both levels lower the threshold
        bool gave_up;                  // too many hits
        std::size_t n_within;          // hits up to the guess, within the threshold
        std::uint32_t n_at[kDropped];  // of them, by distance
        std::vector<Hit> hits;

        std::size_t weight_up_to(std::size_t i) const {
            return std::accumulate(counts[i], counts[i] + kLanes, std::size_t{0});
        }
    };

    void begin(Query& query, std::size_t q, const FirstLevel& kept);
    void take_sample(Query& query);
    void compare(std::size_t first_group, std::size_t n_groups, std::size_t n_queries);
    void take(ThreePartQuery& query, std::size_t group, std::uint64_t rows, const std::uint8_t* prefix_totals,
              const std::uint8_t* totals) override;
    bool finish(std::size_t q, const Query& query);
    std::uint16_t cut_of(const Query& query);
    std::uint16_t find_cut(const Query& query);
    void note(std::size_t q, const Query& query, std::size_t cut);
    // By nodes, cuts are small, so that many hits lie just beyond the guess. The nodes at the guess are counted as
    // well: that often decides on these hits without another pass.
    std::size_t n_counted() const { return pruning_.mode == KeepMode::node_ratio ? 2 : 1; }
    bool is_within_levels(const Query& query, std::size_t row) const;
    void compare_runs(const Query& query, std::initializer_list<CodePart> parts, TotalCount* count = nullptr);
    void compare_two_levels(const Query& query, TotalCount* count = nullptr);
    std::size_t weigh(const Array<std::uint8_t>& weights, std::size_t largest) const;

    const SortedCodes& codes_;
    const DistinctEntries entries_;
    const LevelTree& tree_;
    const Pruning pruning_;
    const QueryBlock& block_;
    const std::uint8_t* prepared_;
    const std::size_t stride_;  // bytes of a prepared query
    const LevelLayout& layout_;
    const std::size_t first_bytes_, second_bytes_, largest_prefix_;
    const bool by_level_;               // the cut is that of the second level alone, and known
    const std::uint16_t cut_on_level_;  // if so
    const std::size_t n_needed_;        // entries to return
    const std::size_t most_hits_;
    const Leaves& leaves_;
    const Array<std::uint8_t>& weights_;
    const std::uint8_t most_weight_;
    std::vector<Query> queries_;
    std::size_t first_group_ = 0;     // of the scan under way
    std::uint16_t likely_threshold_;  // of the next query's sample
    std::uint16_t likely_cut_;
    std::vector<std::uint32_t> n_with_cut_;  // for each cut, the queries that had it
    std::vector<std::uint32_t> near_;        // nodes
    std::vector<Hit> kept_;                  // of one query
    GroupSet sampled_;
    std::vector<CodeRun> runs_;   // codes of one query
    Array<std::uint8_t> totals_;  // of the groups of runs_
};

}  // namespace fasthash
