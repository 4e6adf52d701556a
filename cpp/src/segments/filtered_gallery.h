// The entries that a filter allows, copied into one segment.
//
// Made by searches with a narrow filter (is_narrow); with a wide one, searches look each hit up in the filter instead.
// The segment belongs to one state of one index and is rebuilt when the state changes.
#pragma once

#include <functional>
#include <memory>

#include "platform/fork_safe.h"
#include "segments/state.h"

namespace fasthash {

/// Builds a segment of entries, as the index builds its own.
using BuildSegment = std::function<std::shared_ptr<const Segment>(const NewEntries&)>;

class FilteredGallery {
 public:
    /// The allowed entries of a state as a segment; null if there are none. A reusable filter keeps the latest one.
    std::shared_ptr<const Segment> entries_of(const std::shared_ptr<const State>& state, const IdFilter& filter,
                                              std::size_t n_bytes, const BuildSegment& build);
    std::size_t nbytes() const;

 private:
    mutable ForkSafeMutex mutex_;
    std::weak_ptr<const State> state_;  // the state that entries_ was copied from
    std::shared_ptr<const Segment> entries_;
};

/// Whether copying the allowed entries costs less than searching all segments with the filter.
bool is_narrow(const IdFilter& filter, std::size_t n_entries);

}  // namespace fasthash
