// Hits of a block of queries whose ids have not been looked up yet.
//
// Used by BlockScan and KeptScan. Ids lie far apart in memory, and most hits fall out again while a search goes on. So
// a hit waits as a row and a distance, and its id is looked up, prefetched, when there is no more room or a search
// ends.
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

    /// Whether hits are counted while they wait, so that thresholds fall at once.
    bool counted() const { return counted_; }
    /// Push the entries of this row, now or later, if they can enter.
    void add(std::size_t query, std::size_t row, std::int32_t distance);
    /// Push the hits that wait, unless they are counted: thresholds fall when others are pushed.
    void settle() {
        if (!counted_) push_all();
    }
    /// Push the hits that wait. Comes before the results of any query are read.
    void push_all();

    /// The thresholds of all queries at their last refresh(), exclusive, as kernels take them.
    const std::uint16_t* thresholds() const { return thresholds_.data(); }
    void refresh(std::size_t query) {
        thresholds_[query] = static_cast<std::uint16_t>(nearest_[query].largest_distance() + 1);
    }

 private:
    static constexpr std::size_t kMostOfQuery = 64;

    struct Hit {
        std::uint32_t query;
        std::uint32_t row;
        std::int32_t distance;
    };

    void drop_far();

    const RowEntries& entries_;
    TopK* const nearest_;
    const bool waits_;  // else ids are computed, and hits are pushed at once
    const bool counted_;
    const std::size_t most_;  // hits that wait
    Hit few_[2 * kMostOfQuery];
    Array<Hit> many_;
    Hit* const hits_;  // few_, or many_ if there are more
    std::size_t n_ = 0;
    std::vector<std::uint16_t> thresholds_;
};

}  // namespace fasthash
