#include "search/jaccard_topk.h"

#include <algorithm>

namespace fasthash {

JaccardDistance JaccardDistance::largest_within(float radius, std::size_t n_bits) {
    JaccardDistance largest{0, 1};
    for (std::uint32_t united = 1; united <= n_bits; ++united) {
        const auto within = [=](std::uint32_t differing) {
            return JaccardDistance{differing, united}.value() <= radius;
        };
        const auto whole = static_cast<float>(united);
        auto differing = static_cast<std::uint32_t>(std::min(radius * whole, whole));
        while (differing < united && within(differing + 1)) ++differing;
        while (differing > 0 && !within(differing)) --differing;
        largest = std::max(largest, JaccardDistance{differing, united});
    }
    return largest;
}

JaccardTopK::JaccardTopK(std::size_t k, JaccardDistance radius, bool count_only)
    : k_(k), threshold_(radius), count_only_(count_only) {
    constexpr std::size_t kMostReserved = 128;
    if (!count_only) pairs_.reserve(std::min(k, kMostReserved));
}

void JaccardTopK::push(JaccardDistance distance, std::int64_t id) {
    if (threshold_ < distance) return;
    if (count_only_) {
        ++n_;
        return;
    }
    const Pair pair{distance, id};
    if (pairs_.size() == k_) {
        if (!(pair < pairs_.front())) return;
        std::pop_heap(pairs_.begin(), pairs_.end());
        pairs_.back() = pair;
        std::push_heap(pairs_.begin(), pairs_.end());
    } else {
        pairs_.push_back(pair);
        if (pairs_.size() < k_) return;
        std::make_heap(pairs_.begin(), pairs_.end());
    }
    threshold_ = pairs_.front().distance;
}

void JaccardTopK::push_all(const JaccardTopK& other) {
    n_ += other.n_;
    for (const Pair& pair : other.pairs_) push(pair.distance, pair.id);
}

void JaccardTopK::write(float* distances, std::int64_t* ids) {
    std::sort(pairs_.begin(), pairs_.end());
    for (std::size_t i = 0; i < pairs_.size(); ++i) {
        distances[i] = pairs_[i].distance.value();
        ids[i] = pairs_[i].id;
    }
}

}  // namespace fasthash
