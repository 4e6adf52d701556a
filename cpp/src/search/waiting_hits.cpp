#include "search/waiting_hits.h"

#include <algorithm>
#include <iterator>

namespace fasthash {

WaitingHits::WaitingHits(const RowEntries& entries, TopK* nearest, std::size_t n_queries)
    : entries_(entries),
      nearest_(nearest),
      waits_(entries.stored()),
      counted_(entries.mostly_one() && nearest->order() == IdOrder::any),
      most_(counted_ ? kMostOfQuery * std::max<std::size_t>(n_queries, 2) : kMostOfQuery),
      many_(waits_ && most_ > std::size(few_) ? most_ : 0),
      hits_(many_.empty() ? few_ : many_.data()),
      thresholds_(n_queries) {}

void WaitingHits::add(std::size_t query, std::size_t row, std::int32_t distance) {
    TopK& nearest = nearest_[query];
    if (distance > nearest.largest_distance()) return;
    if (!waits_) return entries_.push(row, distance, nearest);
    if (counted_) {
        nearest.expect(distance);
    } else {
        entries_.prefetch(row);  // it will not wait long
    }
    hits_[n_++] = {static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(row), distance};
    if (n_ < most_) return;
    if (counted_) drop_far();
    if (n_ > most_ / 2) push_all();
}

// Which hits are far can hardly be predicted, so that there are no branches.
void WaitingHits::drop_far() {
    std::size_t n = 0;
    for (std::size_t i = 0; i < n_; ++i) {
        const Hit hit = hits_[i];
        hits_[n] = hit;
        // Not largest_distance(): hits that wait are counted.
        n += hit.distance <= nearest_[hit.query].threshold() ? 1 : 0;
    }
    n_ = n;
}

void WaitingHits::push_all() {
    constexpr std::size_t kAhead = 32;  // ids that are prefetched before one is read
    if (counted_) drop_far();
    for (std::size_t i = 0; counted_ && i < std::min(n_, kAhead); ++i) entries_.prefetch(hits_[i].row);
    for (std::size_t i = 0; i < n_; ++i) {
        if (counted_ && i + kAhead < n_) entries_.prefetch(hits_[i + kAhead].row);
        const Hit hit = hits_[i];
        TopK& nearest = nearest_[hit.query];
        if (hit.distance > nearest.threshold()) continue;
        if (counted_) {
            entries_.push_expected(hit.row, hit.distance, nearest);
        } else {
            entries_.push(hit.row, hit.distance, nearest);
            refresh(hit.query);
        }
    }
    n_ = 0;
}

}  // namespace fasthash
