// The 64-bit xxHash checksum (seed 0), written from its published specification.
//
// Used by the file reader and writer. Fast enough to check every byte of a file on every load.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace fasthash {

class Xxh64 {
 public:
    Xxh64();
    void update(const void* data, std::size_t n_bytes);
    std::uint64_t digest() const;

 private:
    /// Hash n stripes of 32 bytes; returns the end of the input used.
    const std::uint8_t* stripes(const std::uint8_t* p, std::size_t n);

    std::array<std::uint64_t, 4> lanes_;
    std::array<std::uint8_t, 32> rest_{};  // an incomplete stripe
    std::size_t n_rest_ = 0;
    std::uint64_t n_total_ = 0;
};

inline std::uint64_t xxh64(const void* data, std::size_t n_bytes) {
    Xxh64 hash;
    hash.update(data, n_bytes);
    return hash.digest();
}

}  // namespace fasthash
