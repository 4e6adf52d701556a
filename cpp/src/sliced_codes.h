// Codes in the layout that exhaustive scans read: groups of 64, byte by byte (see kernels.h).
#pragma once

#include <algorithm>

#include "array.h"
#include "fasthash/codes.h"
#include "kernels/kernels.h"

namespace fasthash {

/// Codes that can be read as groups of slices, in place or made on the way.
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

/// Makes groups of slices of rows; up to 63 rows that do not fill the last group are followed by zeros.
void slice_rows(CodeView rows, std::uint8_t* groups);

class SlicedCodes final : public GroupSource {
 public:
    explicit SlicedCodes(std::size_t n_bytes) : n_bytes_(n_bytes) {}

    /// Takes the memory of rows over: a group of slices has the bytes of 64 rows.
    static SlicedCodes from_rows(Array<std::uint8_t> rows, std::size_t n_bytes);

    std::size_t size() const override { return n_; }
    std::size_t n_bytes() const override { return n_bytes_; }
    const std::uint8_t* groups(std::size_t first, std::size_t, Array<std::uint8_t>&) const override {
        return group(first);
    }
    std::size_t nbytes() const { return data_.nbytes(); }

    /// Room for so many codes more, so that append cannot fail; grown by half at least if it must grow at all.
    void make_room(std::size_t n_more);
    void append(CodeView codes);
    void shrink_to_fit() { data_.shrink_to_fit(); }

    /// Codes begin .. begin + n as rows.
    void copy_rows(std::size_t begin, std::size_t n, std::uint8_t* rows) const;

    /// All codes as rows, piece by piece: call(CodeView).
    template <typename Call>
    void for_each_piece(Call call) const {
        constexpr std::size_t kPieceBytes = 1 << 20;
        const std::size_t n_piece = kPieceBytes / n_bytes_;
        Array<std::uint8_t> rows(std::min(n_, n_piece) * n_bytes_);
        for (std::size_t begin = 0; begin < n_; begin += n_piece) {
            const std::size_t n = std::min(n_piece, n_ - begin);
            copy_rows(begin, n, rows.data());
            call(CodeView{rows.data(), n, n_bytes_});
        }
    }

 private:
    const std::uint8_t* group(std::size_t g) const { return data_.data() + g * kGroup * n_bytes_; }
    std::size_t padded_bytes(std::size_t n) const { return (n + kGroup - 1) / kGroup * kGroup * n_bytes_; }

    std::size_t n_bytes_;
    std::size_t n_ = 0;
    Array<std::uint8_t> data_;  // the last group is filled up with zeros
};

}  // namespace fasthash
