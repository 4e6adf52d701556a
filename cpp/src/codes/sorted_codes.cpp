#include "codes/sorted_codes.h"

#include <algorithm>
#include <cstring>

#include "codes/code_bits.h"
#include "fasthash/threads.h"

namespace fasthash {

SortedCodes::SortedCodes(std::size_t n_bytes, Array<std::uint8_t> rows, DuplicateRuns runs, PackedNumbers ids,
                         IdSummary summary)
    : RowIds(std::move(runs), std::move(ids), std::move(summary)), n_bytes_(n_bytes), tails_(std::move(rows)) {}

SortedCodes::SortedCodes(ByteMajorCodes codes, DuplicateRuns runs, PackedNumbers ids, IdSummary summary)
    : RowIds(std::move(runs), std::move(ids), std::move(summary)),
      n_bytes_(codes.n_bytes()),
      byte_major_(std::move(codes)) {}

std::size_t SortedCodes::nbytes() const {
    return tails_.nbytes() + (byte_major_ ? byte_major_->nbytes() : 0) + directory_.begin.nbytes() + nbytes_of_ids();
}

CodeView SortedCodes::codes(std::size_t first, std::size_t end, Array<std::uint8_t>& scratch) const {
    if (!byte_major_ && n_dropped_ == 0) return {tails_.data() + first * n_bytes_, end - first, n_bytes_};
    scratch.resize((end - first) * n_bytes_);
    if (byte_major_) {
        byte_major_->copy_rows(first, end - first, scratch.data());
    } else {
        const Array<std::uint32_t>& begin = directory_.begin;
        auto prefix = static_cast<std::size_t>(std::upper_bound(begin.begin(), begin.end(), first) - begin.begin() - 1);
        for (std::size_t row = first; row < end; ++row) {
            while (begin[prefix + 1] <= row) ++prefix;
            std::uint8_t* code = scratch.data() + (row - first) * n_bytes_;
            for (std::size_t b = 0; b < n_dropped_; ++b) {
                code[b] = static_cast<std::uint8_t>(prefix >> 8 * (n_dropped_ - 1 - b));
            }
            std::memcpy(code + n_dropped_, tails_.data() + row * tail_bytes(), tail_bytes());
        }
    }
    return {scratch.data(), end - first, n_bytes_};
}

const std::uint8_t* SortedCodes::groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const {
    if (byte_major_) return byte_major_->groups(first, n, scratch);
    Array<std::uint8_t> decoded;
    scratch.resize(n * kGroup * n_bytes_);
    to_byte_major(codes(first * kGroup, std::min((first + n) * kGroup, n_rows()), decoded), scratch.data());
    return scratch.data();
}

void SortedCodes::hold_byte_major() {
    byte_major_.emplace(ByteMajorCodes::from_rows(std::exchange(tails_, {}), n_bytes_));
}

void SortedCodes::hold_rows() {
    tails_.resize(n_rows() * n_bytes_);
    byte_major_->copy_rows(0, n_rows(), tails_.data());
    byte_major_.reset();
}

void SortedCodes::add_directory(std::size_t n_bits) {
    directory_.n_bits = n_bits;
    const std::size_t n_values = std::size_t{1} << n_bits;
    directory_.begin.resize(n_values + 1);
    const auto value_of = [&](std::size_t row) -> std::size_t {
        return code_bits(tails_.data() + row * n_bytes_, n_bytes_, 0, n_bits);
    };
    // A row that differs in value from the previous one begins its own value and all empty values in between.
    constexpr std::size_t kChunks = 16;
    parallel_for(kChunks, [&](std::size_t chunk) {
        const NumberRange rows = chunk_of(n_rows(), kChunks, chunk);
        std::size_t value = rows.begin == 0 || rows.size() == 0 ? 0 : value_of(rows.begin - 1) + 1;
        for (std::size_t row = rows.begin; row < rows.end; ++row) {
            const std::size_t end = value_of(row) + 1;
            for (; value < end; ++value) directory_.begin[value] = static_cast<std::uint32_t>(row);
        }
    });
    for (std::size_t value = n_rows() == 0 ? 0 : value_of(n_rows() - 1) + 1; value <= n_values; ++value) {
        directory_.begin[value] = static_cast<std::uint32_t>(n_rows());
    }
}

void SortedCodes::drop_prefix(std::size_t n_bytes) {
    const std::size_t width = n_bytes_ - n_bytes;
    for (std::size_t row = 0; row < n_rows();
         ++row) {  // in ascending order, so that no row is overwritten before it moves
        std::memmove(tails_.data() + row * width, tails_.data() + row * n_bytes_ + n_bytes, width);
    }
    tails_.resize(n_rows() * width);
    tails_.shrink_to_fit();
    n_dropped_ = n_bytes;
}

SortedCodesBuilder::SortedCodesBuilder(std::size_t n_bytes, std::size_t n_entries, std::int64_t smallest_id,
                                       std::int64_t largest_id)
    : sorted_(n_bytes, n_entries, smallest_id, largest_id) {}

bool SortedCodesBuilder::append(const std::uint8_t* code, std::int64_t id) {
    const std::size_t n_bytes = sorted_.n_bytes_;
    int order = -1;  // of the last code and this one
    if (sorted_.n_entries() > 0) {
        order = std::memcmp(sorted_.tails_.end() - n_bytes, code, n_bytes);
        if (order > 0 || (order == 0 && last_id_ >= id)) return false;
    }
    if (order < 0) sorted_.tails_.append(code, n_bytes);
    sorted_.append(id, order < 0);
    last_id_ = id;
    return true;
}

SortedCodes SortedCodesBuilder::finish() {
    sorted_.tails_.shrink_to_fit();
    sorted_.finish();
    return std::move(sorted_);
}

void SortedCodesCursor::load() {
    row_end_ = sorted_->entries(row_).end;
    if (row_ < piece_begin_ + piece_.n) return;
    piece_begin_ = row_;
    piece_ = sorted_->codes(row_, std::min(row_ + kPiece, sorted_->n_rows()), scratch_);
}

}  // namespace fasthash
