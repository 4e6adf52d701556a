// Reads the bytes of a fuzzer's input as numbers.
#pragma once

#include <cstdint>
#include <random>

namespace fasthash::testing {

/// Numbers from the bytes of an input; after its end, from a generator seeded by its first byte.
class Input {
 public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size), generator_(size > 0 ? data[0] : 0u) {}

    bool empty() const { return position_ >= size_; }
    /// The bytes not yet read.
    const std::uint8_t* rest() const { return data_ + position_; }
    std::size_t n_rest() const { return size_ - position_; }

    std::uint8_t byte() { return empty() ? static_cast<std::uint8_t>(generator_()) : data_[position_++]; }
    std::uint64_t number(std::size_t n_bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < n_bytes; ++i) value |= std::uint64_t{byte()} << 8 * i;
        return value;
    }
    /// A number below n (at most 65,536), from one byte or two.
    std::size_t below(std::size_t n) { return static_cast<std::size_t>(number(n <= 256 ? 1 : 2)) % n; }
    bool one_in(std::size_t n) { return below(n) == 0; }

 private:
    const std::uint8_t* data_;
    std::size_t size_;
    std::size_t position_ = 0;
    std::mt19937 generator_;
};

}  // namespace fasthash::testing

#if defined(__SANITIZE_ADDRESS__)
#define FASTHASH_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FASTHASH_ADDRESS_SANITIZER
#endif
#endif
#if defined(FASTHASH_ADDRESS_SANITIZER)
// Most of the time would go into noting where memory was asked for.
extern "C" const char* __asan_default_options() { return "malloc_context_size=4:quarantine_size_mb=16"; }
#endif
