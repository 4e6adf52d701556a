// Costs of the steps of a search, in nanoseconds on one core of a 2024 server with AVX-512.
//
// Used by the planner to compare plans, and by searches to give up a plan that does not pay. Only their ratios matter.
// They are constants, not measurements, so that the same codes get the same plan on every machine. Only whether a block
// of queries is scanned instead depends on the instruction set.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kernels/kernels.h"

namespace fasthash {

constexpr double kCostOfQuery = 1200;  // selecting and sorting the k nearest, in every plan
constexpr double kCostOfProbe = 0.7;   // looking up one bucket
constexpr double kCostOfHit = 10;      // a code of a bucket within the threshold

/// Costs that depend on where the data lies: in a cache, or in memory.
struct ReadingCosts {
    double bucket;        // the first code of a bucket
    double bucket_byte;   // comparing a byte of its codes
    double push;          // pushing the entries of a hit
    double visit;         // visiting a cluster
    double cluster_byte;  // comparing a byte of its codes
    double row_byte;      // comparing a byte in a scan of rows, after a search was given up
    double scan_byte;     // comparing a byte in a scan
};

constexpr ReadingCosts kInCache{10, 0.021, 23, 110, 0.012, 0.015, 0.009};
constexpr ReadingCosts kInMemory{57, 0.082, 51, 500, 0.036, 0.040, 0.033};

/// Costs of reading from tables or codes of this size in all. Small ones are in a cache; of large ones hardly anything
/// is, not even the addresses of their pages.
inline ReadingCosts reading_costs(double n_bytes) {
    constexpr double kCached = 8e6, kUncached = 200e6;
    const double share = std::clamp(std::log(n_bytes / kCached) / std::log(kUncached / kCached), 0.0, 1.0);
    const auto between = [share](double cached, double uncached) { return cached + share * (uncached - cached); };
    return {between(kInCache.bucket, kInMemory.bucket),
            between(kInCache.bucket_byte, kInMemory.bucket_byte),
            between(kInCache.push, kInMemory.push),
            between(kInCache.visit, kInMemory.visit),
            between(kInCache.cluster_byte, kInMemory.cluster_byte),
            between(kInCache.row_byte, kInMemory.row_byte),
            between(kInCache.scan_byte, kInMemory.scan_byte)};
}

// A scan for a block of queries.
constexpr std::size_t kFewestForScan = 16;
constexpr double kCostOfTransposing = 0.04;  // converting a byte to byte-major, once per block
constexpr double kCostOfSortedRows = 2000;   // the first of sorted rows are no sample: thresholds fall late

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

/// Comparing all codes with one query.
inline double cost_of_comparing(std::size_t n_codes, std::size_t n_bytes) {
    const auto bytes = static_cast<double>(n_codes * n_bytes);
    return reading_costs(bytes).scan_byte * bytes;
}

inline double cost_of_scan(std::size_t n_codes, std::size_t n_bytes) {
    return kCostOfQuery + cost_of_comparing(n_codes, n_bytes);
}

/// Share of the time that a scan takes to compare, below which another plan is chosen.
constexpr double kWorthwhile = 0.75;

/// Other plans are chosen below this cost.
inline double worthwhile_cost(std::size_t n_codes, std::size_t n_bytes) {
    return kCostOfQuery + kWorthwhile * cost_of_comparing(n_codes, n_bytes);
}

/// Searches by substrings are given up at this cost, and scan all rows then.
inline double give_up_cost(std::size_t n_rows, std::size_t n_bytes) {
    const auto bytes = static_cast<double>(n_rows * n_bytes);
    return kCostOfQuery + kWorthwhile * reading_costs(bytes).row_byte * bytes;
}

}  // namespace fasthash
