// An index behind its public face: its segments, how they are built and joined, and how they are searched.
#pragma once

#include "fasthash/index.h"
#include "io/file_format.h"
#include "platform/fork_safe.h"
#include "segments/segment_search.h"
#include "segments/state.h"

namespace fasthash {

class Index::Impl {
 public:
    Impl(LevelLayout levels, IndexSettings made_with,
         std::shared_ptr<const State> held = std::make_shared<const State>())
        : layout(std::move(levels)), settings(made_with), state(std::move(held)) {}

    const LevelLayout layout;
    const IndexSettings settings;
    Published<State> state;
    ForkSafeMutex writer;  // held while a change is made

    /// `change`: the name of it in errors. Throws as Index::add does.
    void add(const char* change, CodeView codes, const std::int64_t* ids, const Interrupt& interrupt);
    /// Adds entries to a draft of the next state. Null ids count on.
    void append(State& draft, CodeView codes, const std::int64_t* ids, Stopper& stopper) const;
    void remove(State& draft, const std::int64_t* ids, std::size_t n, Stopper& stopper) const;
    std::shared_ptr<const State> in_one_segment(const State& held, Stopper& stopper) const;
    /// For a search that needs all codes in one segment: puts them into one, if they are not.
    std::shared_ptr<const State> compacted(Stopper& stopper);

    void search_exact(const IdFilter* filter, const SearchTask& task, Stopper& stopper) const;
    /// Throws ArgumentError for a flat index.
    void search_pruned(const Pruning& pruning, const IdFilter* filter, const SearchTask& task, Stopper& stopper);

 private:
    NewEntries nothing_new() const { return {{nullptr, 0, layout.n_bytes()}, nullptr, 0}; }
    /// A segment of what is left of some segments, and of new entries after it; there is at least one entry. `first`:
    /// the segment that is searched before it, null if there is none.
    LiveSegment build(const std::vector<LiveSegment>& segments, const NewEntries& entries, const Segment* first,
                      Stopper& stopper) const;
    /// The entries that a filter allows, as `build` makes a segment of them or in the simplest form; null if there are
    /// none.
    std::shared_ptr<const Segment> filtered(const std::shared_ptr<const State>& held, const IdFilter& filter,
                                            bool built) const;
};

}  // namespace fasthash
