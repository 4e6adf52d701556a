// How much `keep` keeps: HDHash's share of nodes, codes or bits as a whole number. The pruned searches on the CPU, on
// the GPU and over shards round by this rule alone, so that they keep the same nodes.
#pragma once

#include <cmath>
#include <cstddef>

#ifdef __CUDACC__
#define FASTHASH_KEEP_RULE __host__ __device__ inline
#else
#define FASTHASH_KEEP_RULE inline
#endif

namespace fasthash {

/// keep * total is meant in decimals: 0.29 of 100 is 29, though the binary product falls short of it.
constexpr double kKeepTolerance = 1e-12;

/// Smallest whole number that is at least keep * total: nodes of a level, or codes of the gallery.
FASTHASH_KEEP_RULE double keep_at_least(double keep, double total) {
    return std::ceil(keep * total * (1 - kKeepTolerance));
}

/// Largest whole number that is at most keep * total: bits of a level.
FASTHASH_KEEP_RULE double keep_at_most(double keep, double total) {
    return std::floor(keep * total * (1 + kKeepTolerance));
}

inline std::size_t nodes_kept(double keep, std::size_t n) {
    return static_cast<std::size_t>(keep_at_least(keep, static_cast<double>(n)));
}
inline std::size_t bits_kept(double keep, std::size_t n_bits) {
    return static_cast<std::size_t>(keep_at_most(keep, static_cast<double>(n_bits)));
}

}  // namespace fasthash
