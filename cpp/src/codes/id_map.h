// Finds the entry with an id.
//
// Built by a segment on the first lookup by id.
#pragma once

#include <cstdint>
#include <limits>

#include "codes/packed_numbers.h"

namespace fasthash {

/// Numbered entries and their ids, in any order.
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

/// The permutation that sorts ids: 0 .. n - 1, ordered by ids[i]. n < 2^32.
Array<std::uint32_t> order_of_ids(const std::int64_t* ids, std::size_t n);

/// Dense ids (range below twice their number) are looked up in a table, others by binary search over the entries sorted
/// by id. Takes the bytes per entry that the number of entries needs.
class IdMap {
 public:
    static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

    explicit IdMap(const IdList& list);

    std::size_t find(const IdList& list, std::int64_t id) const;
    std::size_t nbytes() const { return entries_.nbytes(); }

 private:
    std::int64_t smallest_ = 0;
    std::uint64_t n_values_ = 0;  // size of the table; 0: entries_ is sorted by id
    PackedNumbers entries_;
};

}  // namespace fasthash
