#include "fasthash/flat_index.h"

#include "fasthash/error.h"
#include "io/file_format.h"
#include "segments/segment_search.h"
#include "segments/sliced_segment.h"

namespace fasthash {

LiveSegment FlatIndex::build(const std::vector<LiveSegment>& parts, const NewItems& items, const Segment*,
                             Stopper&) const {
    return SlicedSegment::of(parts, items);
}

void FlatIndex::search_pruned(const Pruning&, const IdFilter*, const SearchTask&, Stopper&) const {
    throw ArgumentError("keep must not be given to a flat index, which has no levels to prune");
}

std::unique_ptr<Index> FlatIndex::empty_copy() const { return std::make_unique<FlatIndex>(layout().n_bits()); }

IndexSettings FlatIndex::settings() const { return {IndexKind::flat, Memory::standard, std::nullopt}; }

}  // namespace fasthash
