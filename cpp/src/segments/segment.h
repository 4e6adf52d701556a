// A part of an index: some codes with their ids, which never change. An index is a list of segments.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codes/id_map.h"
#include "fasthash/search.h"
#include "platform/fork_safe.h"
#include "platform/stopper.h"
#include "search/scan.h"
#include "search/visibility.h"

namespace fasthash {

class MappedFile;

/// How a segment is searched exactly.
struct SearchPlan {
    Plan plan = Plan::scan;
    std::size_t n_substrings = 0;    ///< 0 for a scan, 1 for a prefix
    std::size_t substring_bits = 0;  ///< of each substring
};

class Segment : public IdList {
 public:
    virtual ~Segment() = default;
    Segment(const Segment&) = delete;
    Segment& operator=(const Segment&) = delete;

    /// Write the codes of some entries, which are given in order, as rows.
    virtual void copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const = 0;
    /// Bytes of memory, and of files that are mapped instead.
    virtual std::size_t nbytes() const;
    virtual std::size_t mapped_bytes() const = 0;

    /// Whether so many queries at once, on one thread, are answered by comparing them with all codes.
    virtual bool scans(std::size_t n_queries, const Wanted& wanted) const = 0;
    /// Bytes that a scan reads.
    virtual std::size_t scan_bytes() const = 0;
    /// Adds what it finds to the block: by comparing all codes of one of several parts, or by the segment's plan.
    virtual void scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk, std::size_t n_chunks,
                            Stopper& stopper) const = 0;
    virtual void search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const = 0;

    /// HDHash's search over the levels. A segment without a tree of levels keeps all of its codes.
    virtual void search_pruned(const QueryBlock& block, Visibility visibility, const LevelLayout&, Pruning,
                               Stopper& stopper) const {
        search(block, visibility, stopper);
    }

    /// The codes in order, if that is how they are held, else null.
    virtual const SortedCodes* sorted_codes() const { return nullptr; }
    /// Whether ids ascend from entry to entry.
    virtual bool ids_ascend() const { return false; }
    virtual SearchPlan search_plan() const { return {}; }

    /// The entry with an id, or IdMap::kNone.
    std::size_t find(std::int64_t id) const;

 protected:
    Segment() = default;

 private:
    Lazy<IdMap> id_map_;
};

/// A segment of an index, and what is left of it.
struct LiveSegment {
    explicit LiveSegment(std::shared_ptr<const Segment> whole)
        : segment(std::move(whole)), n_live(segment->n_entries()) {}

    std::shared_ptr<const Segment> segment;
    EntrySet live;
    std::size_t n_live;
    bool small = false;  // what was added last, until it is enough for a segment of the index's kind

    Visibility visibility(const IdFilter* filter = nullptr) const { return {live.has_all() ? nullptr : &live, filter}; }
    bool whole() const { return n_live == segment->n_entries(); }
};

/// Codes that come to an index. No ids stand for first_id, first_id + 1, ...
struct NewEntries {
    CodeView codes;
    const std::int64_t* ids;
    std::int64_t first_id;

    std::int64_t id(std::size_t row) const {
        return ids == nullptr ? first_id + static_cast<std::int64_t>(row) : ids[row];
    }
};

/// Codes with ids, one after the other.
struct Entries {
    Array<std::uint8_t> codes;
    Array<std::int64_t> ids;

    std::size_t n() const { return ids.size(); }
    NewEntries view(std::size_t n_bytes) const { return {{codes.data(), n(), n_bytes}, ids.data(), 0}; }

    /// Further entries of a segment, given in order.
    void append(const Segment& segment, const std::vector<std::size_t>& entries, std::size_t n_bytes);
    /// All that are left of a segment.
    void append(const LiveSegment& from, std::size_t n_bytes);
    void append(const NewEntries& entries);
};

}  // namespace fasthash
