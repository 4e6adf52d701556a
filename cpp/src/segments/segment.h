// A segment: an immutable set of entries, searchable on its own. An index is a list of segments.
//
// Implemented by SortedSegment, ArrangedSegment, ByteMajorSegment and BitMajorSegment. Removal hides entries
// (LiveSegment) and never changes the segment.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codes/id_map.h"
#include "codes/sorted_codes.h"
#include "fasthash/search.h"
#include "platform/fork_safe.h"
#include "platform/stopper.h"
#include "search/scan.h"
#include "search/visibility.h"
#include "segments/success_rate.h"

namespace fasthash {

class ArrangedCodes;
class BitMajorSegment;
class MappedFile;
class SubstringIndex;

/// The exact search plan of a segment.
struct SearchPlan {
    Plan plan = Plan::scan;
    std::size_t n_substrings = 0;    ///< 0 for a scan and for clusters, 1 for a prefix
    std::size_t substring_bits = 0;  ///< of each substring
    std::size_t n_clusters = 0;      ///< 0 unless the plan is clusters
};

/// Codes and ids as a segment holds them, for a copy of them in other memory.
struct HeldEntries {
    const GroupSource& codes;
    const PackedNumbers& ids;   ///< by entry; empty for smallest_id(), smallest_id() + 1, ...
    const DuplicateRuns* runs;  ///< the entries of each row of codes; null: row i is entry i
};

/// Tables of a segment for a file; null if it has none.
struct PlannedTables {
    const SubstringIndex* index = nullptr;
    double cost = 0;
};

/// Knowledge of the cuts with which exact search answers a pruned one.
enum class CutKind { bounds, exact };

class Segment : public IdList {
 public:
    virtual ~Segment() = default;
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    virtual HeldEntries held() const = 0;
    /// Write the codes of these entries as rows. `entries` must ascend.
    virtual void copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const = 0;
    /// Bytes in memory; mapped_bytes() are those of a mapped file.
    virtual std::size_t nbytes() const;
    virtual std::size_t mapped_bytes() const = 0;

    /// Whether a block of n_queries on one thread is scanned rather than searched by the plan.
    virtual bool scans(std::size_t n_queries, const Wanted& wanted) const = 0;
    /// Largest number of queries that `search` should get at once.
    virtual std::size_t queries_at_once() const { return 16; }
    /// Bytes that a scan reads.
    virtual std::size_t scan_bytes() const = 0;
    /// Push the entries found into the block's results: scan_chunk scans one of n_chunks chunks of the codes, search
    /// follows the segment's plan.
    virtual void scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk, std::size_t n_chunks,
                            Stopper& stopper) const = 0;
    virtual void search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const = 0;

    /// Bounds of the cuts of a pruned search, or the cuts, if an exact search within them takes less time; else none.
    /// Only then `search` takes blocks with safe cuts.
    virtual SafeCuts safe_cuts(CodeView, const LevelLayout&, const Pruning&, std::size_t, CutKind) const;
    /// How often such searches have answered queries.
    SuccessRate& safe_searches(const Pruning& pruning, CutKind kind) const {
        return safe_searches_[static_cast<int>(kind)].of(pruning);
    }
    /// HDHash's pruned search of all entries: callers compact the index, and copy the entries that a filter allows into
    /// a segment of their own. A segment without a level tree keeps all of its codes.
    virtual void search_pruned(const QueryBlock& block, const LevelLayout&, const Pruning&, Stopper& stopper) const {
        search(block, {}, stopper);
    }

    /// The sorted codes; null if this segment stores them in insertion order.
    virtual const SortedCodes* sorted_codes() const { return nullptr; }
    /// The codes in clusters; null if this segment has none.
    virtual const ArrangedCodes* clusters() const { return nullptr; }
    /// This segment if it is bit-major; else null.
    virtual const BitMajorSegment* bit_major() const { return nullptr; }
    /// The tables that searches of sorted codes use, and the cost of a query; none if there are no such tables.
    virtual PlannedTables planned_tables() const { return {}; }
    /// Whether ids ascend in the order of the entries.
    virtual bool ids_ascend() const { return false; }
    virtual SearchPlan search_plan() const { return {}; }

    /// The entry with this id, or IdMap::kNone. The first call builds the id map, if one is needed.
    std::size_t find(std::int64_t id) const;
    /// Build the id map now, if one is needed and not yet there.
    void build_id_map() const;
    /// Take a map from a file, which must number the entries as this segment does. Before the first lookup only.
    void take_id_map(std::unique_ptr<const IdMap> map) const;

 protected:
    Segment() = default;

 private:
    // Whether entries are found by an id map: not if they are few, or if their ids ascend.
    bool needs_id_map() const;
    const IdMap& id_map() const;

    Lazy<IdMap> id_map_;
    mutable SafeSearchRates safe_searches_[2];  // for each kind of cuts
};

/// A segment of an index and which of its entries have not been removed.
struct LiveSegment {
    explicit LiveSegment(std::shared_ptr<const Segment> whole)
        : segment(std::move(whole)), n_live(segment->n_entries()) {}

    std::shared_ptr<const Segment> segment;
    EntrySet live;
    std::size_t n_live;
    bool small = false;           // the tail: recent additions, too few for a segment of the index's kind
    bool inherited_plan = false;  // the plan is that of a segment before it, not one chosen for its own codes

    Visibility visibility(const IdFilter* filter = nullptr) const { return {live.has_all() ? nullptr : &live, filter}; }
    bool whole() const { return n_live == segment->n_entries(); }
};

/// Entries to be added. Null `ids` stand for first_id, first_id + 1, ...
struct NewEntries {
    CodeView codes;
    const std::int64_t* ids;
    std::int64_t first_id;

    std::int64_t id(std::size_t row) const {
        return ids == nullptr ? first_id + static_cast<std::int64_t>(row) : ids[row];
    }
};

/// Entries in memory: rows of codes, and their ids.
struct Entries {
    Array<std::uint8_t> codes;
    Array<std::int64_t> ids;

    std::size_t n() const { return ids.size(); }
    NewEntries view(std::size_t n_bytes) const { return {{codes.data(), n(), n_bytes}, ids.data(), 0}; }

    /// Append these entries of a segment; `entries` must ascend.
    void append(const Segment& segment, const std::vector<std::size_t>& entries, std::size_t n_bytes);
    /// Append all entries of a segment that have not been removed.
    void append(const LiveSegment& from, std::size_t n_bytes);
    void append(const NewEntries& entries);
};

}  // namespace fasthash
