// k-majority: groups codes around centroids, as k-means groups vectors. A centroid has the majority of each bit.
//
// Called by the planner and by ArrangedCodes. The same codes give the same centroids on every machine, with any number
// of threads.
#pragma once

#include <algorithm>
#include <vector>

#include "fasthash/codes.h"
#include "platform/array.h"
#include "platform/stopper.h"

namespace fasthash {

/// Choose up to n_clusters centroids for a sample of codes, as rows. There are fewer if the sample has fewer distinct
/// codes, and none for an empty sample. Throws Interrupted when `stopper` ends the work.
Array<std::uint8_t> k_majority(CodeView sample, std::size_t n_clusters, Stopper& stopper);

struct NearestCentroid {
    std::uint32_t number;
    std::uint16_t distance;
};

/// For each centroid the others, by their distance to it. Memory: 4 bytes for each pair of centroids.
class CentroidNeighbours {
 public:
    explicit CentroidNeighbours(CodeView centroids);

    /// The centroids within a distance of a centroid, itself included.
    const std::uint32_t* begin(std::size_t centroid) const { return numbers_.data() + centroid * n_; }
    std::size_t n_within(std::size_t centroid, std::size_t distance) const {
        return n_within_[centroid * n_distances_ + std::min(distance, n_distances_ - 1)];
    }

 private:
    std::size_t n_, n_distances_;
    std::vector<std::uint32_t> numbers_, n_within_;
};

/// Finds the nearest centroid of codes, one code at a time; the first of several.
class CentroidSearch {
 public:
    /// With `neighbours`, most codes that are as near to a centroid as the code before are compared with few others.
    explicit CentroidSearch(CodeView centroids, const CentroidNeighbours* neighbours = nullptr)
        : centroids_(centroids), neighbours_(neighbours), distances_(centroids.n) {}

    NearestCentroid nearest(const std::uint8_t* code);

 private:
    bool near_last(const std::uint8_t* code);

    CodeView centroids_;
    const CentroidNeighbours* neighbours_;
    NearestCentroid last_{0, 0};  // of the code before
    Array<std::uint16_t> distances_;
    Array<std::uint8_t> gathered_;
};

}  // namespace fasthash
