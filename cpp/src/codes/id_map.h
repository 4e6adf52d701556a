// Where the entry with an id is.
#pragma once

#include <cstdint>
#include <limits>

#include "codes/packed_numbers.h"

namespace fasthash {

/// Entries and their ids, in any order.
class IdList {
 public:
    virtual std::size_t n_entries() const = 0;
    virtual std::int64_t id(std::size_t entry) const = 0;
    /// Bounds of the ids.
    virtual std::int64_t smallest_id() const = 0;
    virtual std::int64_t largest_id() const = 0;

 protected:
    ~IdList() = default;
};

/// The numbers 0 .. n - 1 in the order of their ids; fewer than 2^32.
Array<std::uint32_t> order_of_ids(const std::int64_t* ids, std::size_t n);

/// Ids that nearly follow one another are looked up in a table; others by bisection of the entries in the order of
/// their ids. Takes as many bytes per entry as the number of entries has.
class IdMap {
 public:
    static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

    explicit IdMap(const IdList& list);

    std::size_t find(const IdList& list, std::int64_t id) const;
    std::size_t nbytes() const { return entries_.nbytes(); }

 private:
    std::int64_t smallest_ = 0;
    std::uint64_t n_values_ = 0;  // of a table; 0 if the entries are in the order of their ids instead
    PackedNumbers entries_;
};

}  // namespace fasthash
