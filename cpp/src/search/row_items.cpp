#include "search/row_items.h"

#include <algorithm>

namespace fasthash {

void SortedItems::push(std::size_t row, std::int32_t distance, TopK& nearest) const {
    const NumberRange range = codes_.items(row);
    if (nearest.counts_only() && admission_.filter == nullptr) {
        nearest.count(admission_.live == nullptr ? range.size() : admission_.live->count(range));
        return;
    }
    std::size_t n_wanted = nearest.k();  // of equal codes no more can be wanted
    if (admission_.all()) {
        const std::size_t end = range.begin + std::min(range.size(), n_wanted);
        for (std::size_t item = range.begin; item < end; ++item) {
            if (!nearest.push(distance, codes_.id(item))) return;  // ids ascend: none that follows can enter
        }
        return;
    }
    for (std::size_t item = range.begin; item < range.end && n_wanted > 0; ++item) {
        const std::int64_t id = codes_.id(item);
        if (!admission_.admits(item, id)) continue;
        if (!nearest.push(distance, id)) return;
        --n_wanted;
    }
}

}  // namespace fasthash
