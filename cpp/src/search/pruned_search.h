// HDHash's pruned coarse-to-fine search (ICPR 2020) over the level tree of one segment.
//
// Called by segments. Each level keeps only the nodes nearest to the query; the codes below the nodes kept at the last
// level are compared. Not exact, but always returns k entries if the segment has k.
#pragma once

#include "codes/level_tree.h"
#include "codes/sorted_codes.h"
#include "fasthash/search.h"
#include "search/scan.h"

namespace fasthash {

/// Search a block of queries. The cuts of the pruning, if there are any, begin with those of its first query.
void search_tree(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
                 const QueryBlock& block, Stopper& stopper);

/// Number of queries that search_tree should get at once: they share the codes that are scanned.
constexpr std::size_t kQueriesOfTree = 128;

}  // namespace fasthash
