// The k nearest so far, ordered by (distance, id).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

/// In which order a stream brings the ids of pairs of equal distance.
enum class IdOrder { any, ascending };

/// Selects the k smallest (distance, id) pairs of a stream by counting: distances are small integers, so a histogram
/// knows the k-th smallest distance at every moment, and only pairs that can be among the k are kept.
class TopK {
 public:
    /// Distances run from 0 to n_bits.
    TopK(std::size_t k, std::size_t n_bits, IdOrder order = IdOrder::any);

    /// Forget all pairs.
    void clear();

    std::size_t k() const { return k_; }
    /// Distance of the k-th nearest so far, n_bits while there are fewer than k.
    std::int32_t limit() const { return limit_; }
    /// A pair can enter only if its distance is below this. That is one more than the limit, since one at the limit may
    /// enter by its id; unless ids ascend.
    std::int32_t bound() const { return limit_ + (order_ == IdOrder::any || n_within_ < k_ ? 1 : 0); }

    /// A pair at the limit itself can enter only if its id is below this.
    std::int64_t id_limit() const { return id_limit_; }

    /// False if the pair cannot be among the k; then no pair of equal distance and larger id can.
    bool push(std::int32_t distance, std::int64_t id) {
        const bool wanted = distance < bound() && (distance < limit_ || id < id_limit_);
        if (wanted) keep(distance, id);
        return wanted;
    }
    /// All pairs that another selection kept, which has the same k.
    void push_all(const TopK& other);

    /// Write k rows in order; those that no pair fills get distance n_bits + 1 and id -1. Ends the selection.
    void write(std::int32_t* distances, std::int64_t* ids);

 private:
    struct Pair {
        std::int32_t distance;
        std::int64_t id;
    };

    void keep(std::int32_t distance, std::int64_t id);
    void compact();
    void sort_ids(std::int64_t* ids, std::size_t n);

    std::size_t k_;
    IdOrder order_;
    std::int32_t max_distance_;
    std::int32_t limit_;
    std::int64_t id_limit_ = INT64_MAX;  // what a pair at the limit has to stay below
    std::size_t n_within_ = 0;           // pairs counted at distances up to limit_
    std::vector<std::size_t> counts_;    // pairs per distance
    std::vector<Pair> pairs_;            // all pairs that may be among the k, and some that have fallen out since
    std::vector<std::int64_t> ties_;     // ids, while they are sorted
};

}  // namespace fasthash
