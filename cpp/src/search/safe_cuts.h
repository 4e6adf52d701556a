// The cuts of a pruned search or lower bounds of them, computed before it runs.
//
// Called by segments. An exact search leaves out the codes beyond a known cut. If it finds k codes within all bounds
// before it meets any other code, the pruned search would return the same ones, in more time.
#pragma once

#include <cstdint>
#include <vector>

#include "codes/level_tree.h"
#include "fasthash/search.h"
#include "kernels/kernels.h"

namespace fasthash {

enum class Fate { kept, dropped, unknown };

/// The cuts of each level but the last or lower bounds of them, for a block of queries.
///
/// The cut of a level is the distance of the nearest `keep` of its nodes, so it is at least r if fewer nodes than that
/// are nearer than r. The first level is compared, and its bound is its cut. Below it, a node nearer than r is nearer
/// than r on the first level too, and on the first level and the byte after it together. Such nodes are counted: on
/// that byte where a tree has NearNodes. Mean and variance of the distances to all nodes of a level say as well how
/// many can be near (PrefixMoments). By radius, every bound is the cut.
///
/// The search raises cuts until k entries are kept. Then fewer than k are within the bounds, so that no query has k
/// entries which are kept for certain.
class SafeCuts {
 public:
    /// None: nothing is known.
    SafeCuts() = default;
    /// Lower bounds. k: the entries wanted by each query. None if the tree is not coarse or totals do not fit bytes.
    /// `scans`: whether the exact search is a scan; then none, either, where a pruned search would take less time.
    static SafeCuts bounds(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning, CodeView queries,
                           std::size_t k, bool scans = false);
    /// The cuts themselves, from the nodes of all levels: no fate is unknown. None if totals do not fit bytes.
    static SafeCuts exact(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout,
                          const Pruning& pruning, CodeView queries, std::size_t k);

    bool empty() const { return radii_.empty(); }
    /// The radius within which no code is dropped; -1 for a query with fewer than k entries that are kept for certain.
    std::int32_t radius(std::size_t query) const { return radii_[query]; }
    /// Whether the pruned search keeps code i of a byte-major group, as far as the bounds tell.
    Fate fate(std::size_t query, const std::uint8_t* query_code, const std::uint8_t* group, std::size_t i) const;

    /// A comparison of whole codes by PartScan that drops some of the codes which the pruned search drops.
    struct Parts {
        CodePart parts[kMostPartBytes + 1];
        std::size_t n_parts;
        bool by_part;
    };
    Parts parts(std::size_t query) const;

 private:
    SafeCuts(const LevelLayout& layout, std::size_t n_levels, std::size_t n_exact, bool by_level,
             std::size_t n_queries);
    std::int32_t smallest_cut(std::size_t query) const;

    const LevelLayout* layout_ = nullptr;
    std::size_t n_levels_ = 0;
    std::size_t n_exact_ = 0;          // levels whose bound is the cut
    bool by_level_ = false;            // cuts apply to the distance on one level, else to the total so far
    std::vector<std::uint16_t> cuts_;  // n_levels_ for each query
    std::vector<std::int32_t> radii_;
};

}  // namespace fasthash
