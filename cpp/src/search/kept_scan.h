// Scans of the codes below the nodes that a pruned search keeps, for many queries.
//
// Used by the pruned search where reading node by node would cost more. Codes are compared by ranges: all codes, or in
// a coarse tree those below one node of the first level. Queries that scan the same range are compared together. A code
// is below kept nodes exactly if its own distances obey the cuts of all levels, so only near codes are checked.
#pragma once

#include <vector>

#include "codes/level_tree.h"
#include "codes/sorted_codes.h"
#include "search/level_totals.h"
#include "search/scan.h"

namespace fasthash {

/// The rows to compare with one query.
struct KeptRows {
    std::uint32_t query;
    std::vector<std::uint16_t> cuts;    ///< of each level but the last
    std::size_t first_total;            ///< rows whose distance over these levels is smaller were compared before
    std::vector<std::uint32_t> ranges;  ///< numbers of ranges of LevelTree: the nearest, then the others ascending
};

template <typename Totals>
class KeptScan final : private GroupSink {
 public:
    /// by_level: whether cuts apply to the distance on one level, else to the total so far.
    KeptScan(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, bool by_level,
             const QueryBlock& block);

    const std::uint8_t* prepared(std::size_t query) const { return prepared_.data() + query * stride_; }
    NumberRange rows_of(std::size_t range) const { return tree_.range(range, tree_.n_levels()); }
    /// Compare queries with their rows. A query is named at most once.
    void run(std::vector<KeptRows> wanted, Stopper& stopper);

 private:
    void take_sample(const KeptRows& wanted);
    void run_alone(const KeptRows& wanted, Stopper& stopper);
    void run_lists(bool nearest, Stopper& stopper);
    // False if the search must end.
    bool compare(NumberRange rows, const std::uint32_t* queries, std::size_t n_queries, Stopper& stopper);
    void take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) override;
    std::uint64_t kept_rows(std::size_t query, const std::uint8_t* group, std::uint64_t rows) const;

    const SortedCodes& codes_;
    const DistinctEntries entries_;
    const LevelTree& tree_;
    const LevelLayout& layout_;
    const bool by_level_;
    const QueryBlock& block_;
    const std::size_t stride_;      // bytes of a prepared query
    Array<std::uint8_t> prepared_;  // all queries
    Array<std::uint8_t> scratch_;
    WaitingHits waiting_;
    Sample sample_;
    std::vector<KeptRows> wanted_;
    std::vector<const KeptRows*> of_query_;
    std::vector<std::uint32_t> lists_, end_of_list_;  // the queries of each range of rows

    std::size_t n_calls_ = 0;
    // Of the comparison under way:
    NumberRange rows_{0, 0};
    std::size_t first_group_ = 0;
    const std::uint8_t* groups_ = nullptr;
};

extern template class KeptScan<NarrowTotals>;
extern template class KeptScan<WideTotals>;

}  // namespace fasthash
