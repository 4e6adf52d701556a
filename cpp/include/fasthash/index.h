// Index: the operations of every index.
//
// Implemented by FlatIndex and HierIndex. Results are ordered by (distance, id), so equal input gives equal bytes in
// every index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fasthash/codes.h"
#include "fasthash/index_file.h"
#include "fasthash/search.h"
#include "fasthash/threads.h"

namespace fasthash {

class IdFilter;
struct State;

/// All entries of an index.
struct Export {
    std::vector<std::uint8_t> codes;  ///< rows
    std::vector<std::int64_t> ids;
};

/// Thread-safe. A search sees the state of the index when it began; exact searches do not wait for changes. Changes run
/// one at a time, and each happens completely or, if it throws, not at all. `interrupt` is also called while a change
/// waits. It may search; a change of the same index inside it throws ReentryError, and so does a change of another
/// index that would deadlock.
///
/// An index is a list of immutable segments. A change makes new segments and a new list; see docs/updates.md.
class Index {
 public:
    virtual ~Index();
    Index(const Index&) = delete;
    Index& operator=(const Index&) = delete;

    IndexKind kind() const;
    Metric metric() const;
    const LevelLayout& layout() const;
    std::size_t size() const;
    /// Bytes of memory held by the index.
    std::size_t nbytes() const;
    /// Bytes of the mapped file, of which the system keeps the used pages in memory.
    std::size_t mapped_bytes() const;
    /// Number of segments, and of removed entries that they still hold.
    std::size_t n_segments() const;
    std::size_t n_removed() const;

    /// Add codes. `ids`: distinct, not -1 and not in the index; null for automatic ids, which continue from next_id().
    /// Throws ArgumentError or Interrupted.
    void add(CodeView codes, const std::int64_t* ids, const Interrupt& interrupt = {});
    /// Remove entries. Throws ArgumentError for an id that is not in the index or is given twice.
    void remove(const std::int64_t* ids, std::size_t n, const Interrupt& interrupt = {});
    /// Replace the codes of these ids, in one step. Throws as remove does.
    void update(const std::int64_t* ids, CodeView codes, const Interrupt& interrupt = {});
    /// Add all entries of another index. Throws as add does.
    void merge(const Index& other, const Interrupt& interrupt = {});
    /// Merge all segments into one, as if all codes had been added at once. Changes speed and memory, not results.
    void compact(const Interrupt& interrupt = {});
    /// Remove all entries, in one step. Automatic ids start at 0 again.
    void clear(const Interrupt& interrupt = {});

    /// Build the id map now: else the first removal, lookup by id or search with a filter builds it.
    void build_id_map() const;
    bool contains(std::int64_t id) const;
    /// The next automatic id: one past the largest so far, removed ones included; 0 for a new index.
    std::uint64_t next_id() const;
    /// Write the codes of these ids as rows. Throws ArgumentError for an id that is not in the index.
    void reconstruct(const std::int64_t* ids, std::size_t n, std::uint8_t* codes,
                     const Interrupt& interrupt = {}) const;
    /// The segments of the index at this moment, for copies of them on a GPU.
    std::shared_ptr<const State> state() const;
    /// The same for the entries that a filter allows, copied into one segment.
    std::shared_ptr<const State> state_of(const IdFilter& filter) const;
    /// All entries, sorted by id.
    Export export_entries() const;
    /// An independent copy; unchanged segments are shared (copy on write).
    std::unique_ptr<Index> copy() const;
    /// A copy for several pruned searches of one state. Compacts this index first, as the first pruned search would;
    /// not where there are no levels to prune.
    std::unique_ptr<Index> copy_to_prune(const Interrupt& interrupt = {}) const;

    /// An index with the settings of this one that holds the segments of these, in their order, and shares them. Their
    /// ids must be distinct. `next_id`: the next automatic id. Throws ArgumentError for other levels.
    std::unique_ptr<Index> joined(const std::vector<const Index*>& indices, std::uint64_t next_id) const;
    /// A copy without some entries of the first segment, which are numbered in the order of its ids and must ascend.
    /// Throws ArgumentError for an entry that is not there.
    std::unique_ptr<Index> without(const std::int64_t* entries, std::size_t n) const;
    /// The ids of entries of the first segment; -1 for one that is not there, or removed.
    void entry_ids(const std::int64_t* entries, std::size_t n, std::int64_t* ids) const;
    /// Segment and entry of each id, both -1 for one that is not in the index.
    void places(const std::int64_t* ids, std::size_t n, std::int64_t* segments, std::int64_t* entries) const;

