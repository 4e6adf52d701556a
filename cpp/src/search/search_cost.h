// Costs of the steps of a search, in nanoseconds on one core of a 2023 server.
//
// Used by the planner to compare plans, and by searches to give up a plan that does not pay. Only their ratios matter.
// They are constants, not measurements, so that the same codes get the same plan on every machine. Only whether a block
// of queries is scanned instead depends on the instruction set.
#pragma once

#include <cstddef>

#include "kernels/kernels.h"

namespace fasthash {

constexpr double kCostOfQuery = 5000;  // selecting and sorting the k nearest, in every plan
constexpr double kCostOfProbe = 1.2;   // looking up one bucket
constexpr double kCostOfBucket = 15;   // a cache miss: the first code of a bucket
constexpr double kCostOfByte = 0.06;   // comparing a byte of a bucket's codes
constexpr double kCostOfHit = 8;       // pushing a code within the threshold
constexpr double kCostOfScan = 0.033;  // comparing a byte in a scan
constexpr double kCostOfVisit = 80;    // preparing the visit of a cluster

// A scan for a block of queries.
constexpr std::size_t kFewestForScan = 16;
constexpr double kCostOfTransposing = 0.15;  // converting a byte to byte-major, once per block

/// Comparing a byte that another query has brought into the cache.
inline double cost_of_byte_in_cache() {
    switch (kernels().level) {
        case SimdLevel::avx512:
            return 0.007;
        case SimdLevel::avx512bw:
            return 0.006;  // by planes
        case SimdLevel::scalar:
            return 0.06;
        default:
            return 0.014;
    }
}

inline double cost_of_scan(std::size_t n_codes, std::size_t n_bytes) {
    return kCostOfQuery + kCostOfScan * static_cast<double>(n_codes) * static_cast<double>(n_bytes);
}

/// Searches by substrings are planned only below this share of the cost of a scan, and given up when they reach it.
constexpr double kWorthwhile = 0.75;

}  // namespace fasthash
