// What every index can do. Results are ordered by (distance, id), so equal input gives equal bytes in every index.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "fasthash/codes.h"
#include "fasthash/threads.h"

namespace fasthash {

enum class IndexKind : std::uint8_t { flat = 1, hier = 2 };

/// How HDHash's coarse-to-fine search chooses the nodes of a level that stay in the race.
enum class KeepMode {
    node_ratio,     ///< this share of the candidate nodes
    gallery_ratio,  ///< nearest nodes until their subtrees hold this share of the gallery
    radius,         ///< nodes within this share of the level's bits
};

struct Pruning {
    double keep;  ///< in (0, 1]
    KeepMode mode = KeepMode::node_ratio;
    /// Of each query, of each level but the last: the largest distance that stays in the race, on the level alone for
    /// `radius`, else so far. For who has chosen among the nodes of a larger gallery, of which the index holds a part;
    /// `keep` and the length of the list are then disregarded. Null: the index chooses.
    const std::uint16_t* cuts = nullptr;
};

/// How an exact search goes about it.
enum class Plan : std::uint8_t {
    scan,         ///< compare all codes
    prefix,       ///< open the prefixes of the codes in the order of their distance to the query's
    multi_index,  ///< the same with several parts of the codes, for each of which there is a table of all codes
};

/// The work one query took.
struct QueryStats {
    Plan plan = Plan::scan;
    bool gave_up = false;  ///< the plan did not pay, and the codes were scanned after all
    std::int64_t nodes_visited =
        0;  ///< prefixes (parts) opened that hold codes; nodes of the levels in a pruned search
    std::int64_t codes_compared = 0;  ///< full codes whose distance to the query was computed
};

class IdFilter;
class Segment;
class Stopper;
struct IndexSettings;
struct LiveSegment;
struct NewItems;
struct SearchTask;
struct State;
template <typename T>
class Published;
class ForkSafeMutex;

/// What a search by radius found: the items of query q are offsets[q] .. offsets[q + 1], by (distance, id).
struct RangeResult {
    std::vector<std::int64_t> offsets;
    std::vector<std::int32_t> distances;
    std::vector<std::int64_t> ids;
};

/// Codes and ids out of an index.
struct Export {
    std::vector<std::uint8_t> codes;  ///< rows
    std::vector<std::int64_t> ids;
};

/// Any number of threads may use an index at once. A search looks at what the index held when it began and waits for
/// nobody; changes take turns, and each happens as a whole or, if it throws, not at all. `interrupt`, which is also
/// asked while a change waits for its turn, may search; a change of the same index that it begins throws ReentryError,
/// and so does one of another index where threads would then wait for each other.
///
/// An index is a list of segments, which never change. A change makes new ones and a new list; see docs/updates.md.
class Index {
 public:
    virtual ~Index();
    Index(const Index&) = delete;
    Index& operator=(const Index&) = delete;

    virtual IndexKind kind() const = 0;
    const LevelLayout& layout() const { return layout_; }
    std::size_t size() const;
    /// Bytes of memory that the index holds.
    std::size_t nbytes() const;
    /// Bytes of the file that it has mapped, of which the system keeps in memory what is used.
    std::size_t mapped_bytes() const;
    /// In how many segments the codes stand, and how many of their codes are removed ones.
    std::size_t n_segments() const;
    std::size_t n_removed() const;

    /// Add codes with their ids: any distinct values but -1 that the index does not hold yet. With `ids` null they go
    /// on from one past the largest id so far, from 0 in a fresh index. Throws ArgumentError or Interrupted.
    void add(CodeView codes, const std::int64_t* ids, const Interrupt& interrupt = {});
    /// Remove the codes with these ids. Throws ArgumentError for an id that the index does not hold or that comes
    /// twice.
    void remove(const std::int64_t* ids, std::size_t n, const Interrupt& interrupt = {});
    /// Give ids that the index holds other codes, at once. Throws as remove does.
    void update(const std::int64_t* ids, CodeView codes, const Interrupt& interrupt = {});
    /// Add all codes of another index with their ids. Throws as add does.
    void merge(const Index& other, const Interrupt& interrupt = {});
    /// Put all codes into one segment, as if they had been added at once. Changes speed and memory, no result.
    void compact(const Interrupt& interrupt = {});

    bool contains(std::int64_t id) const;
    /// Where counting of ids goes on: one past the largest so far, also if it has been removed.
    std::uint64_t next_id() const;
    /// Write the codes of these ids as rows. Throws ArgumentError for an id that the index does not hold.
    void reconstruct(const std::int64_t* ids, std::size_t n, std::uint8_t* codes) const;
    /// All codes and ids, in the order of the ids.
    Export export_items() const;
    /// An index of its own that holds the same; what neither has changed is there once.
    std::unique_ptr<Index> copy() const;

