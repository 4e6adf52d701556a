// The state of an index: its segments at one moment.
//
// Immutable once published; a change publishes a new state, which shares unchanged segments (copy on write).
#pragma once

#include <limits>

#include "segments/segment.h"

namespace fasthash {

struct Place {
    std::size_t segment = 0;
    std::size_t entry = IdMap::kNone;

    bool found() const { return entry != IdMap::kNone; }
};

struct State {
    std::vector<LiveSegment> segments;
    std::uint64_t next_id = 0;  // next automatic id: one past the largest id so far

    std::size_t size() const;
    /// Whether all codes are in one segment of the index's kind, planned for them, none of them removed.
    bool is_compact() const;
    /// The codes if the index is compact and they are in clusters; else null.
    const ArrangedCodes* clusters() const;
    /// Whether the index is compact, and its codes are scanned.
    bool is_scanned() const;
    /// The tables of the only segment; none if the index is not compact.
    PlannedTables planned_tables() const;
    /// Whether ids ascend through all segments, from the first entry to the last.
    bool ids_ascend() const;
    Place find(std::int64_t id) const;
    /// The places of these ids. Throws ArgumentError for an id that the index does not hold.
    std::vector<Place> find_all(const std::int64_t* ids, std::size_t n) const;
    /// Remove entries, and segments that become empty.
    void remove(const std::vector<Place>& places);
};

/// A bit for each entry of each segment, 32 in a word: set if it is not removed and the filter allows it.
std::vector<std::vector<std::uint32_t>> allowed_entries(const State& state, const IdFilter& filter);

/// The entries of each segment among these places, ascending.
std::vector<std::vector<std::size_t>> by_segment(const std::vector<Place>& places, std::size_t n_segments);

}  // namespace fasthash
