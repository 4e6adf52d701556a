// What a search with a filter looks through: the few entries that a narrow filter allows, put together, or all
// segments, whose hits are then looked up in the filter.
#pragma once

#include <functional>
#include <memory>

#include "platform/fork_safe.h"
#include "segments/state.h"

namespace fasthash {

/// How segments are made of entries; an index says how its own are.
using BuildSegment = std::function<std::shared_ptr<const Segment>(const NewEntries&)>;

class FilteredGallery {
 public:
    /// The allowed entries of a state in a segment of their own, null if there are none. A reusable filter keeps the
    /// last.
    std::shared_ptr<const Segment> entries_of(const std::shared_ptr<const State>& state, const IdFilter& filter,
                                              std::size_t n_bytes, const BuildSegment& build);
    std::size_t nbytes() const;

 private:
    mutable ForkSafeMutex mutex_;
    std::weak_ptr<const State> state_;  // whose entries are kept
    std::shared_ptr<const Segment> entries_;
};

/// Whether a filter allows so few entries of an index that they are better put together.
bool is_narrow(const IdFilter& filter, std::size_t n_entries);

}  // namespace fasthash
