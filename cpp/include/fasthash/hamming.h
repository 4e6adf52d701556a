// Hamming distances: the only place that counts bits. Which kernel runs is decided in hamming.cpp.
#pragma once

#include <cstddef>
#include <cstdint>

namespace fasthash {

/// distances[i] = number of bits in which `query` and code i differ, for `n` codes of `n_bytes` bytes without gaps.
void hamming_distances(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::size_t n_bytes,
                       std::int32_t* distances);

/// Codes per call of hamming_distances where many are scanned: their distances stay in the first-level cache.
constexpr std::size_t kHammingBlock = 1024;

}  // namespace fasthash
