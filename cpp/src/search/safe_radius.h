// The radius within which a pruned search drops no code.
//
// Called by segments before a pruned search. A query whose k nearest codes lie within its safe radius has the same
// result by exact search, which takes less time.
#pragma once

#include <cstdint>
#include <vector>

#include "codes/level_tree.h"
#include "fasthash/search.h"

namespace fasthash {

/// Lower bounds of the safe radii, one for each query, at least 0; none if the tree is not coarse.
///
/// A code within r of the query is within r on every prefix, so it is dropped only at a level whose cut is below r.
/// Cuts are the distances of the nearest `keep` of the nodes, so r is safe if fewer nodes than that are nearer than r.
/// Below the first level, the nodes nearer than r are among those below first-level nodes nearer than r, which are
/// counted once per tree.
std::vector<std::int32_t> safe_radii(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
                                     CodeView queries);

}  // namespace fasthash
