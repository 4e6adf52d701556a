#include "search/row_entries.h"

#include <algorithm>

namespace fasthash {

void DistinctEntries::push(std::size_t row, std::int32_t distance, TopK& nearest) const {
    const NumberRange range = ids_.entries(row);
    if (nearest.counts_only() && visibility_.filter == nullptr) {
        nearest.count(visibility_.live == nullptr ? range.size() : visibility_.live->count(range));
        return;
    }
    std::size_t n_wanted = nearest.k();  // of one row at most k entries can enter
    if (visibility_.all()) {
        const std::size_t end = range.begin + std::min(range.size(), n_wanted);
        for (std::size_t entry = range.begin; entry < end; ++entry) {
            if (!nearest.push(distance, ids_.id(entry))) return;  // ids of a row ascend, so no later one enters
        }
        return;
    }
    for (std::size_t entry = range.begin; entry < range.end && n_wanted > 0; ++entry) {
        const std::int64_t id = ids_.id(entry);
        if (!visibility_.allows(entry, id)) continue;
        if (!nearest.push(distance, id)) return;
        --n_wanted;
    }
}

void DistinctEntries::push_expected(std::size_t row, std::int32_t distance, TopK& nearest) const {
    const NumberRange range = ids_.entries(row);
    if (!nearest.push_expected(distance, ids_.id(range.begin))) return;
    const std::size_t end = range.begin + std::min(range.size(), nearest.k());
    for (std::size_t entry = range.begin + 1; entry < end; ++entry) {
        if (!nearest.push(distance, ids_.id(entry))) return;
    }
}

}  // namespace fasthash
