// The nearest leaves of a tree for one query, from those that a comparison found within a guess of their distance.
//
// Used by TreeLevels at the leaves. The guess should be so large that there are k within it, and hardly more.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"
#include "platform/array.h"

namespace fasthash {

class NearestLeaves {
 public:
    /// Begin with a query, whose comparison reads at most so many groups.
    void start(std::size_t most_groups) {
        constexpr std::size_t kUsual = 64;  // to grow step by step would take as long as a small search
        found_.resize(most_groups);
        hits_.reserve(kUsual);
    }
    /// To be set: for each group in the order of the comparison, bit i if place i is a leaf within the guess.
    std::uint64_t* found() { return found_.data(); }

    /// List those found in n groups, and keep the k nearest and the farther ones at the distance of the last of these.
    /// False if fewer than k are found, or so many that to list them would take longer than to count all distances.
    /// `distances`: of the compared groups; `groups`: their numbers, or null if they are 0 .. n - 1.
    template <typename Distance>
    bool take(std::size_t n, const Distance* distances, const std::uint32_t* groups, std::size_t k) {
        constexpr std::size_t kAnyway = 16, kForEach = 4;  // groups
        list_groups(n);
        if (groups_.size() > kAnyway + kForEach * k) return false;
        clear();
        for (const std::size_t g : groups_) {
            const std::size_t first = (groups == nullptr ? g : groups[g]) * kGroup;
            std::uint64_t left = found_[g];
            do {
                const auto place = static_cast<std::size_t>(__builtin_ctzll(left));
                add(first + place, std::int32_t{distances[g * kGroup + place]});
                left &= left - 1;
            } while (left != 0);
        }
        n_listed_ = hits_.size();
        if (n_listed_ < k) return false;
        keep_nearest(k);
        return true;
    }
    /// Whether take() listed so many that the next guess may be smaller. One that is too small takes more time.
    bool took_many(std::size_t k) const { return n_listed_ > 2 * k; }

    /// The leaves, by row.
    const std::vector<RowHit>& hits() const { return hits_; }
    void clear() { hits_.clear(); }
    void add(std::size_t row, std::int32_t distance) { hits_.push_back({static_cast<std::uint32_t>(row), distance}); }

 private:
    // Those with a leaf within the guess. Which ones can hardly be predicted, so that there is no branch.
    void list_groups(std::size_t n) {
        groups_.resize(n + 1);
        std::size_t n_groups = 0;
        for (std::size_t g = 0; g < n; ++g) {
            groups_[n_groups] = static_cast<std::uint32_t>(g);
            n_groups += found_[g] != 0 ? 1 : 0;
        }
        groups_.resize(n_groups);
    }

    void keep_nearest(std::size_t k) {
        std::uint32_t n_at[kDropped + 1] = {};  // by distance
        for (const RowHit& hit : hits_) ++n_at[hit.distance];
        std::int32_t last = 0;  // the distance of the k-th
        for (std::size_t n = n_at[0]; n < k; n += n_at[last]) ++last;
        std::size_t n = 0;
        for (const RowHit hit : hits_) {
            hits_[n] = hit;
            n += hit.distance <= last ? 1 : 0;
        }
        hits_.resize(n);
    }

    Array<std::uint64_t> found_;
    Array<std::uint32_t> groups_;
    std::vector<RowHit> hits_;
    std::size_t n_listed_ = 0;  // before the farther ones were dropped
};

}  // namespace fasthash
