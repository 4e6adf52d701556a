// Sorts codes by (code, id), on all threads: a radix sort on the leading bits, then a sort of each bucket.
//
// Used to build sorted segments, id maps and GPU galleries.
#pragma once

#include <vector>

#include "fasthash/codes.h"
#include "platform/array.h"
#include "platform/stopper.h"

namespace fasthash {

/// Yields the sorted rows range by range. Large inputs come in 16 ranges, so that sorted copies take little memory
/// beside the codes. Null `ids` stand for ids that ascend with the rows. Fewer than 2^32 codes.
class SortedRanges {
 public:
    /// Codes, ids and the stopper must outlive this object.
    SortedRanges(CodeView codes, const std::int64_t* ids, Stopper& stopper);

    /// Sort the next range; false at the end. Throws Interrupted, or ArgumentError if the codes have changed meanwhile.
    bool next();

    /// The rows of the current range, sorted.
    std::size_t n() const { return rows_.size(); }
    const std::uint8_t* code(std::size_t i) const { return sorted_.data() + i * codes_.n_bytes; }
    std::uint32_t row(std::size_t i) const { return rows_[i]; }
    const Array<std::uint32_t>& rows() const { return rows_; }

 private:
    std::size_t value_of(const std::uint8_t* code) const {
        return two_bytes_ ? std::size_t{code[0]} << 8 | code[1] : code[0];
    }
    std::size_t n_values() const { return std::size_t{1} << (two_bytes_ ? 16 : 8); }
    std::size_t n_chunks() const { return begin_.size() - 1; }
    void gather(std::size_t chunk, std::size_t first_value, std::size_t end_value);
    void sort_buckets(std::size_t first_value, std::size_t end_value);

    const CodeView codes_;
    const std::int64_t* ids_;
    Stopper& stopper_;
    const bool two_bytes_;
    std::vector<Array<std::size_t>> begin_;  // per chunk and value: first position; the last array has the ends
    std::size_t value_ = 0;                  // first value of the next range
    Array<std::uint8_t> sorted_;
    Array<std::uint32_t> rows_;
};

}  // namespace fasthash
