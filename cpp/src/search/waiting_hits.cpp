#include "search/waiting_hits.h"

namespace fasthash {

WaitingHits::WaitingHits(const RowEntries& entries, TopK* nearest, std::size_t n_queries)
    : entries_(entries),
      nearest_(nearest),
      waits_(entries.stored()),
      counted_(entries.mostly_one() && nearest->order() == IdOrder::any),
      hits_(waits_ ? n_queries * kMost : 0),
      n_(n_queries),
      thresholds_(n_queries) {}

void WaitingHits::add(std::size_t query, std::size_t row, std::int32_t distance) {
    TopK& nearest = nearest_[query];
    if (distance > nearest.largest_distance()) return;
    if (!waits_) return entries_.push(row, distance, nearest);
    if (counted_) nearest.expect(distance);
    hits_[query * kMost + n_[query]++] = {static_cast<std::uint32_t>(row), distance};
    if (n_[query] < kMost) return;
    prefetch(query);
    if (n_[query] > kMost / 2) push(query);
}

void WaitingHits::settle(const std::uint32_t* queries, std::size_t n) {
    if (!waits_ || counted_) return;
    push_all(queries, n);
    for (std::size_t i = 0; i < n; ++i) refresh(queries[i]);
}

void WaitingHits::drop_far(std::size_t query) {
    Hit* hits = hits_.data() + query * kMost;
    const std::int32_t most = nearest_[query].threshold();  // not largest_distance(): those that wait are counted
    std::uint32_t n = 0;
    for (std::size_t i = 0; i < n_[query]; ++i) {
        const Hit hit = hits[i];
        hits[n] = hit;
        n += hit.distance <= most ? 1 : 0;
    }
    n_[query] = n;
}

void WaitingHits::prefetch(std::size_t query) {
    drop_far(query);
    const Hit* hits = hits_.data() + query * kMost;
    for (std::size_t i = 0; i < n_[query]; ++i) entries_.prefetch(hits[i].row);
}

void WaitingHits::push(std::size_t query) {
    TopK& nearest = nearest_[query];
    const Hit* hits = hits_.data() + query * kMost;
    for (std::size_t i = 0; i < n_[query]; ++i) {
        const Hit hit = hits[i];
        if (hit.distance > nearest.threshold()) continue;
        if (counted_) nearest.take_back(hit.distance);
        entries_.push(hit.row, hit.distance, nearest);
    }
    n_[query] = 0;
}

void WaitingHits::push_all(const std::uint32_t* queries, std::size_t n) {
    for (std::size_t i = 0; i < n + kAhead; ++i) {
        if (i < n) prefetch(queries[i]);
        if (i >= kAhead) push(queries[i - kAhead]);
    }
}

}  // namespace fasthash