    /// The k nearest codes of each query: exactly, or by the pruned search where `pruning` is given. Of the ids in
    /// `filter`, if one is given. `distances` and `ids` take queries.n * k values, `stats` queries.n or null. Throws
    /// ArgumentError, or Interrupted when `interrupt` said so.
    void search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, const IdFilter* filter,
                std::int32_t* distances, std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt = {}) const;
    /// All codes within a distance of each query.
    RangeResult range_search(CodeView queries, std::int32_t radius, const IdFilter* filter, QueryStats* stats,
                             const Interrupt& interrupt = {}) const;
    /// How many there are.
    void count_within(CodeView queries, std::int32_t radius, const IdFilter* filter, std::int64_t* counts,
                      const Interrupt& interrupt = {}) const;

    /// Hold this from now on: for who reads a file.
    void adopt(std::shared_ptr<const State> state);

    /// Write the index into one file, atomically: after a failure the old file is intact. Throws IoError.
    void save(const std::string& path, const Interrupt& interrupt = {}) const;
    /// The bytes of that file.
    std::vector<std::uint8_t> to_bytes(const Interrupt& interrupt = {}) const;

 protected:
    explicit Index(LevelLayout layout);

    std::shared_ptr<const State> state() const;
    /// For a search that needs all codes in one segment: puts them into one, if they are not.
    std::shared_ptr<const State> compacted(Stopper& stopper) const;
    /// The items that a filter allows, as `build` makes a segment of them or in the simplest form; null if there are
    /// none.
    std::shared_ptr<const Segment> filtered(const std::shared_ptr<const State>& state, const IdFilter& filter,
                                            bool built) const;

    /// A segment of what is left of some segments, and of new items after it; there is at least one item. `first`: the
    /// segment that is searched before it, null if there is none.
    virtual LiveSegment build(const std::vector<LiveSegment>& parts, const NewItems& items, const Segment* first,
                              Stopper& stopper) const = 0;
    void search_exact(const IdFilter* filter, const SearchTask& task, Stopper& stopper) const;
    virtual void search_pruned(const Pruning& pruning, const IdFilter* filter, const SearchTask& task,
                               Stopper& stopper) const = 0;
    virtual std::unique_ptr<Index> empty_copy() const = 0;
    virtual IndexSettings settings() const = 0;

 private:
    NewItems nothing_new() const;
    /// `change`: what errors call it.
    void add(const char* change, CodeView codes, const std::int64_t* ids, const Interrupt& interrupt);
    void append(State& draft, CodeView codes, const std::int64_t* ids, Stopper& stopper) const;
    void remove(State& draft, const std::int64_t* ids, std::size_t n, Stopper& stopper) const;
    std::shared_ptr<const State> in_one_segment(const State& held, Stopper& stopper) const;
    LevelLayout layout_;
    const std::unique_ptr<Published<State>> state_;
    const std::unique_ptr<ForkSafeMutex> writer_;  // held while a change is made
};

/// What a file says about itself, read from its first bytes.
struct FileInfo {
    IndexKind kind;
    std::vector<std::size_t> level_bits;
    std::uint64_t n_codes;
    bool has_ids;  ///< false: the ids follow one another in the order of the codes
    int format_major;
    int format_minor;
    std::uint64_t file_bytes;
};

/// One section of a file.
struct FileSection {
    std::string name;
    std::uint64_t offset;
    std::uint64_t n_bytes;
    std::uint64_t checksum;  ///< as the header says
    bool intact;             ///< and as the bytes are
};

struct FileReport {
    FileInfo info;
    std::vector<FileSection> sections;
    std::string fault;  ///< what is wrong with the content; empty if nothing is
};

/// Read and check a whole file. `mapped`: leave codes and ids in the file, mapped into memory, which other processes
/// share. Throws IoError, or FormatError that says what is wrong where.
std::unique_ptr<Index> load_index(const std::string& path, bool mapped = false);

/// The same of bytes in memory, which are copied.
std::unique_ptr<Index> index_from_bytes(const std::uint8_t* data, std::size_t n);

/// Read the description alone, in constant time; the codes behind it are not checked.
FileInfo peek_file(const std::string& path);

/// Check a file section by section. Throws if not even its header can be read.
FileReport verify_file(const std::string& path);

}  // namespace fasthash
