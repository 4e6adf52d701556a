// The entries of the rows that a search compares.
//
// Searches compare rows of codes and push the entries of near rows into a TopK. Hidden entries are never pushed.
#pragma once

#include "codes/sorted_codes.h"
#include "fasthash/topk.h"
#include "search/visibility.h"

namespace fasthash {

/// Maps rows of codes to entries: one or several per row.
class RowEntries {
 public:
    virtual void push(std::size_t row, std::int32_t distance, TopK& nearest) const = 0;
    /// Prefetch the entries of a row that will be pushed.
    virtual void prefetch(std::size_t row) const = 0;
    /// A lower bound of the ids in a group of kGroup rows.
    virtual std::int64_t least_id(std::size_t group) const = 0;
    /// Bit i: row i of the group may have a visible entry.
    virtual std::uint64_t wanted_rows(std::size_t group) const = 0;

 protected:
    ~RowEntries() = default;
};

/// The visible entries of sorted codes.
class SortedEntries final : public RowEntries {
 public:
    SortedEntries(const SortedCodes& codes, Visibility visibility) : codes_(codes), visibility_(visibility) {}

    /// Whether some entries are hidden.
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
