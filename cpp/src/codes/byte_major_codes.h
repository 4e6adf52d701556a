// Codes in the layout that exhaustive scans read: groups of 64, byte by byte (see kernels.h).
#pragma once

#include <algorithm>

#include "fasthash/codes.h"
#include "kernels/kernels.h"
#include "platform/array.h"

namespace fasthash {

/// Codes that can be read as byte-major groups, in place or made on the way.
class GroupSource {
 public:
    virtual std::size_t size() const = 0;
    virtual std::size_t n_bytes() const = 0;
    /// The groups first .. first + n; the rows that the last one lacks are anything. `scratch` is where they may be
    /// made.
    virtual const std::uint8_t* groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const = 0;

    std::size_t n_groups() const { return (size() + kGroup - 1) / kGroup; }

 protected:
    ~GroupSource() = default;
};

/// Makes byte-major groups of rows; up to 63 rows that do not fill the last group are followed by zeros.
void to_byte_major(CodeView rows, std::uint8_t* groups);

class ByteMajorCodes final : public GroupSource {
 public:
    explicit ByteMajorCodes(std::size_t n_bytes) : n_bytes_(n_bytes) {}

    /// Groups that are made already, padded with zeros.
    ByteMajorCodes(std::size_t n_bytes, std::size_t n, Array<std::uint8_t> groups)
        : n_bytes_(n_bytes), n_(n), data_(std::move(groups)) {}
    /// Takes the memory of rows over: a byte-major group has the bytes of 64 rows.
    static ByteMajorCodes from_rows(Array<std::uint8_t> rows, std::size_t n_bytes);

    std::size_t size() const override { return n_; }
    std::size_t n_bytes() const override { return n_bytes_; }
    const std::uint8_t* groups(std::size_t first, std::size_t, Array<std::uint8_t>&) const override {
        return group(first);
    }
    std::size_t nbytes() const { return data_.nbytes(); }

    /// Codes begin .. begin + n as rows.
    void copy_rows(std::size_t begin, std::size_t n, std::uint8_t* rows) const;

 private:
    const std::uint8_t* group(std::size_t g) const { return data_.data() + g * kGroup * n_bytes_; }
    std::size_t padded_bytes(std::size_t n) const { return (n + kGroup - 1) / kGroup * kGroup * n_bytes_; }

    std::size_t n_bytes_;
    std::size_t n_ = 0;
    Array<std::uint8_t> data_;  // the last group is filled up with zeros
};

}  // namespace fasthash
