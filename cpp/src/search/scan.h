// The scan: compares a block of queries with every code, or with some ranges of them.
//
// Called by segments without a better plan, for large blocks of queries, and by ClusterSearch. Reads byte-major groups
// of 64 codes.
#pragma once

#include <algorithm>
#include <vector>

#include "codes/byte_major_codes.h"
#include "fasthash/codes.h"
#include "fasthash/search.h"
#include "fasthash/topk.h"
#include "platform/number_range.h"
#include "platform/stopper.h"
#include "search/row_entries.h"
#include "search/sample.h"
#include "search/waiting_hits.h"

namespace fasthash {

class SafeCuts;

/// Queries that are searched together, and their results so far.
struct QueryBlock {
    CodeView queries;
    TopK* nearest;      ///< one for each
    QueryStats* stats;  ///< one for each, or null
    bool leads;         ///< true for the first segment, whose plan is reported
    double share = 1;   ///< of the codes, which a search over clusters may compare before it ends
    /// Of a pruned search whose result is wanted (safe_cuts.h), else null. Only codes that it keeps for certain are
    /// pushed, and a query ends before the first code whose fate is unknown.
    const SafeCuts* safe_cuts = nullptr;

    /// Add the work done for query q to its statistics.
    void note(std::size_t q, const QueryStats& work) const;
};

/// Groups of one call of a kernel: they stay in the first-level cache while all queries are compared with them.
inline std::size_t groups_of_call(std::size_t n_bytes) {
    constexpr std::size_t kBytes = 16 * 1024;
    return std::max<std::size_t>(1, kBytes / (kGroup * n_bytes));
}

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
    /// Push the hits whose ids have not been looked up yet. Comes after the last run().
    void finish() { waiting_.push_all(); }

 private:
    std::size_t take_sample(NumberRange groups, const std::vector<std::uint32_t>& queries, Stopper& stopper);
    void compare(NumberRange groups, const std::vector<std::uint32_t>& queries, Stopper& stopper);
    void take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) override;
    // A query that was limited to distances below a code of unknown fate may never have k.
    bool needs_sample(std::size_t query) const {
        const bool limited = safe_cuts_ != nullptr && nearest_[query].threshold() < static_cast<int>(n_bits());
        return !nearest_[query].has_k() && !limited;
    }
    std::size_t n_bits() const { return queries_.n_bytes * 8; }
    bool is_kept(std::size_t query, const std::uint8_t* group, std::size_t i, std::int32_t distance);

    const GroupSource& codes_;
    const RowEntries& entries_;
    const CodeView queries_;
    TopK* const nearest_;
    const SafeCuts* const safe_cuts_;
    const std::size_t most_dropped_;
    std::vector<std::size_t> n_dropped_;  // with safe_cuts_: codes of each query that the pruned search drops
    std::vector<std::uint32_t> all_;      // the numbers of the queries
    const std::size_t stride_;            // bytes of a prepared query
    Array<std::uint8_t> prepared_;
    Array<std::uint8_t> scratch_;
    WaitingHits waiting_;
    Sample sample_;
    std::vector<std::uint32_t> with_sample_, without_sample_;  // queries

    // Of the comparison under way:
    NumberRange rows_{0, 0};
    std::size_t first_group_ = 0;
    const std::uint8_t* groups_ = nullptr;
};

/// Bit i: flags[i], which is 0 or 1.
inline std::uint64_t bits_of(const std::uint8_t (&flags)[kGroup]) {
    std::uint64_t bits = 0;
    for (std::size_t i = 0; i < kGroup; i += 8) {
        std::uint64_t word = 0;
        for (std::size_t j = 0; j < 8; ++j) word |= std::uint64_t{flags[i + j]} << 8 * j;  // one load on most machines
        bits |= (word * 0x0102040810204080u >> 56) << i;
    }
    return bits;
}

/// Bit i: row i of a group is within the threshold.
inline std::uint64_t rows_within(std::int32_t threshold, const std::uint16_t* distances) {
    std::uint8_t within[kGroup];
    for (std::size_t i = 0; i < kGroup; ++i) within[i] = distances[i] <= threshold;
    return bits_of(within);
}

/// Bit i: row first_row + i lies in the range.
inline std::uint64_t rows_of_group(NumberRange range, std::size_t first_row) {
    std::uint64_t rows = ~std::uint64_t{0};
    if (first_row < range.begin) rows &= ~std::uint64_t{0} << (range.begin - first_row);
    if (first_row + kGroup > range.end) rows &= ~std::uint64_t{0} >> (first_row + kGroup - range.end);
    return rows;
}

/// Compare all queries with the codes of these groups.
void scan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block, NumberRange groups,
          Stopper& stopper);

/// Largest block of queries for one scan: large enough to repay reading the codes from memory, small enough that the
/// queries and their results stay in the second-level cache.
std::size_t most_queries_at_once(std::size_t n_bytes, const Wanted& wanted);

}  // namespace fasthash
