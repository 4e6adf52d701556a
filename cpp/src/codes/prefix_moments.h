// How the bits of a level tree's prefixes vary together: it bounds how many of them are near a query.
//
// Built by LevelTree. Read by SafeCuts.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "fasthash/codes.h"

namespace fasthash {

/// The distances of a query to many prefixes: their number, mean and variance.
struct DistanceMoments {
    double n, mean, variance;

    /// A lower bound of the radius that holds `needed` prefixes (Cantelli's inequality: no more than
    /// n v / (v + r^2) are nearer than the mean by r, where v is the variance).
    double least_radius(double needed) const {
        if (needed <= 0) return 0;
        return std::max(0.0, mean - std::sqrt(variance * std::max(0.0, n / needed - 1)));
    }
};

class PrefixMoments {
 public:
    /// Bytes of a prefix that count; later ones make a prefix no nearer.
    static constexpr std::size_t kMostBytes = 8;

    PrefixMoments() = default;
    explicit PrefixMoments(CodeView prefixes);

    bool empty() const { return n_ == 0; }
    /// Of the distances over the first bytes of the prefixes. The mean is too small and the variance too large by more
    /// than rounding can change.
    DistanceMoments of(const std::uint8_t* query, std::size_t n_bytes) const;
    /// The mean alone, in much less time. No radius of these moments is larger.
    double mean(const std::uint8_t* query, std::size_t n_bytes) const;
    std::size_t nbytes() const { return means_.capacity() * sizeof(double) + terms_.capacity() * sizeof(float); }

 private:
    static constexpr std::size_t kValues = 256;

    double n_ = 0;
    std::size_t n_bits_ = 0;
    std::vector<double> means_;  // [byte][value]: of the distances over that byte
    std::vector<float> terms_;   // of a variance: [b][c] is that of bit b if c = b, twice their covariance if c < b
};

}  // namespace fasthash
