// What an index holds at one moment. A change makes a new state, which shares what stays as it was.
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
    std::uint64_t next_id = 0;  // where counting goes on: one past the largest id so far

    std::size_t size() const;
    /// Whether all codes are in one segment, of the index's kind, that has lost none.
    bool is_compact() const;
    /// Whether ids ascend from the first entry of the first segment to the last of the last.
    bool ids_ascend() const;
    Place find(std::int64_t id) const;
    /// Where all of these are. Throws ArgumentError for one that is not there.
    std::vector<Place> find_all(const std::int64_t* ids, std::size_t n) const;
    /// Remove entries. Segments of which nothing is left go away.
    void remove(const std::vector<Place>& places);
};

/// Places by segment, in the order of the entries.
std::vector<std::vector<std::size_t>> by_segment(const std::vector<Place>& places, std::size_t n_segments);

}  // namespace fasthash
