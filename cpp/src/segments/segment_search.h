// One search over several segments, on all threads.
#pragma once

#include <functional>

#include "segments/segment.h"

namespace fasthash {

/// A segment that is to be searched.
struct SearchedSegment {
    const Segment* segment;
    Visibility visibility;
};

struct SearchTask {
    CodeView queries;
    Wanted wanted;
    QueryStats* stats;  ///< one for each query, or null
    /// Told what a query found, once for each, by any thread.
    std::function<void(std::size_t query, TopK& nearest)> found;
};

/// `order`: in which the segments, one after the other, bring ids of equal distance. Throws Interrupted when `stopper`
/// said so.
void search_segments(const std::vector<SearchedSegment>& segments, IdOrder order, const SearchTask& task,
                     Stopper& stopper);

/// HDHash's search over the levels of a single segment; null holds nothing.
void search_levels(const Segment* segment, const LevelLayout& layout, Pruning pruning, const SearchTask& task,
                   Stopper& stopper);

}  // namespace fasthash
