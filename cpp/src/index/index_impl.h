// The implementation of an index: builds, merges and searches its segments.
//
// Called by Index. Changes hold `writer`, prepare a draft of the next state and publish it as a whole; searches read
// the state that was published when they began.
#pragma once

#include <string>

#include "fasthash/index.h"
#include "io/file_format.h"
#include "platform/fork_safe.h"
#include "segments/jaccard_search.h"
#include "segments/segment_search.h"
#include "segments/state.h"

namespace fasthash {

/// Throws ArgumentError unless codes are as wide as those of an index, padded with zeros.
void check_codes(const char* name, const CodeView& codes, const LevelLayout& layout);

/// A number for an error message, with the digits that tell it from all others.
std::string shown(double number);

/// Result of a range search for one query.
template <typename Distance>
struct FoundWithin {
    std::vector<Distance> distances;
    std::vector<std::int64_t> ids;

    void resize(std::size_t n) {
        distances.resize(n);
        ids.resize(n);
    }
};

template <typename Distance>
RangeResultOf<Distance> put_together(std::vector<FoundWithin<Distance>> found) {
    RangeResultOf<Distance> result;
    result.offsets.push_back(0);
    for (const auto& of_query : found) {
        result.offsets.push_back(result.offsets.back() + static_cast<std::int64_t>(of_query.ids.size()));
    }
    result.distances.reserve(static_cast<std::size_t>(result.offsets.back()));
    result.ids.reserve(static_cast<std::size_t>(result.offsets.back()));
    for (auto& of_query : found) {
        result.distances.insert(result.distances.end(), of_query.distances.begin(), of_query.distances.end());
        result.ids.insert(result.ids.end(), of_query.ids.begin(), of_query.ids.end());
        of_query = {};
    }
    return result;
}

class Index::Impl {
 public:
    Impl(LevelLayout levels, IndexSettings made_with,
         std::shared_ptr<const State> held = std::make_shared<const State>())
        : layout(std::move(levels)), settings(made_with), state(std::move(held)) {}

    const LevelLayout layout;
    const IndexSettings settings;
    Published<State> state;
    ForkSafeMutex writer;  // held by changes

    /// `change`: name of the operation, for errors. Throws as Index::add does.
    void add(const char* change, CodeView codes, const std::int64_t* ids, const Interrupt& interrupt);
    /// Add entries to a draft of the next state. Null ids: automatic ids.
    void append(State& draft, CodeView codes, const std::int64_t* ids, Stopper& stopper) const;
    void remove(State& draft, const std::int64_t* ids, std::size_t n, Stopper& stopper) const;
    std::shared_ptr<const State> in_one_segment(const State& held, Stopper& stopper) const;
    /// The state with all codes in one segment, merging them first if needed. For pruned searches.
    std::shared_ptr<const State> compacted(Stopper& stopper);

    /// The state to write to a file: with all codes in one segment if they are in clusters, or if a summary is
    /// wanted, which their tables belong to.
    std::shared_ptr<const State> to_save(bool summary, Stopper& stopper) const;

    void search_exact(const IdFilter* filter, const SearchTask& task, Stopper& stopper) const;
    void search_jaccard(const IdFilter* filter, const JaccardTask& task, Stopper& stopper) const;
    /// Throws ArgumentError for a flat index.
    void search_pruned(const Pruning& pruning, const IdFilter* filter, const SearchTask& task, Stopper& stopper);
    /// The entries that a filter allows, as a segment; null if there are none. `built`: with a plan, as `build` does;
    /// otherwise to be scanned.
    std::shared_ptr<const Segment> filtered(const std::shared_ptr<const State>& held, const IdFilter& filter,
                                            bool built) const;

 private:
    /// The segments that a search goes through, and what keeps them alive.
    struct Searched {
        std::shared_ptr<const State> state;
        std::shared_ptr<const Segment> allowed;  // the few entries that a narrow filter allows
        std::vector<SearchedSegment> segments;
        IdOrder order = IdOrder::any;
    };
    Searched to_search(std::shared_ptr<const State> held, const IdFilter* filter) const;

    NewEntries nothing_new() const { return {{nullptr, 0, layout.n_bytes()}, nullptr, 0}; }
    /// Build a segment from the live entries of `segments` and new entries, at least one in all. `first`: the first
    /// segment of the index, whose plan the new one follows; null if it will be the first.
    LiveSegment build(const std::vector<LiveSegment>& segments, const NewEntries& entries, const Segment* first,
                      Stopper& stopper) const;
    /// The same for a segment of few entries, which is scanned.
    LiveSegment build_small(const std::vector<LiveSegment>& segments, const NewEntries& entries) const;
};

}  // namespace fasthash
