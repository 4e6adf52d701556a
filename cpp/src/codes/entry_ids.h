// The ids of entries in insertion order.
//
// Used by ByteMajorSegment.
#pragma once

#include "codes/id_summary.h"
#include "codes/packed_numbers.h"
#include "kernels/kernels.h"

namespace fasthash {

/// Consecutive ids take no memory; others take the bytes that their range needs.
class EntryIds {
 public:
    /// first, first + 1, ...
    EntryIds(std::int64_t first, std::size_t n)
        : n_(n), smallest_(first), largest_(first + (static_cast<std::int64_t>(n) - 1)) {}
    EntryIds(const std::int64_t* ids, std::size_t n);
    /// From a file.
    EntryIds(PackedNumbers ids, IdSummary summary);

    std::size_t size() const { return n_; }
    bool counted() const { return ids_.size() == 0; }
    /// The ids as they are stored; empty if they are counted.
    const PackedNumbers& packed() const { return ids_; }
    std::int64_t operator[](std::size_t i) const {
        return counted() ? smallest_ + static_cast<std::int64_t>(i) : ids_[i];
    }
    /// Whether each id is larger than the previous one.
    bool ascend() const { return ascend_; }
    std::int64_t smallest() const { return smallest_; }
    std::int64_t largest() const { return largest_; }
    /// The smallest id in a group of kGroup entries.
    std::int64_t least_of(std::size_t group) const { return ascend_ ? (*this)[group * kGroup] : least_[group]; }
    void prefetch(std::size_t i) const {
        if (!counted()) ids_.prefetch(i);
    }
    std::size_t nbytes() const { return ids_.nbytes() + least_.nbytes(); }

 private:
    std::size_t n_ = 0;
    std::int64_t smallest_;
    std::int64_t largest_;
    bool ascend_ = true;
    PackedNumbers ids_;
    PackedNumbers least_;  // smallest id of each group, unless ids ascend
};

}  // namespace fasthash
