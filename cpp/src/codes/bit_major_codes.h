// Bit-major codes: blocks of 512, stored bit by bit as planes. The layout of searches by Jaccard distance.
//
// Used by BitMajorSegment. Codes are in the order of their number of bits set, which bounds their distance to a query.
#pragma once

#include "codes/byte_major_codes.h"
#include "fasthash/codes.h"
#include "kernels/kernels.h"
#include "platform/array.h"
#include "platform/number_range.h"

namespace fasthash {

/// A block has a plane for each bit of a code: kPlaneWords words; the last block has as few words as its codes need.
/// Bits of the last word that stand for no code are zero.
class BitMajorCodes final : public GroupSource {
 public:
    static constexpr std::size_t kBlock = kPlaneWords * 64;

    /// From rows, in the order of their number of bits set.
    explicit BitMajorCodes(CodeView rows);
    /// From a file, checked by the caller. `count_begin`: the first code with 0, 1, ... n_bits bits set, then the
    /// number of codes.
    BitMajorCodes(std::size_t n_bytes, std::size_t n, Array<std::uint64_t> planes, Array<std::uint32_t> count_begin);

    std::size_t size() const override { return n_; }
    std::size_t n_bytes() const override { return n_bytes_; }
    std::size_t n_bits() const { return n_bytes_ * 8; }
    std::size_t n_blocks() const { return (n_ + kBlock - 1) / kBlock; }
    std::size_t nbytes() const { return planes_.nbytes() + count_begin_.nbytes(); }
    const Array<std::uint64_t>& planes() const { return planes_; }
    const Array<std::uint32_t>& count_begin() const { return count_begin_; }

    /// The planes of a block, and the words of each.
    const std::uint64_t* planes_of(std::size_t block) const { return planes_.data() + block * kPlaneWords * n_bits(); }
    std::size_t n_words(std::size_t block) const;
    /// The codes of a block.
    NumberRange codes_of(std::size_t block) const;
    /// Number of bits set in a code.
    std::size_t n_set(std::size_t code) const;

    const std::uint8_t* groups(std::size_t first, std::size_t n, Array<std::uint8_t>& scratch) const override;
    /// Write these codes as rows; `codes` must ascend.
    void copy_rows(const std::size_t* codes, std::size_t n, std::uint8_t* rows) const;

 private:
    std::size_t n_bytes_;
    std::size_t n_;
    Array<std::uint64_t> planes_;
    Array<std::uint32_t> count_begin_;
};

/// Number of bits set in a row.
std::size_t count_set(const std::uint8_t* row, std::size_t n_bytes);

}  // namespace fasthash
