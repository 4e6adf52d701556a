// Byte-major codes: groups of 64, stored byte by byte. The layout that scans read.
//
// Used by ByteMajorSegment, ArrangedCodes, LevelTree, and by SortedCodes with the scan plan. Rows that pad the last
// group are zero.
#pragma once

#include <algorithm>

#include "fasthash/codes.h"
#include "kernels/kernels.h"
#include "platform/array.h"

namespace fasthash {

/// Codes that can be read as byte-major groups, in place or converted on demand.
class GroupSource {
 public:
    virtual std::size_t size() const = 0;
    virtual std::size_t n_bytes() const = 0;
    /// The groups first .. first + n, possibly converted into `scratch`. Padding rows of the last group are undefined.
    virtual const std::uint8_t* groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const = 0;

    std::size_t n_groups() const { return (size() + kGroup - 1) / kGroup; }

 protected:
    ~GroupSource() = default;
};

/// Convert rows to byte-major groups; the last group is padded with zeros.
void to_byte_major(CodeView rows, std::uint8_t* groups);

class ByteMajorCodes final : public GroupSource {
 public:
    explicit ByteMajorCodes(std::size_t n_bytes) : n_bytes_(n_bytes) {}

    /// Takes byte-major groups, the last one padded with zeros.
    ByteMajorCodes(std::size_t n_bytes, std::size_t n, Array<std::uint8_t> groups)
        : n_bytes_(n_bytes), n_(n), data_(std::move(groups)) {}
    /// Converts rows in place: a group and its 64 rows have the same size.
    static ByteMajorCodes from_rows(Array<std::uint8_t> rows, std::size_t n_bytes);

    std::size_t size() const override { return n_; }
    std::size_t n_bytes() const override { return n_bytes_; }
    const std::uint8_t* groups(std::size_t first, std::size_t, Array<std::uint8_t>&) const override {
        return group(first);
    }
    std::size_t nbytes() const { return data_.nbytes(); }
    /// The groups, the last one padded with zeros.
    const Array<std::uint8_t>& stored() const { return data_; }

    /// Codes begin .. begin + n as rows.
    void copy_rows(std::size_t begin, std::size_t n, std::uint8_t* rows) const;

 private:
    const std::uint8_t* group(std::size_t g) const { return data_.data() + g * kGroup * n_bytes_; }
    std::size_t padded_bytes(std::size_t n) const { return (n + kGroup - 1) / kGroup * kGroup * n_bytes_; }

    std::size_t n_bytes_;
    std::size_t n_ = 0;
    Array<std::uint8_t> data_;  // padded with zeros to whole groups
};

}  // namespace fasthash
