// Codes on a GPU in the order of their bytes, each distinct one once, searched from the nearest prefixes on.
#pragma once

#include "gpu/flat_gallery.h"

namespace fasthash::gpu {

class TreeGallery final : public FlatGallery {
 public:
    /// As FlatGallery; the codes are brought into order here. `prefix_bits`, 1 to 20 and no more than a code has: 0
    /// takes what suits their number.
    TreeGallery(CodeView codes, const std::int64_t* ids, std::int64_t first_id, Stream stream,
                unsigned prefix_bits = 0);

    std::size_t nbytes() const override { return FlatGallery::nbytes() + values_.nbytes() + begins_.nbytes(); }
    std::size_t n_prefixes() const { return values_.size(); }
    unsigned prefix_bits() const { return prefix_bits_; }

 protected:
    void find(QueryBatch& batch) const override;

 private:
    struct Sorted;
    TreeGallery(const Sorted& sorted, const std::int64_t* ids, std::int64_t first_id, Stream stream);

    unsigned prefix_bits_;
    Buffer<std::uint32_t> values_;
    Buffer<std::uint32_t> begins_;
};

}  // namespace fasthash::gpu
