// One search by Jaccard distance over several segments, on all threads.
//
// Called by Index::Impl. Results do not depend on the number of threads.
#pragma once

#include <functional>

#include "search/jaccard_topk.h"
#include "segments/segment_search.h"

namespace fasthash {

struct JaccardTask {
    CodeView queries;
    std::size_t k;
    JaccardDistance radius;
    bool count_only;
    QueryStats* stats;  ///< one for each query, or null
    /// Receives the result of each query, once, on any thread.
    std::function<void(std::size_t query, JaccardTopK& nearest)> found;
};

/// All segments must be bit-major. Throws Interrupted when `stopper` ends the work.
void search_jaccard(const std::vector<SearchedSegment>& segments, const JaccardTask& task, Stopper& stopper);

}  // namespace fasthash
