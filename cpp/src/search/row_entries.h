// What stands behind the rows that a search compares: ids, and which of them it may find.
#pragma once

#include "codes/sorted_codes.h"
#include "fasthash/topk.h"
#include "search/visibility.h"

namespace fasthash {

/// What stands behind the rows of codes: ids, one or several a row.
class RowEntries {
 public:
    virtual void push(std::size_t row, std::int32_t distance, TopK& nearest) const = 0;
    /// A push of the row is to come.
    virtual void prefetch(std::size_t row) const = 0;
    /// No entry behind the rows of a group of kGroup has a smaller id.
    virtual std::int64_t least_id(std::size_t group) const = 0;
    /// Rows of a group behind which there may be an entry that is wanted, as bits.
    virtual std::uint64_t wanted_rows(std::size_t group) const = 0;

 protected:
    ~RowEntries() = default;
};

/// The entries behind the rows that a search may find.
class SortedEntries final : public RowEntries {
 public:
    SortedEntries(const SortedCodes& codes, Visibility visibility) : codes_(codes), visibility_(visibility) {}

    /// Whether some entries must not be found.
    bool restricted() const { return !visibility_.all(); }
    void push(std::size_t row, std::int32_t distance, TopK& nearest) const override;
    void prefetch(std::size_t row) const override { codes_.prefetch(row); }
    std::int64_t least_id(std::size_t group) const override { return codes_.least_id(group); }
    std::uint64_t wanted_rows(std::size_t) const override { return ~std::uint64_t{0}; }

 private:
    const SortedCodes& codes_;
    Visibility visibility_;
};

}  // namespace fasthash
