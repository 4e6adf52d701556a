// Finds the entry with an id.
//
// Built by a segment on the first lookup by id, or read from a file.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "codes/packed_numbers.h"

namespace fasthash {

/// Numbered entries and their distinct ids, in any order.
class IdList {
 public:
    virtual std::size_t n_entries() const = 0;
    virtual std::int64_t id(std::size_t entry) const = 0;
    /// Range of the ids.
    virtual std::int64_t smallest_id() const = 0;
    virtual std::int64_t largest_id() const = 0;

 protected:
    ~IdList() = default;
};

/// Ids in an array, which must outlive this object.
class IdArray final : public IdList {
 public:
    IdArray(const std::int64_t* ids, std::size_t n);

    std::size_t n_entries() const override { return n_; }
    std::int64_t id(std::size_t entry) const override { return ids_[entry]; }
    std::int64_t smallest_id() const override { return smallest_; }
    std::int64_t largest_id() const override { return largest_; }

 private:
    const std::int64_t* ids_;
    std::size_t n_;
    std::int64_t smallest_ = 0;
    std::int64_t largest_ = 0;
};

/// The entries, fewer than 2^32, sorted by id. Uses all threads, and for a moment 8 bytes more for each entry.
Array<std::uint32_t> order_of_ids(const IdList& list);

/// The entry with this id in a list whose ids ascend, or IdMap::kNone.
std::size_t find_ascending(const IdList& list, std::int64_t id);

/// The entries of a list sorted by id. Takes the bytes per entry that the number of entries needs.
class IdMap {
 public:
    static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

    explicit IdMap(const IdList& list);
    /// From a file.
    explicit IdMap(PackedNumbers entries) : entries_(std::move(entries)) {}

    /// Bytes of each of n entries.
    static std::size_t width_for(std::size_t n) { return PackedNumbers::width_for(n - 1); }

    /// `list`: the one that the map was built for.
    std::size_t find(const IdList& list, std::int64_t id) const;
    const PackedNumbers& entries() const { return entries_; }
    std::size_t nbytes() const { return entries_.nbytes(); }

 private:
    // A map of a file whose content was not checked may hold other numbers than those of entries.
    std::size_t entry_at(std::size_t i) const {
        return std::min(static_cast<std::size_t>(entries_.offset(i)), entries_.size() - 1);
    }

    PackedNumbers entries_;
};

}  // namespace fasthash
