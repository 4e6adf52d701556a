// Codes on a GPU in the order of their bytes, each distinct one once, searched from the nearest prefixes on.
#pragma once

#include "fasthash/search.h"
#include "gpu/flat_gallery.h"

namespace fasthash::gpu {

class TreeGallery final : public FlatGallery {
 public:
    /// As FlatGallery; the codes are brought into order here. `prefix_bits`, 1 to 20 and no more than a code has: 0
    /// takes what suits their number. Of codes on the host the device reads over the bus what is below a prefix.
    TreeGallery(CodeView codes, const LevelLayout& layout, const std::int64_t* ids, std::int64_t first_id,
                Stream stream, std::size_t room = kAllRoom, unsigned prefix_bits = 0);
    ~TreeGallery() override;

    std::size_t nbytes() const override;
    /// HDHash's pruned search, as HierIndex makes it; the codes must have several levels. Results as of search. Queries
    /// for which there was no room are true in `failed`, which takes queries.n values on the host.
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
    std::vector<Level> levels_;  // of the tree: all of the codes' but the last, whose nodes are rows
};

}  // namespace fasthash::gpu
