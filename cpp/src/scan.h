// The exhaustive search: every query against every code, blocks against blocks, on all threads.
#pragma once

#include "fasthash/codes.h"
#include "fasthash/topk.h"
#include "sliced_codes.h"
#include "stopper.h"

namespace fasthash {

/// What stands behind the rows of codes: ids, one or several a row.
class RowItems {
 public:
    virtual void push(std::size_t row, std::int32_t distance, TopK& nearest) const = 0;
    /// A push of the row is to come.
    virtual void prefetch(std::size_t row) const = 0;
    /// No item behind the rows of a group of kGroup has a smaller id.
    virtual std::int64_t least_id(std::size_t group) const = 0;
    /// Whether later rows have larger ids.
    virtual IdOrder order() const = 0;

 protected:
    ~RowItems() = default;
};

/// The k nearest items of each query; `distances` and `ids` take queries.n * k values.
void scan(const GroupSource& codes, const RowItems& items, CodeView queries, std::size_t k, std::int32_t* distances,
          std::int64_t* ids, Stopper& stopper);

}  // namespace fasthash
