// Costs of the steps of a search, in nanoseconds on one core of a 2024 server with AVX-512.
//
// Used by the planner to compare plans, and by searches to give up a plan that does not pay. Only their ratios matter.
// They are constants, not measurements, so that the same codes get the same plan on every machine. Only whether a block
// of queries is scanned instead depends on the instruction set.
#pragma once

#include <cstddef>

#include "kernels/kernels.h"

namespace fasthash {

constexpr double kCostOfQuery = 1200;  // selecting and sorting the k nearest, in every plan
constexpr double kCostOfProbe = 0.7;   // looking up one bucket
constexpr double kCostOfBucket = 50;   // cache misses, and the first code of a bucket
constexpr double kCostOfByte = 0.015;  // comparing a byte of a bucket's codes
constexpr double kCostOfHit = 5;       // a code of a bucket within the threshold
constexpr double kCostOfPush = 30;     // pushing its entries: several cache misses
constexpr double kCostOfScan = 0.009;  // comparing a byte in a scan
constexpr double kCostOfVisit = 116;   // visiting a cluster

// A scan for a block of queries.
constexpr std::size_t kFewestForScan = 16;
constexpr double kCostOfTransposing = 0.04;  // converting a byte to byte-major, once per block

/// Comparing a byte that another query has brought into the cache.
inline double cost_of_byte_in_cache() {
    switch (kernels().level) {
        case SimdLevel::avx512:
            return 0.0043;
        case SimdLevel::avx512bw:
            return 0.004;  // by planes
        case SimdLevel::scalar:
            return 0.05;
        default:
            return 0.012;
    }
}

inline double cost_of_scan(std::size_t n_codes, std::size_t n_bytes) {
    return kCostOfQuery + kCostOfScan * static_cast<double>(n_codes) * static_cast<double>(n_bytes);
}

/// Share of the time that a scan takes to compare, below which another plan is chosen.
constexpr double kWorthwhile = 0.75;

/// Other plans are chosen below this cost.
inline double worthwhile_cost(std::size_t n_codes, std::size_t n_bytes) {
    return kCostOfQuery + kWorthwhile * (cost_of_scan(n_codes, n_bytes) - kCostOfQuery);
}

/// Searches by substrings are given up at this cost, and scan all rows then. Any search pushes k entries.
inline double give_up_cost(std::size_t n_rows, std::size_t n_bytes, std::size_t k) {
    const auto n_pushed = static_cast<double>(k < n_rows ? k : n_rows);
    return kCostOfQuery + kWorthwhile * kCostOfByte * static_cast<double>(n_rows * n_bytes) +
           (kCostOfHit + kCostOfPush) * n_pushed;
}

}  // namespace fasthash
