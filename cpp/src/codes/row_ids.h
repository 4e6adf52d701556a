// The ids of rows of distinct codes: one for most rows, several for duplicate codes.
//
// Base of SortedCodes and ArrangedCodes, which hold the codes of the rows. The ids of a row ascend.
#pragma once

#include "codes/duplicate_runs.h"
#include "codes/id_summary.h"
#include "codes/packed_numbers.h"
#include "kernels/kernels.h"
#include "platform/number_range.h"

namespace fasthash {

class RowIds {
 public:
    /// From a file, checked by the caller.
    RowIds(DuplicateRuns runs, PackedNumbers ids, IdSummary summary);

    std::size_t n_rows() const { return runs_.n_rows(); }
    std::size_t n_entries() const { return runs_.n_entries(); }

    std::int64_t id(std::size_t entry) const {
        return counted_ ? smallest_id_ + static_cast<std::int64_t>(entry) : ids_[entry];
    }
    /// Range of the ids.
    std::int64_t smallest_id() const { return smallest_id_; }
    std::int64_t largest_id() const { return largest_id_; }
    NumberRange entries(std::size_t row) const { return {runs_.begin(row), runs_.end(row)}; }
    const DuplicateRuns& runs() const { return runs_; }
    /// The ids as they are stored; empty if entry i has the id smallest_id() + i.
    const PackedNumbers& packed_ids() const { return ids_; }
    /// The row of an entry.
    std::size_t row_of(std::size_t entry, std::size_t row_before = 0) const { return runs_.row_of(entry, row_before); }
    /// Number of entries in rows first_row .. end_row.
    std::size_t n_entries(std::size_t first_row, std::size_t end_row) const {
        return runs_.begin(end_row) - runs_.begin(first_row);
    }

    void prefetch(std::size_t row) const {
        if (!counted_) ids_.prefetch(runs_.prefetch(row));
    }
    /// The smallest id in a group of kGroup rows.
    std::int64_t least_id(std::size_t group) const { return counted_ ? id(group * kGroup) : least_ids_[group]; }

 protected:
    RowIds() = default;
    /// No rows yet; all ids that will be appended lie in smallest_id .. largest_id.
    RowIds(std::size_t n_entries, std::int64_t smallest_id, std::int64_t largest_id);

    /// Append an entry, in a row of its own or in the last one.
    void append(std::int64_t id, bool new_row);
    /// End appending. Ids that ascend by one, each in a row of its own, are then not stored.
    void finish();
    std::size_t nbytes_of_ids() const { return runs_.nbytes() + ids_.nbytes() + least_ids_.nbytes(); }

 private:
    DuplicateRuns runs_;
    std::int64_t smallest_id_ = 0;
    std::int64_t largest_id_ = -1;
    PackedNumbers ids_;
    PackedNumbers least_ids_;  // per group of kGroup rows
    bool by_one_ = true;       // so far, ids ascend by one and no row has two
    bool counted_ = false;     // entry i has the id smallest_id_ + i, and ids_ and least_ids_ are empty
};

}  // namespace fasthash
