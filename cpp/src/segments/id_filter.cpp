#include "fasthash/id_filter.h"

#include <algorithm>

#include "fasthash/ids.h"
#include "segments/filtered_gallery.h"

namespace fasthash {

IdFilter::IdFilter(std::vector<std::int64_t> ids)
    : ids_(std::move(ids)), prepared_(std::make_unique<FilteredGallery>()) {
    if (!std::is_sorted(ids_.begin(), ids_.end())) std::sort(ids_.begin(), ids_.end());
    ids_.erase(std::unique(ids_.begin(), ids_.end()), ids_.end());
    ids_.shrink_to_fit();
    if (ids_.empty()) return;
    const auto smallest = static_cast<std::uint64_t>(ids_.front());
    const std::uint64_t range = static_cast<std::uint64_t>(ids_.back()) - smallest;
    constexpr std::uint64_t kFarApart = 64;  // ids this sparse take less memory than one bit per value
    if (range / kFarApart >= ids_.size()) return;
    bits_.resize(range / 64 + 1);
    for (const std::int64_t id : ids_) {
        const std::uint64_t bit = static_cast<std::uint64_t>(id) - smallest;
        bits_[bit / 64] |= std::uint64_t{1} << bit % 64;
    }
}

std::unique_ptr<IdFilter> IdFilter::from_mask(const std::uint8_t* allowed, std::size_t n) {
    std::vector<std::int64_t> ids;
    for (std::size_t i = 0; i < n; ++i) {
        if (allowed[i] != 0) ids.push_back(static_cast<std::int64_t>(i));
    }
    return std::make_unique<IdFilter>(std::move(ids));
}

IdFilter::~IdFilter() = default;

bool IdFilter::contains(std::int64_t id) const {
    if (bits_.empty()) return std::binary_search(ids_.begin(), ids_.end(), id);
    const std::uint64_t bit = static_cast<std::uint64_t>(id) - static_cast<std::uint64_t>(ids_.front());
    return bit / 64 < bits_.size() && (bits_[bit / 64] >> bit % 64 & 1) != 0;
}

std::size_t IdFilter::nbytes() const {
    return ids_.capacity() * sizeof ids_[0] + bits_.capacity() * sizeof bits_[0] + prepared_->nbytes();
}

}  // namespace fasthash
