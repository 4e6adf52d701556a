// The scan: compares a block of queries with every code, or with a chunk of the codes.
//
// Called by segments without a better plan, and for large blocks of queries. Reads byte-major groups of 64 codes.
#pragma once

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

/// Compare all queries with the codes of these groups.
void scan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block, NumberRange groups,
          Stopper& stopper);

/// Largest block of queries for one scan: large enough to repay reading the codes from memory, small enough to stay in
/// the second-level cache.
std::size_t most_queries_at_once(std::size_t n_bytes);

}  // namespace fasthash
