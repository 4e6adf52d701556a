// Writer of a summary: the facts that opening a mapped file would have to compute; see ClusterParts.
//
// Used by the writers of indices (file_writer.cpp), which pass it each entry in the order of the file.
#pragma once

#include <algorithm>
#include <cstdint>

#include "codes/code_bits.h"
#include "codes/duplicate_runs.h"
#include "io/file_layout.h"
#include "io/section_writer.h"
#include "platform/array.h"

namespace fasthash {

class SummaryWriter {
 public:
    double cost = 0;  ///< of a query by tables

    /// For a header that tells the numbers of rows and clusters, and those of tables if there are any. `scanned`:
    /// whether no search uses a directory.
    SummaryWriter(RawHeader& raw, std::size_t n_bytes, bool scanned);
    /// The next entry and its code, which is read if there is a directory.
    void add(std::int64_t id, const DuplicateRuns& runs, const std::uint8_t* code) {
        if (begins_row(id, runs) && !begin_.empty()) ++begin_[code_bits(code, n_bytes_, 0, raw_.directory_bits) + 1];
    }
    /// The next entry of codes without a directory.
    void add(std::int64_t id, const DuplicateRuns& runs) { begins_row(id, runs); }
    /// Called once, after the last entry.
    void write(IndexWriter& writer);

 private:
    // Takes the id of the next entry; returns whether a row begins with it.
    bool begins_row(std::int64_t id, const DuplicateRuns& runs) {
        const std::uint64_t offset = static_cast<std::uint64_t>(id) - static_cast<std::uint64_t>(raw_.first_id);
        const bool begins = n_entries_++ == runs.begin(n_rows_);
        if (begins && n_rows_++ % kGroup == 0) least_.push_back(offset);
        least_[least_.size() - 1] = std::min(least_.back(), offset);
        largest_ = std::max(largest_, offset);
        return begins;
    }

    const RawHeader& raw_;
    const std::size_t n_bytes_;
    std::size_t n_entries_ = 0;
    std::size_t n_rows_ = 0;
    std::uint64_t largest_ = 0;
    Array<std::uint64_t> least_;
    Array<std::uint32_t> begin_;  // at value + 1, the number of its rows until all have come
};

}  // namespace fasthash
