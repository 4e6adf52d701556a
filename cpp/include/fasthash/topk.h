// The k nearest so far, ordered by (distance, id).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

/// All that there are.
constexpr std::size_t kAll = SIZE_MAX;

/// What a search is for: the k nearest within a radius.
struct Wanted {
    std::size_t k = kAll;
    std::int32_t radius = INT32_MAX;
    bool count_only = false;  ///< how many there are, not which; for all of them
};

/// In which order a stream brings the ids of pairs of equal distance.
enum class IdOrder { any, ascending };

/// Selects the k smallest (distance, id) pairs within a radius of a stream by counting: distances are small integers,
/// so a histogram knows the k-th smallest distance at every moment, and only pairs that can be among the k are kept.
class TopK {
 public:
    /// Distances run from 0 to n_bits.
    TopK(Wanted wanted, std::size_t n_bits, IdOrder order = IdOrder::any);

    /// Forget all pairs.
    void clear();

    std::size_t k() const { return k_; }
    bool counts_only() const { return count_only_; }
    /// Distance of the k-th nearest so far; while there are fewer than k the radius, at most n_bits.
    std::int32_t limit() const { return limit_; }
    /// A pair can enter only if its distance is below this. That is one more than the limit, since one at the limit may
    /// enter by its id; unless ids ascend.
    std::int32_t bound() const { return limit_ + (order_ == IdOrder::any || n_within_ < k_ ? 1 : 0); }

    /// A pair at the limit itself can enter only if its id is not above this.
    std::int64_t id_limit() const { return id_limit_; }

    /// False if the pair cannot be among the k; then no pair of equal distance and larger id can.
    bool push(std::int32_t distance, std::int64_t id) {
        const bool wanted = distance < bound() && (distance < limit_ || id <= id_limit_);
        if (wanted) keep(distance, id);
        return wanted;
    }
    /// Several pairs of a distance within the limit, where only their number is wanted.
    void count(std::size_t n) { n_within_ += n; }
    /// All pairs that another selection kept, for which the same is wanted.
    void push_all(const TopK& other);

    /// Leaves the k nearest alone and tells how many they are.
    std::size_t finish();
    /// Write them in order, after finish. Ends the selection.
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
    std::size_t n_kept_;  // pairs at which those that have fallen out are dropped
    bool count_only_;
    IdOrder order_;
    std::int32_t radius_;
    std::int32_t limit_;
    std::int64_t id_limit_ = INT64_MAX;  // what the id of a pair at the limit must not exceed
    std::size_t n_within_ = 0;           // pairs counted at distances up to limit_
    std::vector<std::size_t> counts_;    // pairs per distance
    std::vector<Pair> pairs_;            // all pairs that may be among the k, and some that have fallen out since
    std::vector<std::int64_t> ties_;     // ids, while they are sorted
};

}  // namespace fasthash
