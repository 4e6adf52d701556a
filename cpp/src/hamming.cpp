#include "fasthash/hamming.h"

#include <cstring>

namespace fasthash {
namespace {

// Counts in parallel within the word; portable, and compilers vectorise loops of it at the ABI's baseline.
inline std::uint64_t popcount(std::uint64_t x) {
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (x * 0x0101010101010101u) >> 56;
}

template <typename Word>
inline std::uint64_t xor_word(const std::uint8_t* a, const std::uint8_t* b) {
    Word x, y;
    std::memcpy(&x, a, sizeof x);  // codes have no alignment
    std::memcpy(&y, b, sizeof y);
    return static_cast<Word>(x ^ y);
}

inline std::int32_t distance(const std::uint8_t* a, const std::uint8_t* b, std::size_t n_bytes) {
    std::uint64_t sum = 0;
    std::size_t i = 0;
    for (; i + 8 <= n_bytes; i += 8) sum += popcount(xor_word<std::uint64_t>(a + i, b + i));
    if (n_bytes & 4) {
        sum += popcount(xor_word<std::uint32_t>(a + i, b + i));
        i += 4;
    }
    if (n_bytes & 2) {
        sum += popcount(xor_word<std::uint16_t>(a + i, b + i));
        i += 2;
    }
    if (n_bytes & 1) sum += popcount(xor_word<std::uint8_t>(a + i, b + i));
    return static_cast<std::int32_t>(sum);
}

// A width known at compile time unrolls `distance` into a few instructions.
template <std::size_t kBytes>
void scan(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::int32_t* distances) {
    for (std::size_t i = 0; i < n; ++i) distances[i] = distance(query, codes + i * kBytes, kBytes);
}

}  // namespace

void hamming_distances(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::size_t n_bytes,
                       std::int32_t* distances) {
    switch (n_bytes) {
        case 1:
            return scan<1>(query, codes, n, distances);
        case 2:
            return scan<2>(query, codes, n, distances);
        case 4:
            return scan<4>(query, codes, n, distances);
        case 5:
            return scan<5>(query, codes, n, distances);
        case 8:
            return scan<8>(query, codes, n, distances);
        case 16:
            return scan<16>(query, codes, n, distances);
        case 32:
            return scan<32>(query, codes, n, distances);
        default:
            for (std::size_t i = 0; i < n; ++i) distances[i] = distance(query, codes + i * n_bytes, n_bytes);
    }
}

}  // namespace fasthash
