// The exhaustive search: a block of queries against all codes, or a part of them.
#pragma once

#include "codes/byte_major_codes.h"
#include "fasthash/codes.h"
#include "fasthash/search.h"
#include "fasthash/topk.h"
#include "platform/number_range.h"
#include "platform/stopper.h"
#include "search/row_entries.h"

namespace fasthash {

/// Queries that are answered together, and what they have found so far.
struct QueryBlock {
    CodeView queries;
    TopK* nearest;      ///< one for each
    QueryStats* stats;  ///< one for each, or null
    bool leads;         ///< whether the segment that is searched is the first, by whose plan the search is named

    /// Account for the work that query q took.
    void note(std::size_t q, const QueryStats& work) const;
};

/// Compares all queries with the codes of some groups.
void scan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block, NumberRange groups,
          Stopper& stopper);

/// Most queries that a scan should take at once: enough that reading the codes from memory is paid for, few enough
/// that they stay in the second-level cache.
std::size_t most_queries_at_once(std::size_t n_bytes);

}  // namespace fasthash
