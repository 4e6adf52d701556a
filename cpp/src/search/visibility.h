// Visibility: which entries of a segment a search may return.
//
// Made for each search of a segment: removed entries and entries outside the filter are hidden. Both pointers must
// outlive the search.
#pragma once

#include "codes/entry_set.h"
#include "fasthash/id_filter.h"

namespace fasthash {

struct Visibility {
    const EntrySet* live = nullptr;    ///< entries not removed; null: all
    const IdFilter* filter = nullptr;  ///< allowed ids; null: all

    bool all() const { return live == nullptr && filter == nullptr; }
    bool allows(std::size_t entry, std::int64_t id) const {
        return (live == nullptr || live->contains(entry)) && (filter == nullptr || filter->contains(id));
    }
};

}  // namespace fasthash
