#include "fasthash/topk.h"

#include <algorithm>
#include <utility>

namespace fasthash {
namespace {

constexpr std::size_t kFewIds = 64;  // that a result holds without memory of its own

}  // namespace

TopK::TopK(Wanted wanted, std::size_t n_bits, IdOrder order)
    : k_(wanted.k),
      // 2 k: each compaction drops at least k pairs, so that its cost per pair is constant.
      n_kept_(k_ > kAll / 4 ? kAll : std::max<std::size_t>(2 * k_, 64)),
      count_only_(wanted.count_only),
      order_(order),
      threshold_(std::min(wanted.radius, static_cast<std::int32_t>(n_bits))),
      counts_(n_bits + 1) {
    pairs_.reserve(std::min<std::size_t>(n_kept_, count_only_ ? 0 : 32));
}

void TopK::keep(std::int32_t distance, std::int64_t id) {
    if (count_only_) return count(1);
    count_pair(distance);
    keep_counted(distance, id);
}

bool TopK::push_expected(std::int32_t distance, std::int64_t id) {
    if (distance > threshold_) return false;
    if (distance == threshold_ && id > id_threshold_) {
        --counts_[static_cast<std::size_t>(distance)];
        --n_within_;
        return false;
    }
    keep_counted(distance, id);
    return true;
}

void TopK::keep_counted(std::int32_t distance, std::int64_t id) {
    pairs_.emplace_back(distance, id);  // written in place: a copied pair would wait for its two halves
    if (pairs_.size() >= n_kept_) compact();
}

void TopK::count_pair(std::int32_t distance) {
    ++counts_[static_cast<std::size_t>(distance)];
    ++n_within_;
    // The threshold falls as soon as k pairs are strictly nearer.
    while (n_within_ - counts_[static_cast<std::size_t>(threshold_)] >= k_) {
        n_within_ -= counts_[static_cast<std::size_t>(threshold_--)];
        id_threshold_ = INT64_MAX;
    }
}

void TopK::limit(std::int32_t distance) {
    if (distance >= threshold_) return;
    if (n_within_ == 0) threshold_ = distance;  // all counts are 0
    while (threshold_ > distance) n_within_ -= counts_[static_cast<std::size_t>(threshold_--)];
    id_threshold_ = INT64_MAX;
}

void TopK::push_all(const TopK& other) {
    if (count_only_) return count(other.n_within_);
    for (const Pair& pair : other.pairs_) push(pair.distance, pair.id);
}

// Drops the pairs that cannot be among the k nearest; ties at the threshold's distance keep the smallest ids. Expected
// pairs are counted, but have no id yet.
void TopK::compact() {
    std::size_t& n_ties = counts_[static_cast<std::size_t>(threshold_)];
    const std::size_t ties_kept = k_ - std::min(k_, n_within_ - n_ties);
    std::size_t n_last = SIZE_MAX;  // pairs with the last id that are kept: one, unless a damaged file repeats ids
    if (ties_kept < n_ties) {
        ties_.clear();
        ties_.reserve(n_ties);
        for (const Pair& pair : pairs_) {
            if (pair.distance == threshold_) ties_.push_back(pair.id);
        }
    }
    if (ties_kept < n_ties && ties_kept < ties_.size()) {
        const auto last =
            ties_.begin() + static_cast<std::ptrdiff_t>(ties_kept) - 1;  // k_ > 0, so at least one is kept
        std::nth_element(ties_.begin(), last, ties_.end());
        id_threshold_ = *last;
        n_last = ties_kept - static_cast<std::size_t>(std::count_if(
                                 ties_.begin(), last, [this](std::int64_t id) { return id < id_threshold_; }));
        n_within_ -= ties_.size() - ties_kept;
        n_ties -= ties_.size() - ties_kept;
    }
    // Which pairs stay can hardly be predicted, so that there are no branches.
    std::size_t n_left = 0;
    for (const Pair pair : pairs_) {
        const bool at_threshold = pair.distance == threshold_;
        const bool is_last = at_threshold & (pair.id == id_threshold_) & (n_last > 0);
        const bool stays = (pair.distance < threshold_) | (at_threshold & (pair.id < id_threshold_)) | is_last;
        n_last -= is_last ? 1 : 0;
        pairs_[n_left] = pair;
        n_left += stays ? 1 : 0;
    }
    pairs_.erase(pairs_.begin() + static_cast<std::ptrdiff_t>(n_left), pairs_.end());
    std::fill(counts_.begin() + threshold_ + 1, counts_.end(), 0);
}

// Radix sort, lowest byte first, for many ids: time is linear in their number.
void TopK::sort_ids(std::int64_t* ids, std::size_t n) {
    constexpr std::size_t kFew = 512, kValues = 256;
    if (n < kFew) {
        std::sort(ids, ids + n);
        return;
    }
    if (std::is_sorted(ids, ids + n)) return;  // as the ids of one row are
    const auto [smallest, largest] = std::minmax_element(ids, ids + n);
    const auto base = static_cast<std::uint64_t>(*smallest);
    const std::uint64_t range = static_cast<std::uint64_t>(*largest) - base;
    std::vector<std::int64_t> sorted(n);
    for (unsigned shift = 0; shift < 64 && range >> shift != 0; shift += 8) {
        const auto value_of = [base, shift](std::int64_t id) {
            return ((static_cast<std::uint64_t>(id) - base) >> shift) % kValues;
        };
        std::size_t next[kValues] = {};
        for (std::size_t i = 0; i < n; ++i) ++next[value_of(ids[i])];
        std::size_t begin = 0;
        for (std::size_t& count : next) begin += std::exchange(count, begin);
        for (std::size_t i = 0; i < n; ++i) sorted[next[value_of(ids[i])]++] = ids[i];
        std::copy(sorted.begin(), sorted.end(), ids);
    }
}

// Moves the smallest ids to the front, in order.
void TopK::smallest_first(std::int64_t* ids, std::size_t n, std::size_t n_wanted) {
    constexpr std::size_t kMostSteps = 1024;
    if (n * n_wanted > kMostSteps) {
        if (n_wanted < n) std::nth_element(ids, ids + n_wanted, ids + n);
        return sort_ids(ids, n_wanted);
    }
    // Insertion of one id after the other. Of each pair the smaller stays, the larger goes on: no branch depends on an
    // id, which can hardly be predicted.
    for (std::size_t i = 0; i < n; ++i) {
        std::int64_t id = ids[i];
        for (std::size_t j = 0; j < std::min(i, n_wanted); ++j) {
            const std::int64_t other = ids[j];
            ids[j] = std::min(id, other);
            id = std::max(id, other);
        }
        if (i < n_wanted) ids[i] = id;
    }
}

void TopK::write(std::int32_t* distances, std::int64_t* ids) {
    const std::size_t n = size();
    if (n == 0) return;  // the threshold may be -1
    // Prefix sums of the counts: the first row of each distance.
    std::size_t begin = 0;
    for (std::int32_t d = 0; d < threshold_; ++d) begin += std::exchange(counts_[static_cast<std::size_t>(d)], begin);
    std::int64_t few[kFewIds];
    const std::size_t most_ties = counts_[static_cast<std::size_t>(threshold_)];
    if (most_ties > kFewIds) ties_.resize(most_ties);
    std::int64_t* const ties = most_ties > kFewIds ? ties_.data() : few;
    std::size_t n_ties = 0;
    for (const Pair& pair : pairs_) {
        if (pair.distance < threshold_) {
            const std::size_t row = counts_[static_cast<std::size_t>(pair.distance)]++;
            distances[row] = pair.distance;
            ids[row] = pair.id;
        } else if (pair.distance == threshold_) {
            ties[n_ties++] = pair.id;
        }
    }
    if (order_ == IdOrder::any) {
        for (std::size_t row = 0; row < begin;) {
            const std::size_t end = counts_[static_cast<std::size_t>(distances[row])];
            sort_ids(ids + row, end - row);
            row = end;
        }
        smallest_first(ties, n_ties, n - begin);
    }
    std::fill(distances + begin, distances + n, threshold_);
    std::copy_n(ties, n - begin, ids + begin);
}

}  // namespace fasthash
