// HDHash's pruned coarse-to-fine search (ICPR 2020) on the GPU: chooses the cuts of each query, level by level.
//
// Used by Gallery. A code is kept if each of its levels is within the cuts, so that the search below the kept nodes is
// an exact search that skips the other codes (QueryView::keeps). The cuts are those of the CPU.
#pragma once

#include <memory>
#include <vector>

#include "fasthash/search.h"
#include "gpu/planes.h"

namespace fasthash::gpu {

struct QueryBatch;
struct LevelCuts;

/// The nodes of a level: distinct prefixes of whole levels, ascending, and the number of entries below each.
struct LevelNodes {
    /// `parent_bytes`: of a prefix of the level above.
    LevelNodes(CodeView prefixes, std::size_t parent_bytes, const std::uint32_t* weights, Stream stream);

    Planes prefixes;
    Buffer<std::uint32_t> n_entries;
    Buffer<std::uint32_t> children;  ///< the first child of each node of the level above; last, the number of nodes
};

/// The nodes of all levels of an index but the last: at least one level. `n_entries`: of the index.
class LevelTable {
 public:
    LevelTable(std::vector<LevelNodes> levels, std::size_t n_entries, Stream stream);

    std::size_t device_nbytes() const;
    std::size_t n_levels() const { return levels_.size(); }
    /// Choose the cuts of a batch; `cuts` has room for n_levels() for each query. The batch then searches the kept
    /// codes. `k`: entries that must be left.
    void choose(QueryBatch& batch, const Pruning& pruning, std::uint32_t k, std::uint16_t* cuts) const;

 private:
    std::vector<LevelNodes> levels_;
    Buffer<std::uint32_t> ends_;  // bytes of a code up to the end of each level
    std::size_t n_entries_;
};

}  // namespace fasthash::gpu
