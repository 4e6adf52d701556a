// What every index can do. Results are ordered by (distance, id), so equal input gives equal bytes in every index.
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

    IndexKind kind() const;
    const LevelLayout& layout() const;
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
    Export export_entries() const;
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

    /// Write the index into one file, atomically: after a failure the old file is intact. Throws IoError.
    void save(const std::string& path, const Interrupt& interrupt = {}) const;
    /// The bytes of that file.
    std::vector<std::uint8_t> to_bytes(const Interrupt& interrupt = {}) const;

 protected:
    class Impl;

    explicit Index(std::unique_ptr<Impl> impl);

    const std::unique_ptr<Impl> impl_;

 private:
    friend std::unique_ptr<Index> load_index(const std::string& path, bool mapped);
    friend std::unique_ptr<Index> index_from_bytes(const std::uint8_t* data, std::size_t n);

    /// A FlatIndex or a HierIndex, as its settings say.
    static std::unique_ptr<Index> of(std::unique_ptr<Impl> impl);
};

/// Read and check a whole file. `mapped`: leave codes and ids in the file, mapped into memory, which other processes
/// share. Throws IoError, or FormatError that says what is wrong where.
std::unique_ptr<Index> load_index(const std::string& path, bool mapped = false);

/// The same of bytes in memory, which are copied.
std::unique_ptr<Index> index_from_bytes(const std::uint8_t* data, std::size_t n);

}  // namespace fasthash
