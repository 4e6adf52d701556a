// Keys: pairs (distance, id) as one number, ordered as the pairs are.
//
// Used by all searches on a GPU. An id counts as the id less the smallest one or, where ids are too far apart for the
// bits of a key, as its rank among all ids. Distances are int32 (Hamming) or float (Jaccard) and not negative.
#pragma once

#include <cstring>
#include <type_traits>

#include "gpu/launch.h"

namespace fasthash::gpu {

/// Bits of a key that hold the number of the id. A distance as float takes 30 of the 62 bits that sort_ascending
/// compares. Of fractions of numbers up to 4,096 no two round to the same float, and floats of one sign are ordered as
/// their bits are.
template <typename Distance>
constexpr unsigned kNumberBits = std::is_same_v<Distance, float> ? 32 : 48;

FASTHASH_ANYWHERE std::uint64_t pair_key(int distance, std::uint64_t number) {
    return static_cast<std::uint64_t>(distance) << kNumberBits<std::int32_t> | number;
}
FASTHASH_ANYWHERE std::uint64_t pair_key(float distance, std::uint64_t number) {
    std::uint32_t bits = 0;
    memcpy(&bits, &distance, sizeof(bits));
    return std::uint64_t{bits} << kNumberBits<float> | number;
}

/// The first key beyond all pairs of a distance.
template <typename Distance>
FASTHASH_ANYWHERE std::uint64_t key_beyond(Distance distance) {
    return pair_key(distance, 0) + (std::uint64_t{1} << kNumberBits<Distance>);
}

template <typename Distance = std::int32_t>
FASTHASH_DEVICE Distance key_distance(std::uint64_t key) {
    const auto bits = static_cast<std::uint32_t>(key >> kNumberBits<Distance>);
    Distance distance;
    memcpy(&distance, &bits, sizeof(bits));
    return distance;
}
template <typename Distance = std::int32_t>
FASTHASH_DEVICE std::uint64_t key_number(std::uint64_t key) {
    constexpr std::uint64_t kEnd = std::uint64_t{1} << kNumberBits<Distance>;
    return key & (kEnd - 1);
}

constexpr std::uint64_t kNoKey = ~std::uint64_t{0};

}  // namespace fasthash::gpu
