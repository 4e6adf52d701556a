// TopK: selects the k nearest entries of a query, ordered by (distance, id).
//
// Used by all searches on the CPU. The result does not depend on the order of the pushes, within what IdOrder promises.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

/// k of searches that want every entry.
constexpr std::size_t kAll = SIZE_MAX;

/// The wanted result: the k nearest entries within a radius.
struct Wanted {
    std::size_t k = kAll;
    std::int32_t radius = INT32_MAX;
    bool count_only = false;  ///< only their number; k must be kAll
};

/// The order in which ids of equal distance are pushed.
enum class IdOrder { any, ascending };

/// Selects the k smallest (distance, id) pairs within a radius from a stream of pairs. Distances are small integers, so
/// a histogram gives the k-th smallest distance at every moment, and only pairs that can be among the k are kept.
///
/// The threshold is the pair (threshold(), id_threshold()): a pair that comes after it, in the order of (distance, id),
/// is not among the k.
///
/// Invariant: the threshold only falls. So a pair may be skipped exactly if it comes after the threshold of one moment,
/// now or earlier. Both halves must be of the same moment: when the distance falls, every id is allowed again, so the
/// distance of now beside the id of an earlier moment is not a threshold, and would skip pairs that are among the k.
/// Every search that skips pairs because of their ids asks largest_distance(), the one place that applies this rule;
/// else a search skips only pairs farther than a k-th distance.
class TopK {
 public:
    /// Distances run from 0 to n_bits.
    TopK(Wanted wanted, std::size_t n_bits, IdOrder order = IdOrder::any);

    std::size_t k() const { return k_; }
    /// Whether k pairs have been pushed or are expected.
    bool has_k() const { return n_within_ >= k_; }
    bool counts_only() const { return count_only_; }
    IdOrder order() const { return order_; }
    /// Distance of the k-th nearest so far; while there are fewer than k, the radius (at most n_bits).
    std::int32_t threshold() const { return threshold_; }

    /// Largest distance at which a pair whose id is at least `least_id` can still enter; -1 if none can.
    std::int32_t largest_distance(std::int64_t least_id = INT64_MIN) const {
        // Ascending ids are larger than all ids kept at the threshold.
        const bool ties_enter = order_ == IdOrder::any ? least_id <= id_threshold_ : n_within_ < k_;
        return threshold_ - (ties_enter ? 0 : 1);
    }

    /// False if the pair cannot be among the k; then no pair of equal distance and larger id can.
    bool push(std::int32_t distance, std::int64_t id) {
        const bool enters = distance <= largest_distance(id);
        if (enters) keep(distance, id);
        return enters;
    }
    /// Count a pair that will be pushed later, by push_expected(), so that the threshold falls at once. Its distance is
    /// at most largest_distance(). Once it is beyond the threshold, the push may be left out. Only for IdOrder::any:
    /// where ids ascend, the first pairs at a distance win, and a counted one would shut them out.
    void expect(std::int32_t distance) { count_pair(distance); }
    /// Push a pair that is counted. The result is that of push().
    bool push_expected(std::int32_t distance, std::int64_t id);
    /// Lower the threshold to this distance. The caller knows of k pairs within it, or asks has_k() at the end.
    void limit(std::int32_t distance);
    /// Count n pairs within the threshold. Only for count_only.
    void count(std::size_t n) { n_within_ += n; }
    /// Push all pairs kept by another selection with the same Wanted.
    void push_all(const TopK& other);

    /// Number of results, once no pair is expected.
    std::size_t size() const { return count_only_ ? n_within_ : std::min(k_, n_within_); }
    /// Write the results, size() of them, in order. Ends the selection.
    void write(std::int32_t* distances, std::int64_t* ids);

 private:
    struct Pair {
        Pair(std::int32_t of_pair, std::int64_t with_id) : distance(of_pair), id(with_id) {}

        std::int32_t distance;
        std::int64_t id;
    };

    void keep(std::int32_t distance, std::int64_t id);
    void keep_counted(std::int32_t distance, std::int64_t id);
    void count_pair(std::int32_t distance);
    void compact();
    static void sort_ids(std::int64_t* ids, std::size_t n);
    static void smallest_first(std::int64_t* ids, std::size_t n, std::size_t n_wanted);

    std::size_t k_;
    std::size_t n_kept_;  // size of pairs_ at which compact() runs
    bool count_only_;
    IdOrder order_;
    std::int32_t threshold_;
    std::int64_t id_threshold_ = INT64_MAX;  // a pair at the threshold's distance enters only with an id up to this
    std::size_t n_within_ = 0;               // pairs counted at distances up to the threshold
    std::vector<std::size_t> counts_;        // pairs per distance
    std::vector<Pair> pairs_;                // all pairs that may be among the k, and some that no longer can
    std::vector<std::int64_t> ties_;         // ids, while they are sorted
};

}  // namespace fasthash
