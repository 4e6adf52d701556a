// Hits of a block of queries whose ids have not been looked up yet.
//
// Used by BlockScan and KeptScan. Ids lie far apart in memory, and most hits fall out again while a search goes on. So
// a hit waits as a row and a distance, and its id is looked up, prefetched, when its query has no more room or ends.
#pragma once

#include <vector>

#include "fasthash/topk.h"
#include "platform/array.h"
#include "search/row_entries.h"

namespace fasthash {

class WaitingHits {
 public:
    /// `nearest`: one for each query.
    WaitingHits(const RowEntries& entries, TopK* nearest, std::size_t n_queries);

    /// Push the entries of this row, now or later, if they can enter.
    void add(std::size_t query, std::size_t row, std::int32_t distance);
    /// Push the hits of these queries if their thresholds do not fall before.
    void settle(const std::uint32_t* queries, std::size_t n);
    /// Push the hits of these queries.
    void push_all(const std::uint32_t* queries, std::size_t n);

    /// The thresholds of all queries at their last refresh(), exclusive, as kernels take them.
    const std::uint16_t* thresholds() const { return thresholds_.data(); }
    void refresh(std::size_t query) {
        thresholds_[query] = static_cast<std::uint16_t>(nearest_[query].largest_distance() + 1);
    }

 private:
    static constexpr std::size_t kMost = 128;  // hits of a query
    static constexpr std::size_t kAhead = 2;   // queries whose ids are prefetched before those of another are read

    struct Hit {
        std::uint32_t row;
        std::int32_t distance;
    };

    void drop_far(std::size_t query);
    void prefetch(std::size_t query);
    void push(std::size_t query);

    const RowEntries& entries_;
    TopK* const nearest_;
    const bool waits_;    // else ids are computed, and hits are pushed at once
    const bool counted_;  // hits are counted by TopK::expect() while they wait, so that thresholds fall
    Array<Hit> hits_;     // room for kMost of each query
    std::vector<std::uint32_t> n_;
    std::vector<std::uint16_t> thresholds_;
};

}  // namespace fasthash
