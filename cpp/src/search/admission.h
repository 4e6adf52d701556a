// Which items of a segment a search may find.
#pragma once

#include "codes/item_set.h"
#include "fasthash/id_filter.h"

namespace fasthash {

struct Admission {
    const ItemSet* live = nullptr;     ///< items that have not been removed; null for all
    const IdFilter* filter = nullptr;  ///< null for any id

    bool all() const { return live == nullptr && filter == nullptr; }
    bool admits(std::size_t item, std::int64_t id) const {
        return (live == nullptr || live->contains(item)) && (filter == nullptr || filter->contains(id));
    }
};

}  // namespace fasthash