    /// Find the k nearest codes of each query: exactly, or with `pruning` by HDHash's pruned search. `filter`: allowed
    /// ids; null for all. `distances` and `ids` have room for queries.n * k values, `stats` for queries.n or null.
    /// Throws ArgumentError, or Interrupted when `interrupt` returns true.
    void search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, const IdFilter* filter,
                std::int32_t* distances, std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt = {}) const;
    /// Find near codes of each query, comparing about this share of the codes, above 0 and at most 1: those of the
    /// nearest clusters, and at least k. QueryStats::exact_to says up to which distance the result is exact. Throws
    /// as search does, and ArgumentError unless the plan of the index is clusters, or forced to be.
    void search_share(CodeView queries, std::size_t k, double share, const IdFilter* filter, std::int32_t* distances,
                      std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt = {}) const;
    /// Find all codes within `radius` of each query.
    RangeResult range_search(CodeView queries, std::int32_t radius, const IdFilter* filter, QueryStats* stats,
                             const Interrupt& interrupt = {}) const;
    /// Count the codes within `radius` of each query.
    void count_within(CodeView queries, std::int32_t radius, const IdFilter* filter, std::int64_t* counts,
                      const Interrupt& interrupt = {}) const;

    // The same searches for an index with Metric::jaccard; the others throw ArgumentError there, and these elsewhere.
    // Distances are compared as fractions, and rounded to float in the results. A place without a neighbour has the
    // distance infinity. `radius`: a distance is within it if, both
    // rounded to float, it is not larger.

    void search_jaccard(CodeView queries, std::size_t k, const IdFilter* filter, float* distances, std::int64_t* ids,
                        QueryStats* stats, const Interrupt& interrupt = {}) const;
    JaccardRangeResult range_search_jaccard(CodeView queries, double radius, const IdFilter* filter, QueryStats* stats,
                                            const Interrupt& interrupt = {}) const;
    void count_within_jaccard(CodeView queries, double radius, const IdFilter* filter, std::int64_t* counts,
                              const Interrupt& interrupt = {}) const;

    /// Write the index to one file, atomically: after a failure the old file is intact. `id_map`: write the id map too,
    /// at most 4 bytes a code, so that an index loaded from the file need not build it. `summary`: write what opening
    /// the mapped file of a hierarchical index would have to compute, and its tables. Throws IoError.
    void save(const std::string& path, const Interrupt& interrupt = {}, bool id_map = false,
              bool summary = false) const;
    /// The bytes that save() would write.
    std::vector<std::uint8_t> to_bytes(const Interrupt& interrupt = {}, bool id_map = false,
                                       bool summary = false) const;

 protected:
    class Impl;

    explicit Index(std::unique_ptr<Impl> impl);

    const std::unique_ptr<Impl> impl_;

 private:
    friend std::unique_ptr<Index> load_index(const std::string& path, bool mapped, bool check);
    friend std::unique_ptr<Index> index_from_bytes(const std::uint8_t* data, std::size_t n);

    void check_metric(Metric wanted) const;
    /// Make a FlatIndex or a HierIndex, according to its settings.
    static std::unique_ptr<Index> of(std::unique_ptr<Impl> impl);
};

/// Load an index and check every byte of the file. `mapped`: map codes and ids, shared with other processes, instead of
/// reading them. `check`: false skips the checks of codes and ids that only wrong results would follow from, for a file
/// that its owner has checked. Throws IoError, or FormatError with the fault and its place.
std::unique_ptr<Index> load_index(const std::string& path, bool mapped = false, bool check = true);

/// Load an index from the bytes of a file, which are copied.
std::unique_ptr<Index> index_from_bytes(const std::uint8_t* data, std::size_t n);

}  // namespace fasthash
