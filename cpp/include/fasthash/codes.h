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
/// Bit j of a code is bit 7 - j % 8 of byte j / 8 (the order of numpy.packbits).
struct CodeView {
    const std::uint8_t* data;
    std::size_t n;
    std::size_t n_bytes;

    const std::uint8_t* row(std::size_t i) const { return data + i * n_bytes; }
};

/// The widths of the levels of a code, coarse first; a level is a byte range of the code.
class LevelLayout {
 public:
    /// Widths in bits: each a positive multiple of 8, together at most kMaxBits. Throws ArgumentError.
    explicit LevelLayout(std::vector<std::size_t> level_bits);

    std::size_t n_levels() const { return level_bits_.size(); }
    std::size_t n_bytes() const { return offsets_.back(); }
    std::size_t n_bits() const { return n_bytes() * 8; }
    /// First byte of a level; offset(n_levels()) is the width of the whole code in bytes.
    std::size_t offset(std::size_t level) const { return offsets_[level]; }
    std::size_t level_bytes(std::size_t level) const { return offsets_[level + 1] - offsets_[level]; }
    const std::vector<std::size_t>& level_bits() const { return level_bits_; }
    /// "(8, 16, 40)", for messages.
    std::string str() const;

 private:
    std::vector<std::size_t> level_bits_;
    std::vector<std::size_t> offsets_;
};

}  // namespace fasthash
