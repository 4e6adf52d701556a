#include "segments/filtered_gallery.h"

#include <algorithm>

#include "fasthash/threads.h"

namespace fasthash {
namespace {

constexpr Task kPreparing{"the preparation of a filter"};  // during which nobody is called back

Items collect(const State& state, const IdFilter& filter, std::size_t n_bytes) {
    constexpr std::size_t kPiece = 4096;
    const std::vector<std::int64_t>& ids = filter.ids();
    std::vector<Place> places(ids.size());
    parallel_for((ids.size() + kPiece - 1) / kPiece, [&](std::size_t piece) {
        const std::size_t end = std::min(ids.size(), (piece + 1) * kPiece);
        for (std::size_t i = piece * kPiece; i < end; ++i) places[i] = state.find(ids[i]);
    });
    const auto items = by_segment(places, state.segments.size());
    places = {};
    Items collected;
    for (std::size_t s = 0; s < items.size(); ++s) collected.append(*state.segments[s].segment, items[s], n_bytes);
    return collected;
}

}  // namespace

std::shared_ptr<const Segment> FilteredGallery::items_of(const std::shared_ptr<const State>& state,
                                                         const IdFilter& filter, std::size_t n_bytes,
                                                         const BuildSegment& build) {
    const auto make = [&]() -> std::shared_ptr<const Segment> {
        const Items items = collect(*state, filter, n_bytes);
        return items.n() == 0 ? nullptr : build(items.view(n_bytes));
    };
    if (!filter.reusable()) return make();
    // Another search with this filter waits, rather than do the same.
    const ForkSafeLock lock(mutex_, kPreparing);
    if (state_.lock() != state) {
        state_.reset();
        items_ = make();
        state_ = state;
    }
    return items_;
}

std::size_t FilteredGallery::nbytes() const {
    const ForkSafeLock lock(mutex_, kPreparing);
    return items_ == nullptr ? 0 : items_->nbytes();
}

bool is_narrow(const IdFilter& filter, std::size_t n_items) {
    // What is kept for the next search may cost more to make.
    return filter.size() <= std::max<std::size_t>(64, n_items / (filter.reusable() ? 8 : 64));
}

}  // namespace fasthash
