// Exact search over the clusters of a segment.
//
// Called by Gallery, in place of a scan.
#pragma once

#include "gpu/gpu_segment.h"
#include "gpu/scan.h"

namespace fasthash::gpu {

/// Finds the nearest of each query in a segment: from the codes of near clusters a first threshold, then all codes of
/// the near clusters, then those of the others that the bounds leave. `first`: whether no other segment has been
/// searched. Flags queries that give up (kGaveUp): their result is not complete.
void search_clusters(const GpuSegment& segment, const SegmentView& view, const ScanSettings& settings,
                     const QueryBatch& batch, bool first);

/// Adds all entries of a segment before the thresholds of queries to their candidates; flags as search_clusters.
void compare_clusters(const GpuSegment& segment, const SegmentView& view, const ScanSettings& settings,
                      const QueryBatch& batch);

}  // namespace fasthash::gpu
