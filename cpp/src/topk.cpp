#include "fasthash/topk.h"

#include <algorithm>

#include "fasthash/ids.h"

namespace fasthash {

TopK::TopK(std::size_t k, std::size_t n_bits)
    : k_(k), max_distance_(static_cast<std::int32_t>(n_bits)), limit_(max_distance_), counts_(n_bits + 1) {}

void TopK::clear() {
    std::fill(counts_.begin(), counts_.end(), 0);
    pairs_.clear();
    n_within_ = 0;
    limit_ = max_distance_;
}

void TopK::keep(std::int32_t distance, std::int64_t id) {
    pairs_.push_back({distance, id});
    ++counts_[static_cast<std::size_t>(distance)];
    ++n_within_;
    // The limit is right as long as the pairs strictly within it are fewer than k.
    while (n_within_ - counts_[static_cast<std::size_t>(limit_)] >= k_) {
        n_within_ -= counts_[static_cast<std::size_t>(limit_--)];
    }
    // Twice k and a little: each compaction is paid for by the pairs that came since the last.
    if (pairs_.size() >= 2 * k_ + 64) compact();
}

// Leaves the k nearest alone, and the counts as if nothing else had ever come.
void TopK::compact() {
    std::nth_element(pairs_.begin(), pairs_.begin() + static_cast<std::ptrdiff_t>(k_), pairs_.end());
    pairs_.resize(k_);
    std::fill(counts_.begin(), counts_.end(), 0);
    for (const Pair& pair : pairs_) ++counts_[static_cast<std::size_t>(pair.distance)];
    n_within_ = k_;
}

void TopK::write(std::int32_t* distances, std::int64_t* ids) {
    const std::size_t n = std::min(k_, pairs_.size());
    std::partial_sort(pairs_.begin(), pairs_.begin() + static_cast<std::ptrdiff_t>(n), pairs_.end());
    for (std::size_t i = 0; i < n; ++i) {
        distances[i] = pairs_[i].distance;
        ids[i] = pairs_[i].id;
    }
    std::fill(distances + n, distances + k_, max_distance_ + 1);
    std::fill(ids + n, ids + k_, kNoId);
}

}  // namespace fasthash
