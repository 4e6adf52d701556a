// The exhaustive search: a block of queries against all codes, or a part of them.
#pragma once

#include "fasthash/codes.h"
#include "fasthash/index.h"
#include "fasthash/topk.h"
#include "platform/number_range.h"
#include "codes/sliced_codes.h"
#include "platform/stopper.h"

namespace fasthash {

/// What stands behind the rows of codes: ids, one or several a row.
class RowItems {
 public:
    virtual void push(std::size_t row, std::int32_t distance, TopK& nearest) const = 0;
    /// A push of the row is to come.
    virtual void prefetch(std::size_t row) const = 0;
    /// No item behind the rows of a group of kGroup has a smaller id.
    virtual std::int64_t least_id(std::size_t group) const = 0;
    /// Rows of a group behind which there may be an item that is wanted, as bits.
    virtual std::uint64_t wanted_rows(std::size_t group) const = 0;

 protected:
    ~RowItems() = default;
};

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
void scan(const GroupSource& codes, const RowItems& items, const QueryBlock& block, NumberRange groups,
          Stopper& stopper);

/// Most queries that a scan should take at once: enough that reading the codes from memory is paid for, few enough
/// that they stay in the second-level cache.
std::size_t most_queries_at_once(std::size_t n_bytes);

}  // namespace fasthash
