#include "segments/state.h"

#include <algorithm>
#include <string>

#include "fasthash/error.h"
#include "fasthash/ids.h"

namespace fasthash {

std::size_t State::size() const {
    std::size_t n = 0;
    for (const LiveSegment& each : segments) n += each.n_live;
    return n;
}

bool State::is_compact() const {
    if (segments.empty()) return true;
    return segments.size() == 1 && segments[0].whole() && !segments[0].small && !segments[0].inherited_plan;
}

const ArrangedCodes* State::clusters() const {
    return segments.size() == 1 && is_compact() ? segments[0].segment->clusters() : nullptr;
}

bool State::is_scanned() const {
    return segments.size() == 1 && is_compact() && segments[0].segment->search_plan().plan == Plan::scan;
}

PlannedTables State::planned_tables() const {
    return segments.size() == 1 && is_compact() ? segments[0].segment->planned_tables() : PlannedTables{};
}

bool State::ids_ascend() const {
    std::int64_t last = std::numeric_limits<std::int64_t>::min();
    for (const LiveSegment& each : segments) {
        if (!each.segment->ids_ascend() || each.segment->smallest_id() < last) return false;
        last = each.segment->largest_id();
    }
    return true;
}

Place State::find(std::int64_t id) const {
    for (std::size_t s = segments.size(); s-- > 0;) {  // later segments are smaller, so searching them first is cheaper
        const std::size_t entry = segments[s].segment->find(id);
        if (entry != IdMap::kNone && segments[s].live.contains(entry)) return {s, entry};
    }
    return {};
}

std::vector<Place> State::find_all(const std::int64_t* ids, std::size_t n) const {
    std::vector<Place> places(n);
    for (std::size_t i = 0; i < n; ++i) {
        places[i] = find(ids[i]);
        if (!places[i].found()) {
            throw ArgumentError("ids must be in the index, but it does not hold " + std::to_string(ids[i]));
        }
    }
    return places;
}

void State::remove(const std::vector<Place>& places) {
    const std::vector<std::vector<std::size_t>> entries = by_segment(places, segments.size());
    for (std::size_t s = 0; s < segments.size(); ++s) {
        segments[s].live.remove(entries[s], segments[s].segment->n_entries());
        segments[s].n_live -= entries[s].size();
    }
    const auto nothing_left = [](const LiveSegment& each) { return each.n_live == 0; };
    segments.erase(std::remove_if(segments.begin(), segments.end(), nothing_left), segments.end());
}

std::vector<std::vector<std::uint32_t>> allowed_entries(const State& state, const IdFilter& filter) {
    std::vector<std::vector<std::uint32_t>> bits;
    for (const LiveSegment& each : state.segments) bits.emplace_back((each.segment->n_entries() + 31) / 32);
    for (const std::int64_t id : filter.ids()) {
        const Place place = state.find(id);
        if (place.found()) bits[place.segment][place.entry / 32] |= std::uint32_t{1} << place.entry % 32;
    }
    return bits;
}

std::vector<std::vector<std::size_t>> by_segment(const std::vector<Place>& places, std::size_t n_segments) {
    std::vector<std::vector<std::size_t>> entries(n_segments);
    for (const Place& place : places) {
        if (place.found()) entries[place.segment].push_back(place.entry);
    }
    for (auto& of_segment : entries) std::sort(of_segment.begin(), of_segment.end());
    return entries;
}

}  // namespace fasthash
