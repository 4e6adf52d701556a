// TreeGallery: sorted distinct codes on a GPU, searched by prefixes, nearest first, or pruned over their levels.
//
// Used by the Python module _cuda for HierIndex. Results equal those of the index on the CPU, byte for byte.
#pragma once

#include "fasthash/search.h"
#include "gpu/flat_gallery.h"

namespace fasthash::gpu {

class TreeGallery final : public FlatGallery {
 public:
    /// As FlatGallery; sorts the codes. `prefix_bits`: 1 to 20, at most the width of a code; 0 chooses by the number of
    /// codes. For codes in pinned host memory, a search transfers only the rows under the visited prefixes.
    TreeGallery(CodeView codes, const LevelLayout& layout, const std::int64_t* ids, std::int64_t first_id,
                Stream stream, std::size_t room = kAllRoom, unsigned prefix_bits = 0);
    ~TreeGallery() override;

    std::size_t nbytes() const override;
    /// HDHash's pruned search, with the results of HierIndex; the codes must have several levels. Arguments as for
    /// search. `failed`: host memory for queries.n flags, set for queries whose candidates exceeded the capacity.
    void search_pruned(CodeView queries, std::uint32_t k, const Pruning& pruning, std::int32_t* distances,
                       std::int64_t* ids, bool* failed, Stream stream, const Interrupt& interrupt = {}) const;
    std::size_t n_prefixes() const { return values_.size(); }
    unsigned prefix_bits() const { return prefix_bits_; }

 protected:
    void find(QueryBatch& batch) const override;

 private:
    struct Sorted;
    struct Level;
    TreeGallery(const Sorted& sorted, const LevelLayout& layout, const std::int64_t* ids, std::int64_t first_id,
                Stream stream, std::size_t room);

    unsigned prefix_bits_;
    Buffer<std::uint32_t> values_;
    Buffer<std::uint32_t> begins_;
    std::vector<Level> levels_;  // all levels but the last, whose nodes are the rows
};

}  // namespace fasthash::gpu
