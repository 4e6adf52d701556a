// Estimates what a search costs by each plan, on sampled codes of the gallery.
//
// Used by the planner to compare plans. Scans find the nearest neighbours of some codes. Then sampled codes are counted
// to tell how many codes a search for these neighbours reads.
#pragma once

#include <cstdint>
#include <vector>

#include "codes/sorted_codes.h"
#include "platform/stopper.h"

namespace fasthash {

/// Average costs of searches for ten neighbours, in nanoseconds (search_cost.h).
class PlanCosts {
 public:
    /// `codes`, which must be stored as rows and outlive this object, are not empty.
    /// Throws Interrupted when `stopper` ends the work.
    PlanCosts(const SortedCodes& codes, Stopper& stopper);

    /// Of a search by substrings: one prefix, or several tables.
    double by_substrings(std::size_t n_substrings, std::size_t substring_bits) const;
    /// Of a search over the clusters of these centroids.
    double by_clusters(CodeView centroids) const;

 private:
    const std::uint8_t* code_of(std::size_t row) const { return codes_.tails() + row * codes_.n_bytes(); }

    const SortedCodes& codes_;
    const std::vector<std::size_t> queries_;       // rows
    const std::vector<std::int32_t> thresholds_;   // of each query: the distance of its last neighbour
    const std::vector<std::size_t> sample_;        // rows that are counted
    const std::vector<std::size_t> small_sample_;  // the same, for substrings: there are many shapes to compare
    const double neighbour_rows_;                  // that hold the neighbours: fewer if codes have several entries
};

/// Bytes of an index with these tables.
double bytes_of_tables(const SortedCodes& codes, std::size_t n_substrings, std::size_t substring_bits);

/// Number of n_bits-wide values within `radius` of a given one.
double values_within(std::size_t radius, std::size_t n_bits);

/// Distinct numbers below n, evenly spaced: `wanted` of them, or all n.
std::vector<std::size_t> spread(std::size_t n, std::size_t wanted);

}  // namespace fasthash
