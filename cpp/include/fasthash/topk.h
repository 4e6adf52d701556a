// The k nearest so far, ordered by (distance, id).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

/// Selects the k smallest (distance, id) pairs of a stream by counting: distances are small integers, so a histogram
/// knows the k-th smallest distance at every moment, and only pairs within it are kept.
class TopK {
 public:
    /// Distances run from 0 to n_bits.
    TopK(std::size_t k, std::size_t n_bits);

    /// Forget all pairs, keep k.
    void clear();

    /// Distance of the k-th nearest so far (n_bits while there are fewer than k): a pair farther away cannot enter,
    /// one at exactly this distance may, by its id.
    std::int32_t limit() const { return limit_; }

    void push(std::int32_t distance, std::int64_t id) {
        if (distance <= limit_) keep(distance, id);
    }

    /// Write k rows in order; those that no pair fills get distance n_bits + 1 and id -1. Ends the selection.
    void write(std::int32_t* distances, std::int64_t* ids);

 private:
    struct Pair {
        std::int32_t distance;
        std::int64_t id;
        bool operator<(const Pair& other) const {
            return distance != other.distance ? distance < other.distance : id < other.id;
        }
    };

    void keep(std::int32_t distance, std::int64_t id);
    void compact();

    std::size_t k_;
    std::int32_t max_distance_;
    std::int32_t limit_;
    std::size_t n_within_ = 0;         // pairs counted at distances up to limit_
    std::vector<std::size_t> counts_;  // pairs per distance
    std::vector<Pair> pairs_;          // all pairs within limit_, and some that have fallen out since
};

}  // namespace fasthash
