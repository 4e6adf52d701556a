// Checks of the clusters in a file: every code lies in the ring where the writer would have put it.
//
// Called by the file reader before it builds a segment. Cluster searches rely on it: a code at another distance, or
// with a nearer centroid, would be missed.
#pragma once

#include "codes/byte_major_codes.h"

namespace fasthash {

/// Checks that the rings divide the rows. `ring_begin`: n_bits + 1 rings for each centroid, then the number of rows.
/// Throws FormatError.
void check_rings(const Array<std::uint32_t>& ring_begin, std::size_t n_rows);

/// Checks of rings that divide the rows that each code is in the cluster of its nearest centroid (the first of
/// several) and in the ring of its distance to it, and that the codes of a ring ascend, which makes all codes distinct.
/// Throws FormatError.
void check_clusters(const ByteMajorCodes& codes, CodeView centroids, const Array<std::uint32_t>& ring_begin);

}  // namespace fasthash
