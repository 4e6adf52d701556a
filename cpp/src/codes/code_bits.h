// Bit arithmetic on packed codes, for prefixes and substrings.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace fasthash {

constexpr std::size_t kMaxSubstringBits = 24;

/// Bits first .. first + n_bits of a code of n_bytes as a number, first bit highest. n_bits is at most
/// kMaxSubstringBits.
inline std::uint32_t code_bits(const std::uint8_t* code, std::size_t n_bytes, std::size_t first, std::size_t n_bits) {
    const std::size_t byte = first / 8;
    std::uint32_t word = 0;
    if (byte + sizeof word <= n_bytes) {
        std::memcpy(&word, code + byte, sizeof word);
        word = __builtin_bswap32(word);
    } else {
        for (std::size_t i = 0; i < sizeof word; ++i) word = word << 8 | (byte + i < n_bytes ? code[byte + i] : 0u);
    }
    return n_bits == 0 ? 0 : (word << (first % 8)) >> (32 - n_bits);
}

/// Number of bits set. The builtin would call a function where the ABI's baseline has no such instruction.
inline unsigned count_bits(std::uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return static_cast<unsigned>((x * 0x0101010101010101u) >> 56);
}

/// Numbers of bits set in each byte.
struct ByteCounts {
    constexpr ByteCounts() : of{} {
        for (std::size_t byte = 1; byte < 256; ++byte) {
            of[byte] = static_cast<std::uint8_t>(of[byte / 2] + byte % 2);
        }
    }

    std::uint8_t of[256];
};

inline constexpr ByteCounts kByteCounts;

/// The next larger number with the same number of bits set (Gosper's hack). x > 0.
inline std::uint32_t next_with_same_count(std::uint32_t x) {
    const std::uint32_t lowest = x & (~x + 1);
    const std::uint32_t ripple = x + lowest;
    return ripple | (((x ^ ripple) >> 2) >> __builtin_ctz(x));
}

}  // namespace fasthash
