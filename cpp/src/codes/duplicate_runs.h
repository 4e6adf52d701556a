// Maps rows of distinct codes to runs of entries: one entry for most rows, several for duplicate codes.
//
// Used by SortedCodes and the file format (section 'runs'). Entries are numbered in the order of their codes, so the
// entries of a row are consecutive.
#pragma once

#include "codes/code_bits.h"
#include "platform/array.h"
#include "platform/prefetch.h"

namespace fasthash {

/// A bit marks each row with several entries; a list has, for each marked row, the entries beyond the first of their
/// rows up to it. Memory: about 0.2 bytes a row, and 4 more for each marked one; none while no code is duplicate.
class DuplicateRuns {
 public:
    std::size_t n_rows() const { return n_rows_; }
    std::size_t n_entries() const { return n_entries_; }
    std::size_t nbytes() const { return marks_.nbytes() + ranks_.nbytes() + extras_.nbytes(); }

    DuplicateRuns() = default;
    /// Rows with one entry each.
    explicit DuplicateRuns(std::size_t n_rows) : n_rows_(n_rows), n_entries_(n_rows) {}
    /// From a file, checked by the caller: one extra for each mark, ascending.
    DuplicateRuns(std::size_t n_rows, std::size_t n_entries, Array<std::uint64_t> marks, Array<std::uint32_t> extras)
        : n_rows_(n_rows), n_entries_(n_entries), marks_(std::move(marks)), extras_(std::move(extras)) {
        if (extras_.empty()) return;
        ranks_.resize(marks_.size());
        std::uint32_t rank = 0;
        for (std::size_t i = 0; i < marks_.size(); ++i) {
            ranks_[i] = rank;
            rank += count_bits(marks_[i]);
        }
    }
    const Array<std::uint64_t>& marks() const { return marks_; }
    const Array<std::uint32_t>& ranks() const { return ranks_; }
    const Array<std::uint32_t>& extras() const { return extras_; }

    /// Append a row with one entry.
    void push_row() {
        if (n_rows_ % 64 == 0) {
            marks_.push_back(0);
            ranks_.push_back(static_cast<std::uint32_t>(extras_.size()));
        }
        ++n_rows_;
        ++n_entries_;
    }
    /// Append an entry to the last row.
    void push_entry() {
        const std::size_t row = n_rows_ - 1;
        const std::uint64_t bit = std::uint64_t{1} << row % 64;
        // extras_[i]: entries beyond the first of their rows, up to and including the i-th marked row.
        if ((marks_[row / 64] & bit) == 0) {
            marks_[row / 64] |= bit;
            extras_.push_back(extras_.empty() ? 0 : extras_.back());
        }
        ++extras_[extras_.size() - 1];
        ++n_entries_;
    }
    void shrink_to_fit() {
        if (extras_.empty()) {  // no duplicates: entry i is row i
            marks_ = {};
            ranks_ = {};
        }
        marks_.shrink_to_fit();
        ranks_.shrink_to_fit();
        extras_.shrink_to_fit();
    }

    /// Whether a row has several entries.
    bool is_shared(std::size_t row) const { return !extras_.empty() && (marks_[row / 64] >> row % 64 & 1) != 0; }
    /// First entry of a row; begin(n_rows()) is the number of entries.
    std::size_t begin(std::size_t row) const {
        if (extras_.empty()) return row;
        if (row == n_rows_) return n_entries_;
        return row + extras_before(row);
    }
    std::size_t end(std::size_t row) const { return begin(row + 1); }

    /// Begin to read what begin(row) reads; returns about what it will return: off by less than the entries of 64 rows.
    std::size_t prefetch(std::size_t row) const {
        if (extras_.empty()) return row;
        prefetch_line(marks_.data() + row / 64);
        const std::size_t rank = ranks_[row / 64];
        return row + (rank == 0 ? 0 : extras_[rank - 1]);
    }

    /// The row of an entry. `row_before`: a row at or before it; the nearer, the faster the search.
    std::size_t row_of(std::size_t entry, std::size_t row_before = 0) const {
        if (extras_.empty()) return entry;
        // Doubling steps of whole 64-row words, which need no bit counts, then bisection. The row is in low .. high.
        std::size_t low = row_before / 64 * 64, step = 64;
        while (low + step < n_rows_ && begin(low + step) <= entry) {
            low += step;
            step *= 2;
        }
        std::size_t high = low + step < n_rows_ ? low + step : n_rows_;
        while (high - low > 1) {
            std::size_t middle = low + (high - low) / 2;
            if (high - low >= 128) middle = middle / 64 * 64;
            (begin(middle) <= entry ? low : high) = middle;
        }
        return low;
    }

 private:
    std::size_t extras_before(std::size_t row) const {
        const std::uint64_t below = marks_[row / 64] & ((std::uint64_t{1} << row % 64) - 1);
        const std::size_t rank = ranks_[row / 64] + count_bits(below);
        return rank == 0 ? 0 : extras_[rank - 1];
    }

    std::size_t n_rows_ = 0;
    std::size_t n_entries_ = 0;
    Array<std::uint64_t> marks_;   // bit per row: set if it has several entries
    Array<std::uint32_t> ranks_;   // marked rows before each word of marks_
    Array<std::uint32_t> extras_;  // per marked row
};

}  // namespace fasthash
