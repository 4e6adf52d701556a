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
    void run(NumberRange rows, Stopper& stopper);
    /// Compare some queries, at least one, with these rows.
    void run(NumberRange rows, const std::vector<std::uint32_t>& queries, Stopper& stopper);

 private:
    static constexpr std::size_t kMostWaiting = 64;

    struct Hit {
        std::size_t slot;
        std::size_t row;
        std::int32_t distance;
    };

    std::size_t query_of(std::size_t slot) const { return slots_ == nullptr ? slot : (*slots_)[slot]; }
    void choose(const std::vector<std::uint32_t>& queries);
    void compare(NumberRange rows, std::size_t n_slots, const std::uint8_t* prepared, Stopper& stopper);
    void take(std::size_t slot, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) override;
    void push_waiting();

    const GroupSource& codes_;
    const RowEntries& entries_;
    const CodeView queries_;
    TopK* const nearest_;
    const std::size_t stride_;      // bytes of a prepared query
    Array<std::uint8_t> prepared_;  // all queries
    Array<std::uint8_t> gathered_;  // the chosen queries, in the order of their slots
    std::vector<std::uint32_t> chosen_;
    Array<std::uint8_t> scratch_;

    // Of the comparison under way:
    const std::vector<std::uint32_t>* slots_ = nullptr;  // the query in each slot; null: query i is in slot i
    std::vector<std::uint16_t> thresholds_;              // of each slot
    NumberRange rows_{0, 0};
    std::size_t first_group_ = 0;
    Hit waiting_[kMostWaiting];
    std::size_t n_waiting_ = 0;
};

/// Compare all queries with the codes of these groups.
void scan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block, NumberRange groups,
          Stopper& stopper);

/// Largest block of queries for one scan: large enough to repay reading the codes from memory, small enough to stay in
/// the second-level cache.
std::size_t most_queries_at_once(std::size_t n_bytes);

}  // namespace fasthash
