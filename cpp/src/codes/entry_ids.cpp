#include "codes/entry_ids.h"

#include <algorithm>

namespace fasthash {

EntryIds::EntryIds(const std::int64_t* ids, std::size_t n) : n_(n), smallest_(n > 0 ? ids[0] : 0), largest_(smallest_) {
    bool counted = true;
    for (std::size_t i = 0; i < n; ++i) {
        counted = counted && (i == 0 || (ids[i - 1] != INT64_MAX && ids[i] == ids[i - 1] + 1));
        smallest_ = std::min(smallest_, ids[i]);
        largest_ = std::max(largest_, ids[i]);
    }
    if (counted) return;
    PackedNumbers packed(smallest_, largest_);
    packed.resize(n);
    for (std::size_t i = 0; i < n; ++i) packed.set(i, ids[i]);
    IdSummary summary = summarize(DuplicateRuns(n), packed);
    *this = EntryIds(std::move(packed), std::move(summary));
}

EntryIds::EntryIds(PackedNumbers ids, IdSummary summary)
    : n_(ids.size()),
      smallest_(ids.number_at(summary.smallest)),
      largest_(ids.number_at(summary.largest)),
      ascend_(summary.ascend),
      ids_(std::move(ids)) {
    if (!ascend_) least_ = std::move(summary.least);
}

}  // namespace fasthash
