// The scan: compares a block of queries with every code, or with some ranges of them.
//
// Called by segments without a better plan, for large blocks of queries, and by ClusterSearch. Reads byte-major groups
// of 64 codes.
#pragma once

#include <vector>

#include "codes/byte_major_codes.h"
#include "fasthash/codes.h"
#include "fasthash/search.h"
#include "fasthash/topk.h"
#include "platform/number_range.h"
#include "platform/stopper.h"
#include "search/row_entries.h"

namespace fasthash {

/// Queries that are searched together, and their results so far.
struct QueryBlock {
    CodeView queries;
    TopK* nearest;      ///< one for each
    QueryStats* stats;  ///< one for each, or null
    bool leads;         ///< true for the first segment, whose plan is reported
    double share = 1;   ///< of the codes, which a search over clusters may compare before it ends

    /// Add the work done for query q to its statistics.
    void note(std::size_t q, const QueryStats& work) const;
};

/// Compares queries of a block with ranges of rows, and pushes the entries of the near rows.
///
/// No query may be compared with a row twice.
class BlockScan final : private GroupSink {
 public:
    BlockScan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block);

    /// Compare all queries with these rows.
    void run(NumberRange rows, Stopper& stopper) { run(rows, all_, stopper); }
    /// Compare some queries with these rows.
    void run(NumberRange rows, const std::vector<std::uint32_t>& queries, Stopper& stopper);

 private:
    static constexpr std::size_t kMostWaiting = 64;

    struct Hit {
        std::size_t query;
        std::size_t row;
        std::int32_t distance;
    };

    void settle(NumberRange rows, const std::vector<std::uint32_t>& queries);
    void take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) override;
    void push_waiting();

    const GroupSource& codes_;
    const RowEntries& entries_;
    const CodeView queries_;
    TopK* const nearest_;
    std::vector<std::uint32_t> all_;  // the numbers of the queries
    const std::size_t stride_;        // bytes of a prepared query
    Array<std::uint8_t> prepared_;
    std::vector<std::uint16_t> thresholds_;
    Array<std::uint8_t> scratch_;
    Array<std::uint16_t> sample_;  // distances of a query

    // Of the comparison under way:
    NumberRange rows_{0, 0};
    std::size_t first_group_ = 0;
    Hit waiting_[kMostWaiting];
    std::size_t n_waiting_ = 0;
};

/// Compare all queries with the codes of these groups.
void scan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block, NumberRange groups,
          Stopper& stopper);

/// Largest block of queries for one scan: large enough to repay reading the codes from memory, small enough that the
/// queries and their results stay in the second-level cache.
std::size_t most_queries_at_once(std::size_t n_bytes, const Wanted& wanted);

}  // namespace fasthash
