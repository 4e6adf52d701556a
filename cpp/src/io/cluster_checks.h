// Checks of the clusters in a file: every code lies in the ring where the writer would have put it.
//
// Called by the file reader before it builds a segment. Cluster searches rely on it: a code at another distance, or
// with a nearer centroid, would be missed.
#pragma once

#include "codes/byte_major_codes.h"

namespace fasthash {

/// Checks that ranges divide the rows: the rings of clusters, or the values of a directory. `begin`: the first row of
/// each, then the number of rows. `what`: their name. Throws FormatError.
void check_division(const Array<std::uint32_t>& begin, std::size_t n_rows, const char* what);

/// Checks of rings that divide the rows that each code is in the cluster of its nearest centroid (the first of
/// several) and in the ring of its distance to it, and that the codes of a ring ascend, which makes all codes distinct.
/// Throws FormatError.
void check_clusters(const ByteMajorCodes& codes, CodeView centroids, const Array<std::uint32_t>& ring_begin);

}  // namespace fasthash
