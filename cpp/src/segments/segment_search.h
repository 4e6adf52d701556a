// One search over several segments, on all threads.
//
// Called by Index::Impl. Splits the queries into blocks, and scans into chunks of the codes when blocks are fewer than
// threads. Results do not depend on the number of threads.
#pragma once

#include <functional>

#include "segments/segment.h"

namespace fasthash {

/// A segment to search, and its visible entries.
struct SearchedSegment {
    const Segment* segment;
    Visibility visibility;
};

struct SearchTask {
    CodeView queries;
    Wanted wanted;
    QueryStats* stats;  ///< one for each query, or null
    /// Receives the result of each query, once, on any thread.
    std::function<void(std::size_t query, TopK& nearest)> found;
    double share = 1;  ///< of the codes of a segment in clusters, which a search may compare before it ends
};

/// Exact search. `order`: whether ids ascend through all segments. Throws Interrupted when `stopper` ends the work.
void search_segments(const std::vector<SearchedSegment>& segments, IdOrder order, const SearchTask& task,
                     Stopper& stopper);

/// HDHash's pruned search of a single segment; a null segment is empty.
void search_levels(const Segment* segment, const LevelLayout& layout, Pruning pruning, const SearchTask& task,
                   Stopper& stopper);

}  // namespace fasthash
