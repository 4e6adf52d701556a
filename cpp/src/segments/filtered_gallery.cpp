#include "segments/filtered_gallery.h"

#include <algorithm>

#include "fasthash/threads.h"

namespace fasthash {
namespace {

constexpr Task kPreparing{"the preparation of a filter"};  // makes no callback

Entries collect(const State& state, const IdFilter& filter, std::size_t n_bytes) {
    constexpr std::size_t kChunkIds = 4096;
    const std::vector<std::int64_t>& ids = filter.ids();
    std::vector<Place> places(ids.size());
    parallel_for((ids.size() + kChunkIds - 1) / kChunkIds, [&](std::size_t chunk) {
        const std::size_t end = std::min(ids.size(), (chunk + 1) * kChunkIds);
        for (std::size_t i = chunk * kChunkIds; i < end; ++i) places[i] = state.find(ids[i]);
    });
    const auto entries = by_segment(places, state.segments.size());
    places = {};
    Entries collected;
    for (std::size_t s = 0; s < entries.size(); ++s) collected.append(*state.segments[s].segment, entries[s], n_bytes);
    return collected;
}

}  // namespace

std::shared_ptr<const Segment> FilteredGallery::entries_of(const std::shared_ptr<const State>& state,
                                                           const IdFilter& filter, std::size_t n_bytes,
                                                           const BuildSegment& build) {
    const auto make = [&]() -> std::shared_ptr<const Segment> {
        const Entries entries = collect(*state, filter, n_bytes);
        return entries.n() == 0 ? nullptr : build(entries.view(n_bytes));
    };
    if (!filter.reusable()) return make();
    // Searches with the same filter wait here, rather than copy the same entries.
    const ForkSafeLock lock(mutex_, kPreparing);
    if (state_.lock() != state) {
        state_.reset();
        entries_ = make();
        state_ = state;
    }
    return entries_;
}

std::size_t FilteredGallery::nbytes() const {
    const ForkSafeLock lock(mutex_, kPreparing);
    return entries_ == nullptr ? 0 : entries_->nbytes();
}

bool is_narrow(const IdFilter& filter, std::size_t n_entries) {
    // A reusable filter may cost more to prepare, since later searches share the cost.
    return filter.size() <= std::max<std::size_t>(64, n_entries / (filter.reusable() ? 8 : 64));
}

}  // namespace fasthash
