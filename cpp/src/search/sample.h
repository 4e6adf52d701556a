// The distances of a query to the first codes of a scan, all computed before any is pushed.
//
// Used by scans: the k-th smallest of these distances limits the threshold, so that of the pairs pushed few fall out
// again. Two forms: bytes, by kernels, for codes of at most kMostPartBytes; 16-bit numbers for wider ones.
#pragma once

#include <algorithm>

#include "kernels/kernels.h"
#include "platform/array.h"

namespace fasthash {

class Sample {
 public:
    /// Compare a query, prepared by Kernels::prepare, with all codes of n groups.
    void compare(const std::uint8_t* prepared, const std::uint8_t* groups, std::size_t n_groups, std::size_t n_bytes);
    /// The same, leaving out the codes that the parts drop. n_bytes is at most kMostPartBytes. `by_part`: see PartScan.
    void compare(const std::uint8_t* prepared, const std::uint8_t* groups, std::size_t n_groups, std::size_t n_bytes,
                 const CodePart* parts, std::size_t n_parts, bool by_part);
    /// Leave out the codes of a group but those whose bit is set.
    void keep(std::size_t group, std::uint64_t rows);
    /// The k-th smallest distance; `most` if it is larger. most <= n_bits.
    std::int32_t kth_smallest(std::size_t k, std::int32_t most) const;
    /// Call visit(place, distance) for the codes with a distance of at most `largest` <= n_bits, in order. The distance
    /// of place i is that of code i % kGroup of group i / kGroup.
    template <typename Visit>
    void each(std::int32_t largest, Visit visit) const;

 private:
    static constexpr std::uint16_t kLeftOut = UINT16_MAX;

    bool narrow() const { return n_bytes_ <= kMostPartBytes; }
    std::size_t count_at_most(std::int32_t largest) const;

    std::size_t n_groups_ = 0, n_bytes_ = 0;
    Array<std::uint8_t> bytes_;   // if narrow(); kDropped if left out
    Array<std::uint16_t> words_;  // else
};

template <typename Visit>
void Sample::each(std::int32_t largest, Visit visit) const {
    if (largest < 0) return;
    if (!narrow()) {
        for (std::size_t i = 0; i < words_.size(); ++i) {
            if (words_[i] <= largest) visit(i, std::int32_t{words_[i]});
        }
        return;
    }
    constexpr std::size_t kGroupsAtOnce = 16;
    std::uint32_t found[kGroupsAtOnce * kGroup];
    for (std::size_t group = 0; group < n_groups_; group += kGroupsAtOnce) {
        const std::uint8_t* first = bytes_.data() + group * kGroup;
        const std::size_t n = kernels().find_between(first, std::min(kGroupsAtOnce, n_groups_ - group), 0,
                                                     static_cast<std::uint8_t>(largest), found);
        for (std::size_t i = 0; i < n; ++i) visit(group * kGroup + found[i], std::int32_t{first[found[i]]});
    }
}

}  // namespace fasthash
