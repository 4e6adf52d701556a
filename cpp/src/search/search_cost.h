// What steps of a search cost, in nanoseconds of one core of a server of 2023. The planner weighs plans with them, and
// a search notices with them when its plan does not pay. They need not be right for a machine, only in proportion;
// fixed, they make the plan of an index the same everywhere.
#pragma once

#include <cstddef>

namespace fasthash {

constexpr double kCostOfQuery = 5000;  // finding and ordering k of them, whatever the plan
constexpr double kCostOfProbe = 1.2;   // looking up one value of a substring
constexpr double kCostOfBucket = 15;   // turning to codes elsewhere in memory
constexpr double kCostOfByte = 0.06;   // reading such codes
constexpr double kCostOfHit = 8;       // a code within the threshold, whether it stays among the k or not
constexpr double kCostOfScan = 0.033;  // reading a byte of codes that all stand in a row

// A scan for many queries at once.
constexpr std::size_t kFewestForScan = 16;
constexpr double kCostOfByteInCache = 0.007;  // comparing codes that another query has brought close
constexpr double kCostOfTransposing = 0.15;   // bringing a byte into the layout of scans, for all queries together

inline double cost_of_scan(std::size_t n_codes, std::size_t n_bytes) {
    return kCostOfQuery + kCostOfScan * static_cast<double>(n_codes) * static_cast<double>(n_bytes);
}

/// A search by substrings has to promise less than this share of the scan to be tried, and is given up when it took it.
constexpr double kWorthwhile = 0.75;

}  // namespace fasthash
