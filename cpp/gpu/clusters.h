// The clusters of a segment on a GPU: centroids, and which rows are at which distance of theirs.
//
// Held by GpuSegment beside the codes, which keep the order of the clusters (see codes/arranged_codes.h).
#pragma once

#include "codes/arranged_codes.h"
#include "gpu/planes.h"

namespace fasthash::gpu {

struct ClusterView;

class Clusters {
 public:
    /// `rows`: those of the segment that this device holds. They have arrived once staging.finish() returns.
    Clusters(const ArrangedCodes& codes, NumberRange rows, Staging& staging, Stream stream);

    std::size_t n() const { return centroids_.n(); }
    std::size_t device_nbytes() const {
        return centroids_.device_nbytes() + ring_begin_.device_nbytes() + radii_.device_nbytes();
    }
    ClusterView view() const;

 private:
    Planes centroids_;
    Buffer<std::uint32_t> ring_begin_;
    Buffer<std::uint32_t> radii_;
};

}  // namespace fasthash::gpu
