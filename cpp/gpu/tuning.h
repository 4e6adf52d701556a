// When a search on a GPU takes which way: the only place of these constants.
//
// Measured, on one H200, are kProductQueries and the rates in docs/gpu.md; the others are derived from those rates.
#pragma once

#include <cstddef>

namespace fasthash::gpu {

/// Products of bits compare at least this many queries; fewer would leave most of a product empty.
constexpr std::size_t kProductQueries = 32;
/// Products pay once a threshold is known: where a pair may be near enough, it is compared again. After n rows, about
/// one in n / k is.
constexpr std::size_t kProductRowsPerK = 256;
/// Up to so many rows, one block finds the first threshold of a query.
constexpr std::size_t kFirstRows = 8192;
/// Clusters are visited where a scan compares at least this many pairs: it takes some 80 us for one query, about as
/// long as the kernels that list the visits.
constexpr std::size_t kClusterPairs = std::size_t{1} << 25;
/// A query whose clusters hold more than 1 / kGiveUp of the rows is scanned instead, with all such queries.
constexpr std::size_t kGiveUp = 4;
/// Rows of near clusters that give the first threshold: at least kSampleRows, and kSampleRowsPerK for each of k.
constexpr std::size_t kSampleRows = 1024;
constexpr std::size_t kSampleRowsPerK = 8;

}  // namespace fasthash::gpu
