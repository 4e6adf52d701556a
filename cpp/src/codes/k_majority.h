// k-majority: groups codes around centroids, as k-means groups vectors. A centroid has the majority of each bit.
//
// Called by the planner and by ArrangedCodes. The same codes give the same centroids on every machine, with any number
// of threads.
#pragma once

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

/// Finds the nearest centroid of codes, one code at a time; the first of several.
class CentroidSearch {
 public:
    explicit CentroidSearch(CodeView centroids) : centroids_(centroids), distances_(centroids.n) {}

    NearestCentroid nearest(const std::uint8_t* code);

 private:
    CodeView centroids_;
    Array<std::uint16_t> distances_;
};

}  // namespace fasthash
