// Distinct codes in the order of their bytes, each stored once with the ids of its entries.
#pragma once

#include <optional>
#include <vector>

#include "codes/byte_major_codes.h"
#include "codes/duplicate_runs.h"
#include "codes/id_summary.h"
#include "codes/packed_numbers.h"
#include "fasthash/codes.h"
#include "platform/array.h"
#include "platform/number_range.h"

namespace fasthash {

/// First row of each value of some leading bits, and the number of rows at the end: a prefix tree of one level whose
/// depth is free of where the levels of the codes end.
struct PrefixDirectory {
    std::size_t n_bits = 0;
    Array<std::uint32_t> begin;
};

/// The codes are held in one of three forms:
/// rows: one after the other, for searches that jump to a prefix;
/// tails: rows without their first bytes, which the directory tells, for least memory;
/// byte-major: in the layout of exhaustive scans.
class SortedCodes final : public GroupSource {
 public:
    explicit SortedCodes(std::size_t n_bytes) : n_bytes_(n_bytes) {}

    /// Rows in order, runs and ids as they stand in a file, where they have been checked.
    SortedCodes(std::size_t n_bytes, Array<std::uint8_t> rows, DuplicateRuns runs, PackedNumbers ids,
                IdSummary summary);

    std::size_t size() const override { return n_rows(); }
    std::size_t n_bytes() const override { return n_bytes_; }
    std::size_t n_rows() const { return runs_.n_rows(); }
    std::size_t n_entries() const { return runs_.n_entries(); }
    std::size_t nbytes() const;

    std::int64_t id(std::size_t entry) const { return ids_[entry]; }
    /// Bounds of the ids.
    std::int64_t smallest_id() const { return smallest_id_; }
    std::int64_t largest_id() const { return largest_id_; }
    NumberRange entries(std::size_t row) const { return {runs_.begin(row), runs_.end(row)}; }
    const DuplicateRuns& runs() const { return runs_; }
    const PackedNumbers& ids() const { return ids_; }
    /// The row of an entry.
    std::size_t row_of(std::size_t entry, std::size_t row_before = 0) const { return runs_.row_of(entry, row_before); }
    /// Entries of some rows.
    std::size_t n_entries(std::size_t first_row, std::size_t end_row) const {
        return runs_.begin(end_row) - runs_.begin(first_row);
    }

    /// The rows first .. end as whole codes: in place where they are held so, else decoded into `scratch`.
    CodeView codes(std::size_t first, std::size_t end, Array<std::uint8_t>& scratch) const;

    const std::uint8_t* groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const override;
    /// Rows or tails, tail_bytes() wide. Null if the codes are held byte-major.
    const std::uint8_t* tails() const { return byte_major_ ? nullptr : tails_.data(); }
    std::size_t tail_bytes() const { return n_bytes_ - n_dropped_; }
    std::size_t n_dropped() const { return n_dropped_; }
    const PrefixDirectory& directory() const { return directory_; }

    // From rows, into the form that the plan of the searches wants.
    void hold_byte_major();
    void add_directory(std::size_t n_bits);
    /// The directory must cover just these bytes.
    void drop_prefix(std::size_t n_bytes);

    void prefetch(std::size_t row) const {
        runs_.prefetch(row);
        ids_.prefetch(row);  // near enough where few codes come twice
    }
    /// No entry behind the rows of a group of kGroup has a smaller id.
    std::int64_t least_id(std::size_t group) const { return least_ids_[group]; }

 private:
    friend class SortedCodesBuilder;

    std::size_t n_bytes_;
    std::size_t n_dropped_ = 0;
    Array<std::uint8_t> tails_;
    std::optional<ByteMajorCodes> byte_major_;
    PrefixDirectory directory_;
    DuplicateRuns runs_;
    std::int64_t smallest_id_ = 0;
    std::int64_t largest_id_ = -1;
    PackedNumbers ids_;
    PackedNumbers least_ids_;  // of each kGroup rows
};

/// Builds them from entries that arrive in the order of (code, id).
class SortedCodesBuilder {
 public:
    /// Ids lie between the two bounds.
    SortedCodesBuilder(std::size_t n_bytes, std::size_t n_entries, std::int64_t smallest_id, std::int64_t largest_id);

    /// False, and nothing added, if the entry does not come after the last one.
    bool append(const std::uint8_t* code, std::int64_t id);
    SortedCodes finish();

 private:
    SortedCodes sorted_;
    std::int64_t last_id_ = 0;
};

/// Walks the entries in the order of (code, id).
class SortedCodesCursor {
 public:
    explicit SortedCodesCursor(const SortedCodes& sorted) : sorted_(&sorted) {
        if (!done()) load();
    }

    bool done() const { return entry_ == sorted_->n_entries(); }
    const std::uint8_t* code() const { return piece_.row(row_ - piece_begin_); }
    std::int64_t id() const { return sorted_->id(entry_); }
    void next() {
        if (++entry_ < row_end_) return;
        ++row_;
        if (!done()) load();
    }

 private:
    static constexpr std::size_t kPiece = 1024;  // rows decoded at once

    void load();

    const SortedCodes* sorted_;
    std::size_t entry_ = 0;
    std::size_t row_ = 0;
    std::size_t row_end_ = 0;  // of its entries
    std::size_t piece_begin_ = 0;
    CodeView piece_{nullptr, 0, 0};
    Array<std::uint8_t> scratch_;
};

}  // namespace fasthash
