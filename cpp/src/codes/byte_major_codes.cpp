#include "codes/byte_major_codes.h"

#include <cstring>

namespace fasthash {
namespace {

// Exchanges the bits of `b` under `mask` with those of `a` that lie `shift` higher.
void exchange(std::uint64_t& a, std::uint64_t& b, unsigned shift, std::uint64_t mask) {
    const std::uint64_t difference = ((a >> shift) ^ b) & mask;
    b ^= difference;
    a ^= difference << shift;
}

// Eight rows of eight bytes become eight columns of them.
void transpose_8x8(std::uint64_t* words) {
    for (std::size_t i = 0; i < 4; ++i) exchange(words[i], words[i + 4], 32, 0x00000000ffffffffu);
    for (std::size_t i = 0; i < 8; i += 4) {
        exchange(words[i], words[i + 2], 16, 0x0000ffff0000ffffu);
        exchange(words[i + 1], words[i + 3], 16, 0x0000ffff0000ffffu);
    }
    for (std::size_t i = 0; i < 8; i += 2) exchange(words[i], words[i + 1], 8, 0x00ff00ff00ff00ffu);
}

void group_to_byte_major(CodeView rows, std::uint8_t* group) {
    const std::size_t n_whole = rows.n_bytes / 8 * 8;
    for (std::size_t i = 0; i < kGroup; i += 8) {
        for (std::size_t b = 0; b < n_whole; b += 8) {
            std::uint64_t words[8];
            for (std::size_t j = 0; j < 8; ++j) std::memcpy(&words[j], rows.row(i + j) + b, 8);
            transpose_8x8(words);
            for (std::size_t j = 0; j < 8; ++j) std::memcpy(group + (b + j) * kGroup + i, &words[j], 8);
        }
    }
    for (std::size_t b = n_whole; b < rows.n_bytes; ++b) {
        for (std::size_t i = 0; i < kGroup; ++i) group[b * kGroup + i] = rows.row(i)[b];
    }
}

}  // namespace

void to_byte_major(CodeView rows, std::uint8_t* groups) {
    const std::size_t n_whole = rows.n / kGroup * kGroup;
    for (std::size_t i = 0; i < n_whole; i += kGroup) {
        group_to_byte_major({rows.row(i), kGroup, rows.n_bytes}, groups + i * rows.n_bytes);
    }
    if (n_whole == rows.n) return;
    std::uint8_t* last = groups + n_whole * rows.n_bytes;
    std::memset(last, 0, kGroup * rows.n_bytes);
    for (std::size_t i = n_whole; i < rows.n; ++i) {
        for (std::size_t b = 0; b < rows.n_bytes; ++b) last[b * kGroup + i - n_whole] = rows.row(i)[b];
    }
}

ByteMajorCodes ByteMajorCodes::from_rows(Array<std::uint8_t> rows, std::size_t n_bytes) {
    ByteMajorCodes codes(n_bytes);
    codes.n_ = rows.size() / n_bytes;
    codes.data_ = std::move(rows);
    const std::size_t n_old = codes.data_.size();
    codes.data_.resize(codes.padded_bytes(codes.n_));
    if (!codes.data_.empty()) std::memset(codes.data_.data() + n_old, 0, codes.data_.size() - n_old);
    Array<std::uint8_t> rows_of_group(kGroup * n_bytes);
    for (std::size_t g = 0; g < codes.n_groups(); ++g) {
        std::uint8_t* group = codes.data_.data() + g * rows_of_group.size();
        std::memcpy(rows_of_group.data(), group, rows_of_group.size());
        to_byte_major({rows_of_group.data(), kGroup, n_bytes}, group);
    }
    return codes;
}

void ByteMajorCodes::copy_rows(std::size_t begin, std::size_t n, std::uint8_t* rows) const {
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t row = begin + i;
        const std::uint8_t* slot = group(row / kGroup) + row % kGroup;
        for (std::size_t b = 0; b < n_bytes_; ++b) rows[i * n_bytes_ + b] = slot[b * kGroup];
    }
}

}  // namespace fasthash
