// Which entries of a segment a search may find.
#pragma once

#include "codes/entry_set.h"
#include "fasthash/id_filter.h"

namespace fasthash {

struct Visibility {
    const EntrySet* live = nullptr;    ///< entries that have not been removed; null for all
    const IdFilter* filter = nullptr;  ///< null for any id

    bool all() const { return live == nullptr && filter == nullptr; }
    bool allows(std::size_t entry, std::int64_t id) const {
        return (live == nullptr || live->contains(entry)) && (filter == nullptr || filter->contains(id));
    }
};

}  // namespace fasthash
