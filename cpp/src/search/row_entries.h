// The entries of the rows that a search compares.
//
// Searches compare rows of codes and push the entries of near rows into a TopK. Hidden entries are never pushed.
#pragma once

#include "codes/row_ids.h"
#include "fasthash/topk.h"
#include "search/visibility.h"

namespace fasthash {

/// Maps rows of codes to entries: one or several per row.
class RowEntries {
 public:
    virtual void push(std::size_t row, std::int32_t distance, TopK& nearest) const = 0;
    /// The same for a row whose first entry was counted by TopK::expect(). Only if mostly_one().
    virtual void push_expected(std::size_t row, std::int32_t distance, TopK& nearest) const = 0;
    /// Whether some entries are hidden.
    virtual bool restricted() const = 0;
    /// Whether ids are read from memory, not computed.
    virtual bool stored() const = 0;
    /// Whether each row has an entry that is not hidden, and hardly any row several.
    virtual bool mostly_one() const = 0;
    /// Prefetch the entries of a row that will be pushed.
    virtual void prefetch(std::size_t row) const = 0;
    /// A lower bound of the ids in a group of kGroup rows.
    virtual std::int64_t least_id(std::size_t group) const = 0;
    /// Bit i: row i of the group may have a visible entry.
    virtual std::uint64_t wanted_rows(std::size_t group) const = 0;

 protected:
    ~RowEntries() = default;
};

/// The visible entries of distinct codes.
class DistinctEntries final : public RowEntries {
 public:
    DistinctEntries(const RowIds& ids, Visibility visibility) : ids_(ids), visibility_(visibility) {}

    void push(std::size_t row, std::int32_t distance, TopK& nearest) const override;
    void push_expected(std::size_t row, std::int32_t distance, TopK& nearest) const override;
    bool restricted() const override { return !visibility_.all(); }
    bool stored() const override { return ids_.packed_ids().size() > 0 || ids_.n_entries() > ids_.n_rows(); }
    bool mostly_one() const override {
        return visibility_.all() && ids_.n_entries() - ids_.n_rows() <= ids_.n_rows() / 32;
    }
    void prefetch(std::size_t row) const override { ids_.prefetch(row); }
    std::int64_t least_id(std::size_t group) const override { return ids_.least_id(group); }
    std::uint64_t wanted_rows(std::size_t) const override { return ~std::uint64_t{0}; }

 private:
    const RowIds& ids_;
    Visibility visibility_;
};

}  // namespace fasthash
