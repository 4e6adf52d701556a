// Where the item with an id is.
#pragma once

#include <cstdint>
#include <limits>

#include "codes/packed_numbers.h"

namespace fasthash {

class Segment;

/// Ids that nearly follow one another are looked up in a table; others by bisection of the items in the order of their
/// ids. Takes as many bytes per item as the number of items has.
class IdMap {
 public:
    static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

    explicit IdMap(const Segment& segment);

    std::size_t find(const Segment& segment, std::int64_t id) const;
    std::size_t nbytes() const { return items_.nbytes(); }

 private:
    std::int64_t smallest_ = 0;
    std::uint64_t n_values_ = 0;  // of a table; 0 if the items are in the order of their ids instead
    PackedNumbers items_;
};

}  // namespace fasthash
