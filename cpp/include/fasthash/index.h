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

class Stopper;

/// Any number of threads may use an index at once: searches share it, add takes it alone.
class Index {
 public:
    virtual ~Index() = default;
    Index(const Index&) = delete;
    Index& operator=(const Index&) = delete;

    virtual IndexKind kind() const = 0;
    const LevelLayout& layout() const { return layout_; }
    std::size_t size() const;
    /// Bytes of memory that the index holds.
    std::size_t nbytes() const;

    /// Add codes with their ids: any distinct values but -1 that the index does not hold yet. With `ids` null they go
    /// on from one past the largest id so far, from 0 in a fresh index. Throws ArgumentError, and then holds what it
    /// held before.
    void add(CodeView codes, const std::int64_t* ids);

    /// The k nearest codes of each query: exactly, or by the pruned search where `pruning` is given.
    /// `distances` and `ids` take queries.n * k values, `stats` queries.n or null. Throws ArgumentError, or Interrupted
    /// when `interrupt` said so.
    void search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, std::int32_t* distances,
                std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt = {}) const;

    /// Write the index into one file, atomically: after a failure the old file is intact. Throws IoError.
    void save(const std::string& path) const;

 protected:
    explicit Index(LevelLayout layout) : layout_(std::move(layout)) {}

    // The work itself; the callers above have checked the arguments and hold the lock.
    virtual std::size_t do_size() const = 0;
    virtual std::size_t do_nbytes() const = 0;
    virtual void do_add(CodeView codes, const std::int64_t* ids) = 0;
    virtual void do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                           std::int32_t* distances, std::int64_t* ids, QueryStats* stats, Stopper& stopper) const = 0;
    virtual void do_save(const std::string& path) const = 0;

    std::shared_lock<std::shared_mutex> read_lock() const;

 private:
    LevelLayout layout_;
    mutable std::shared_mutex mutex_;
    mutable std::mutex gate_;  // taken before mutex_, so that a stream of readers cannot keep a writer waiting
};

/// What a file says about itself, read from its first bytes.
struct FileInfo {
    IndexKind kind;
    std::vector<std::size_t> level_bits;
    std::uint64_t n_codes;
    bool has_ids;  ///< false: the ids are 0 .. n_codes - 1 in the order of the codes
    int format_major;
    int format_minor;
    std::uint64_t file_bytes;
};

/// Read and check a whole file. Throws IoError, or FormatError that says what is wrong where.
std::unique_ptr<Index> load_index(const std::string& path);

/// Read the description alone, in constant time; the codes behind it are not checked.
FileInfo peek_file(const std::string& path);

}  // namespace fasthash
