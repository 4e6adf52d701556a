// Packed integers: numbers of a known range, each in as many bytes as the range needs.
//
// Used for ids, rows and entries. The array ends with kSlack readable bytes.
#pragma once

#include <algorithm>
#include <cstring>

#include "platform/array.h"
#include "platform/prefetch.h"

namespace fasthash {

/// Values from `smallest` to `largest`, each in 1 to 8 bytes: ten million counted ids take 3 bytes each.
class PackedNumbers {
 public:
    static constexpr std::size_t kSlack = sizeof(std::uint64_t);  // each value is read as a whole word

    /// Bytes needed for numbers up to this one.
    static std::size_t width_for(std::uint64_t largest) {
        std::size_t width = 1;
        while (width < 8 && largest >> (8 * width) != 0) ++width;
        return width;
    }

    PackedNumbers() = default;
    PackedNumbers(std::int64_t smallest, std::int64_t largest) : smallest_(smallest) {
        const std::uint64_t range = static_cast<std::uint64_t>(largest) - static_cast<std::uint64_t>(smallest);
        width_ = width_for(range);
        mask_ = ~std::uint64_t{0} >> (64 - 8 * width_);
    }

    /// Numbers stored in `bytes`, `width` bytes each, as offsets from `smallest`; kSlack bytes follow them. Offsets
    /// above `most`, which only the bytes of a damaged file hold, are read as `most`.
    static PackedNumbers of_width(std::int64_t smallest, std::size_t width, Array<std::uint8_t> bytes = {},
                                  std::uint64_t most = ~std::uint64_t{0}) {
        PackedNumbers numbers;
        numbers.smallest_ = smallest;
        numbers.most_ = most;
        numbers.width_ = width;
        numbers.mask_ = ~std::uint64_t{0} >> (64 - 8 * width);
        numbers.bytes_ = std::move(bytes);
        return numbers;
    }

    std::size_t size() const { return bytes_.size() < kSlack ? 0 : (bytes_.size() - kSlack) / width_; }
    std::size_t nbytes() const { return bytes_.nbytes(); }
    std::int64_t smallest() const { return smallest_; }
    std::size_t width() const { return width_; }
    /// The stored bytes, kSlack bytes at the end included.
    const Array<std::uint8_t>& bytes() const { return bytes_; }

    void reserve(std::size_t n) { bytes_.reserve(n * width_ + kSlack); }
    void resize(std::size_t n) { bytes_.resize(n * width_ + kSlack); }
    void push_back(std::int64_t value) {
        const std::size_t end = bytes_.size() < kSlack ? 0 : bytes_.size() - kSlack;
        bytes_.resize(end + width_ + kSlack);
        const std::uint64_t offset = static_cast<std::uint64_t>(value) - static_cast<std::uint64_t>(smallest_);
        std::memcpy(bytes_.data() + end, &offset, sizeof offset);  // into the slack
    }
    void shrink_to_fit() { bytes_.shrink_to_fit(); }

    std::int64_t operator[](std::size_t i) const { return number_at(offset(i)); }
    std::int64_t number_at(std::uint64_t offset) const {
        return static_cast<std::int64_t>(offset + static_cast<std::uint64_t>(smallest_));
    }
    /// The stored value: the number less the smallest.
    std::uint64_t offset(std::size_t i) const {
        std::uint64_t word;
        std::memcpy(&word, bytes_.data() + i * width_, sizeof word);
        return std::min(word & mask_, most_);
    }
    /// Writes only the bytes of value i, so that other threads may set its neighbours.
    void set(std::size_t i, std::int64_t value) {
        set_offset(i, static_cast<std::uint64_t>(value) - static_cast<std::uint64_t>(smallest_));
    }
    void set_offset(std::size_t i, std::uint64_t offset) {
        std::uint8_t* to = bytes_.data() + i * width_;
        switch (width_) {  // a copy of known size is one or two instructions; bytes are little-endian
            case 1:
                *to = static_cast<std::uint8_t>(offset);
                return;
            case 2:
                std::memcpy(to, &offset, 2);
                return;
            case 3:
                std::memcpy(to, &offset, 3);
                return;
            case 4:
                std::memcpy(to, &offset, 4);
                return;
            default:
                std::memcpy(to, &offset, width_);
        }
    }
    void prefetch(std::size_t i) const { prefetch_line(bytes_.data() + i * width_); }

 private:
    std::int64_t smallest_ = 0;
    std::size_t width_ = 1;
    std::uint64_t mask_ = 0xff;
    std::uint64_t most_ = ~std::uint64_t{0};
    Array<std::uint8_t> bytes_;
};

}  // namespace fasthash
