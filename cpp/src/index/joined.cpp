// Indices made of the segments of others, for a store, which holds each segment in a file of its own.
#include <string>

#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "fasthash/index.h"
#include "index/index_impl.h"

namespace fasthash {
namespace {

// Whether the first segment holds an entry, and it has not been removed.
bool holds_entry(const State& state, std::int64_t entry) {
    if (state.segments.empty() || entry < 0) return false;
    const auto place = static_cast<std::size_t>(entry);
    return place < state.segments[0].segment->n_entries() && state.segments[0].live.contains(place);
}

}  // namespace

std::unique_ptr<Index> Index::joined(const std::vector<const Index*>& indices, std::uint64_t next_id) const {
    auto state = std::make_shared<State>();
    state->next_id = next_id;
    for (const Index* index : indices) {
        const bool equal_kind = index->kind() == kind() && index->metric() == metric();
        if (index->layout().level_bits() != layout().level_bits() || !equal_kind) {
            throw ArgumentError("indices must be of the same kind and metric, with levels of " + layout().str() +
                                " bits");
        }
        const std::shared_ptr<const State> held = index->impl_->state.get();
        state->segments.insert(state->segments.end(), held->segments.begin(), held->segments.end());
    }
    if (state->size() > UINT32_MAX) throw ArgumentError("indices must hold at most 4294967295 codes together");
    return of(std::make_unique<Impl>(layout(), impl_->settings, std::move(state)));
}

std::unique_ptr<Index> Index::without(const std::int64_t* entries, std::size_t n) const {
    auto next = std::make_shared<State>(*impl_->state.get());
    std::vector<Place> places(n);
    for (std::size_t i = 0; i < n; ++i) {
        const bool ascend = i == 0 || entries[i - 1] < entries[i];
        if (!ascend || !holds_entry(*next, entries[i])) {
            throw ArgumentError("entries must ascend and be in the index, got " + std::to_string(entries[i]));
        }
        places[i] = {0, static_cast<std::size_t>(entries[i])};
    }
    next->remove(places);
    return of(std::make_unique<Impl>(layout(), impl_->settings, std::move(next)));
}

void Index::entry_ids(const std::int64_t* entries, std::size_t n, std::int64_t* ids) const {
    const std::shared_ptr<const State> held = impl_->state.get();
    for (std::size_t i = 0; i < n; ++i) {
        const bool held_entry = holds_entry(*held, entries[i]);
        ids[i] = held_entry ? held->segments[0].segment->id(static_cast<std::size_t>(entries[i])) : kNoId;
    }
}

void Index::places(const std::int64_t* ids, std::size_t n, std::int64_t* segments, std::int64_t* entries) const {
    const std::shared_ptr<const State> held = impl_->state.get();
    for (std::size_t i = 0; i < n; ++i) {
        const Place place = held->find(ids[i]);
        segments[i] = place.found() ? static_cast<std::int64_t>(place.segment) : -1;
        entries[i] = place.found() ? static_cast<std::int64_t>(place.entry) : -1;
    }
}

}  // namespace fasthash
