#include "codes/row_ids.h"

#include <algorithm>

namespace fasthash {

RowIds::RowIds(DuplicateRuns runs, PackedNumbers ids, IdSummary summary)
    : runs_(std::move(runs)),
      smallest_id_(ids.number_at(summary.smallest)),
      largest_id_(ids.number_at(summary.largest)),
      ids_(std::move(ids)),
      least_ids_(std::move(summary.least)) {}

RowIds::RowIds(std::size_t n_entries, std::int64_t smallest_id, std::int64_t largest_id)
    : ids_(smallest_id, largest_id), least_ids_(smallest_id, largest_id) {
    ids_.reserve(n_entries);
}

void RowIds::append(std::int64_t id, bool new_row) {
    if (new_row) {
        runs_.push_row();
    } else {
        runs_.push_entry();
    }
    smallest_id_ = n_entries() == 1 ? id : std::min(smallest_id_, id);
    largest_id_ = n_entries() == 1 ? id : std::max(largest_id_, id);
    by_one_ = by_one_ && new_row && id == smallest_id_ + static_cast<std::int64_t>(n_entries() - 1);
    ids_.push_back(id);
    const std::size_t group = (n_rows() - 1) / kGroup;
    if (new_row && (n_rows() - 1) % kGroup == 0) {
        least_ids_.push_back(id);
    } else if (id < least_ids_[group]) {
        least_ids_.set(group, id);
    }
}

void RowIds::finish() {
    runs_.shrink_to_fit();
    if (by_one_) {
        counted_ = true;
        ids_ = {};
        least_ids_ = {};
        return;
    }
    ids_.shrink_to_fit();
    least_ids_.shrink_to_fit();
}

}  // namespace fasthash
