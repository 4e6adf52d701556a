// Packed codes and their levels.
//
// Used by every part of the core. Bits are ordered as by numpy.packbits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fasthash {

constexpr std::size_t kMaxBits = 4096;

/// Codes in memory owned elsewhere: `n` rows of `n_bytes` bytes each, without gaps.
/// Bit j of a code is bit 7 - j % 8 of byte j / 8 (the order of numpy.packbits). The low bits of the last byte that no
/// bit of the code uses, the padding, are zero.
struct CodeView {
    const std::uint8_t* data;
    std::size_t n;
    std::size_t n_bytes;

    const std::uint8_t* row(std::size_t i) const { return data + i * n_bytes; }
};

/// The widths of the levels of a code, coarse first; a level is a byte range of the code.
class LevelLayout {
 public:
    /// Widths in bits: each positive, together at most kMaxBits; all but the last are multiples of 8, so that a level
    /// begins at a byte. Throws ArgumentError.
    explicit LevelLayout(std::vector<std::size_t> level_bits);

    std::size_t n_levels() const { return level_bits_.size(); }
    std::size_t n_bytes() const { return offsets_.back(); }
    std::size_t n_bits() const { return n_bits_; }
    /// Low bits of the last byte that no bit of a code uses, 0 to 7.
    std::size_t padding_bits() const { return n_bytes() * 8 - n_bits_; }
    /// First byte of a level; offset(n_levels()) is the width of the whole code in bytes.
    std::size_t offset(std::size_t level) const { return offsets_[level]; }
    std::size_t level_bytes(std::size_t level) const { return offsets_[level + 1] - offsets_[level]; }
    const std::vector<std::size_t>& level_bits() const { return level_bits_; }
    /// "(8, 16, 40)", for messages.
    std::string str() const;

 private:
    std::vector<std::size_t> level_bits_;
    std::vector<std::size_t> offsets_;
    std::size_t n_bits_ = 0;
};

}  // namespace fasthash
