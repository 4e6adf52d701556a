#include "search/waiting_hits.h"

#include <algorithm>

namespace fasthash {

WaitingHits::WaitingHits(const RowEntries& entries, TopK* nearest, std::size_t n_queries)
    : entries_(entries),
      nearest_(nearest),
      waits_(entries.stored()),
      counted_(entries.mostly_one() && nearest->order() == IdOrder::any),
      most_(64 * std::max<std::size_t>(n_queries, 2)),
      thresholds_(n_queries) {
    if (waits_) hits_.reserve(most_);
}

void WaitingHits::add(std::size_t query, std::size_t row, std::int32_t distance) {
    TopK& nearest = nearest_[query];
    if (distance > nearest.largest_distance()) return;
    if (!waits_) return entries_.push(row, distance, nearest);
    if (counted_) nearest.expect(distance);
    hits_.push_back({static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(row), distance});
    if (hits_.size() < most_) return;
    drop_far();
    if (hits_.size() > most_ / 2) push_all();
}

// Which hits are far can hardly be predicted, so that there are no branches.
void WaitingHits::drop_far() {
    std::size_t n = 0;
    for (const Hit hit : hits_) {
        hits_[n] = hit;
        // Not largest_distance(): hits that wait are counted.
        n += hit.distance <= nearest_[hit.query].threshold() ? 1 : 0;
    }
    hits_.resize(n);
}

void WaitingHits::push_all() {
    constexpr std::size_t kAhead = 32;  // ids that are prefetched before one is read
    drop_far();
    const std::size_t n = hits_.size(), n_ahead = std::min(n, kAhead);
    for (std::size_t i = 0; i < n_ahead; ++i) entries_.prefetch(hits_[i].row);
    for (std::size_t i = 0; i < n; ++i) {
        if (i + kAhead < n) entries_.prefetch(hits_[i + kAhead].row);
        const Hit hit = hits_[i];
        TopK& nearest = nearest_[hit.query];
        if (hit.distance > nearest.threshold()) continue;
        if (counted_) nearest.take_back(hit.distance);
        entries_.push(hit.row, hit.distance, nearest);
        if (!counted_) refresh(hit.query);
    }
    hits_.resize(0);
}

}  // namespace fasthash
