// Scans of the codes below the nodes that a pruned search keeps, for many queries.
//
// Used by the pruned search where most groups of codes have some below a kept node. A code is below kept nodes exactly
// if its own distances obey the cuts of all levels, so that hits need no node: near codes are checked against the cuts.
#pragma once

#include <vector>

#include "codes/sorted_codes.h"
#include "search/level_totals.h"
#include "search/scan.h"

namespace fasthash {

/// The rows that a scan compares with one query.
struct KeptRows {
    std::size_t query;
    std::vector<std::uint16_t> cuts;  ///< of each level but the last
    std::size_t first_total;          ///< rows whose distance over these levels is smaller were compared before
    std::vector<NumberRange> groups;  ///< of rows, ascending
};

template <typename Totals>
class KeptScan final : private GroupSink {
 public:
    KeptScan(const SortedCodes& codes, const LevelLayout& layout, bool by_level, const QueryBlock& block);

    const std::uint8_t* prepared(std::size_t query) const { return prepared_.data() + query * stride_; }
    /// Compare queries with their rows.
    void run(const std::vector<KeptRows>& wanted, Stopper& stopper);

 private:
    void compare(const KeptRows& wanted, NumberRange groups, const std::uint8_t* chunk);
    void take(std::size_t slot, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) override;
    std::uint64_t kept_rows(std::size_t group) const;

    const SortedCodes& codes_;
    const DistinctEntries entries_;
    const LevelLayout& layout_;
    const bool by_level_;
    const QueryBlock& block_;
    const std::size_t stride_;      // bytes of a prepared query
    Array<std::uint8_t> prepared_;  // all queries
    Array<std::uint8_t> scratch_;

    // Of the comparison under way:
    const KeptRows* wanted_ = nullptr;
    std::uint16_t threshold_ = 0;  // exclusive
    std::size_t first_group_ = 0;
    const std::uint8_t* groups_ = nullptr;
};

extern template class KeptScan<NarrowTotals>;
extern template class KeptScan<WideTotals>;

}  // namespace fasthash
