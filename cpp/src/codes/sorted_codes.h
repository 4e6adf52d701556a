// Distinct codes, sorted by their bytes; each is a row, stored once with the ids of its entries.
//
// Used by SortedSegment, and to make ArrangedCodes. The ids of a row ascend.
#pragma once

#include <optional>
#include <vector>

#include "codes/byte_major_codes.h"
#include "codes/row_ids.h"
#include "fasthash/codes.h"
#include "platform/array.h"
#include "platform/prefetch.h"

namespace fasthash {

/// First row of each value of the n_bits leading bits; the last element is the number of rows. n_bits is independent of
/// the levels of the codes.
struct PrefixDirectory {
    std::size_t n_bits = 0;
    Array<std::uint32_t> begin;
};

/// The codes are stored in one of three layouts:
/// rows: whole codes, for searches that look up prefixes;
/// tails: rows without their prefix bytes, which the directory implies, for least memory;
/// byte-major: for scans.
class SortedCodes final : public GroupSource, public RowIds {
 public:
    explicit SortedCodes(std::size_t n_bytes) : n_bytes_(n_bytes) {}

    /// Sorted rows, runs and ids from a file, checked by the caller.
    SortedCodes(std::size_t n_bytes, Array<std::uint8_t> rows, DuplicateRuns runs, PackedNumbers ids,
                IdSummary summary);
    /// The same, of byte-major codes.
    SortedCodes(ByteMajorCodes codes, DuplicateRuns runs, PackedNumbers ids, IdSummary summary);

    std::size_t size() const override { return n_rows(); }
    std::size_t n_bytes() const override { return n_bytes_; }
    std::size_t nbytes() const;

    /// The rows first .. end as whole codes: in place if stored as rows, else decoded into `scratch`.
    CodeView codes(std::size_t first, std::size_t end, Array<std::uint8_t>& scratch) const;

    const std::uint8_t* groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const override;
    /// Rows or tails, tail_bytes() wide. Null if the layout is byte-major.
    const std::uint8_t* tails() const { return byte_major_ ? nullptr : tails_.data(); }
    void prefetch_code(std::size_t row) const {
        if (!byte_major_) prefetch_line(tails_.data() + row * tail_bytes());
    }
    std::size_t tail_bytes() const { return n_bytes_ - n_dropped_; }
    std::size_t n_dropped() const { return n_dropped_; }
    const PrefixDirectory& directory() const { return directory_; }

    // Conversions from rows to the layout of a plan.
    void hold_byte_major();
    /// The other way.
    void hold_rows();
    void add_directory(std::size_t n_bits);
    /// Takes the directory of a file, whose values ascend from 0 to the number of rows.
    void take_directory(PrefixDirectory directory) { directory_ = std::move(directory); }
    /// Stop storing the first n_bytes of each row. The directory must cover exactly these bytes.
    void drop_prefix(std::size_t n_bytes);
    /// Free the codes, which were stored as rows; runs and ids stay.
    void release_codes() { tails_ = {}; }

 private:
    friend class SortedCodesBuilder;

    SortedCodes(std::size_t n_bytes, std::size_t n_entries, std::int64_t smallest_id, std::int64_t largest_id)
        : RowIds(n_entries, smallest_id, largest_id), n_bytes_(n_bytes) {
        tails_.reserve(n_entries * n_bytes);  // untouched pages take no memory
    }

    std::size_t n_bytes_;
    std::size_t n_dropped_ = 0;
    Array<std::uint8_t> tails_;
    std::optional<ByteMajorCodes> byte_major_;
    PrefixDirectory directory_;
};

/// Builds SortedCodes from entries sorted by (code, id).
class SortedCodesBuilder {
 public:
    /// All ids lie in smallest_id .. largest_id.
    SortedCodesBuilder(std::size_t n_bytes, std::size_t n_entries, std::int64_t smallest_id, std::int64_t largest_id);

    /// Append an entry. False, and nothing appended, if it does not follow the last one in the order of (code, id).
    bool append(const std::uint8_t* code, std::int64_t id);
    SortedCodes finish();

 private:
    SortedCodes sorted_;
    std::int64_t last_id_ = 0;
};

/// Iterates over the entries, sorted by (code, id).
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
    std::size_t row_end_ = 0;  // one past the last entry of the row
    std::size_t piece_begin_ = 0;
    CodeView piece_{nullptr, 0, 0};
    Array<std::uint8_t> scratch_;
};

}  // namespace fasthash
