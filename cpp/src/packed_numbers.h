// Whole numbers of a known range, in as many bytes as the range needs.
#pragma once

#include <cstring>

#include "array.h"

namespace fasthash {

/// Values from `smallest` to `largest`, each in 1 to 8 bytes: ten million counted ids take 3 bytes each.
class PackedNumbers {
 public:
    PackedNumbers() = default;
    PackedNumbers(std::int64_t smallest, std::int64_t largest) : smallest_(smallest) {
        const std::uint64_t range = static_cast<std::uint64_t>(largest) - static_cast<std::uint64_t>(smallest);
        while (width_ < 8 && range >> (8 * width_) != 0) ++width_;
        mask_ = ~std::uint64_t{0} >> (64 - 8 * width_);
    }

    std::size_t size() const { return bytes_.size() < kSlack ? 0 : (bytes_.size() - kSlack) / width_; }
    std::size_t nbytes() const { return bytes_.nbytes(); }

    void reserve(std::size_t n) { bytes_.reserve(n * width_ + kSlack); }
    void resize(std::size_t n) { bytes_.resize(n * width_ + kSlack); }
    void push_back(std::int64_t value) {
        resize(size() + 1);
        set(size() - 1, value);
    }
    void shrink_to_fit() { bytes_.shrink_to_fit(); }

    std::int64_t operator[](std::size_t i) const {
        std::uint64_t word;
        std::memcpy(&word, bytes_.data() + i * width_, sizeof word);
        return static_cast<std::int64_t>((word & mask_) + static_cast<std::uint64_t>(smallest_));
    }
    /// Neighbours may be set by other threads at the same time.
    void set(std::size_t i, std::int64_t value) {
        const std::uint64_t word = static_cast<std::uint64_t>(value) - static_cast<std::uint64_t>(smallest_);
        std::memcpy(bytes_.data() + i * width_, &word, width_);  // little-endian, as the whole library is
    }
    void prefetch(std::size_t i) const { __builtin_prefetch(bytes_.data() + i * width_); }

 private:
    static constexpr std::size_t kSlack = sizeof(std::uint64_t);  // a value is read as a whole word

    std::int64_t smallest_ = 0;
    std::size_t width_ = 1;
    std::uint64_t mask_ = 0xff;
    Array<std::uint8_t> bytes_;
};

}  // namespace fasthash
