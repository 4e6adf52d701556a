// The exhaustive index: compares every code. The oracle of all others, and the fastest one for small galleries.
#pragma once

#include "fasthash/index.h"

namespace fasthash {

class FlatIndex final : public Index {
 public:
    explicit FlatIndex(std::size_t n_bits) : Index(LevelLayout({n_bits})) {}

    IndexKind kind() const override { return IndexKind::flat; }

 protected:
    LiveSegment build(const std::vector<LiveSegment>& parts, const NewItems& items, const Segment* first,
                      Stopper& stopper) const override;
    void search_pruned(const Pruning& pruning, const IdFilter* filter, const SearchTask& task,
                       Stopper& stopper) const override;
    std::unique_ptr<Index> empty_copy() const override;
    IndexSettings settings() const override;
};

}  // namespace fasthash
