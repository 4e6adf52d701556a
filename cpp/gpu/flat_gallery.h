// FlatGallery: the codes of an index on a GPU, searched by a scan.
//
// Used by the Python module _cuda. Results equal those of the index on the CPU, byte for byte.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "fasthash/id_filter.h"
#include "fasthash/threads.h"
#include "gpu/planes.h"
#include "gpu/scan.h"

namespace fasthash::gpu {

struct RunsView;
struct PlaneView;

/// The entries of rows of distinct codes, on the host: row i has entries[begins[i]] .. entries[begins[i + 1] - 1],
/// ascending. Entries are numbered in the order of their ids. Empty if row i is entry i.
struct HostRuns {
    std::vector<std::uint32_t> begins;
    std::vector<std::uint32_t> entries;
};

/// A bit per entry of a gallery: set if a search may return it.
using Allowed = Buffer<std::uint32_t>;

/// Not thread-safe: one search at a time. Searches throw Interrupted when `interrupt` returns true.
class FlatGallery {
 public:
    /// `ids` must ascend; null for first_id, first_id + 1, ... Codes and ids are copied. Fewer than 2^32 codes. A
    /// gallery of more than `room` bytes stays in pinned host memory, from which scans stream the codes.
    FlatGallery(CodeView codes, const std::int64_t* ids, std::int64_t first_id, Stream stream,
                std::size_t room = kAllRoom);
    virtual ~FlatGallery() = default;
    static constexpr std::size_t kAllRoom = ~std::size_t{0};

    std::size_t n() const { return n_; }
    std::size_t n_bytes() const { return codes_.n_bytes(); }
    /// Bytes of device memory.
    virtual std::size_t nbytes() const {
        return codes_.device_nbytes() + begins_.device_nbytes() + entries_.device_nbytes() + ids_.device_nbytes();
    }
    /// Whether the codes are in host memory.
    bool streamed() const { return codes_.place() == Place::host; }

    /// Convert a filter for searches of this gallery.
    Allowed allowed(const IdFilter& filter, Stream stream) const;

    /// Find the k nearest of each query. `distances` and `ids`: device memory for queries.n * k values. `queries`: rows
    /// of bytes, on the host or the device. `allowed`: null for all entries.
    void search(CodeView queries, std::uint32_t k, const Allowed* allowed, std::int32_t* distances, std::int64_t* ids,
                Stream stream, const Interrupt& interrupt = {}) const;
    /// Count the entries within `radius` of each query. `counts`: host memory for queries.n values.
    void count_within(CodeView queries, std::int32_t radius, const Allowed* allowed, std::int64_t* counts,
                      Stream stream, const Interrupt& interrupt = {}) const;
    /// Find the entries within `radius` of each query; those of query q begin at offsets[q], sorted by (distance, id).
    /// `offsets`: queries.n + 1 values on the host, the running sums of count_within. `distances`, `ids`: device
    /// memory.
    void range_search(CodeView queries, std::int32_t radius, const Allowed* allowed, const std::int64_t* offsets,
                      std::int32_t* distances, std::int64_t* ids, Stream stream, const Interrupt& interrupt = {}) const;

 protected:
    /// Rows of distinct codes with `n` entries.
    FlatGallery(CodeView rows, const HostRuns& runs, const std::int64_t* ids, std::size_t n, std::int64_t first_id,
                Stream stream, std::size_t room);

    /// Find the k nearest of each query of a batch.
    virtual void find(QueryBatch& batch) const;
    /// Search with another function in place of find(); `first` is the number of the batch's first query.
    using Find = std::function<void(QueryBatch& batch, std::size_t first)>;
    void search_by(const Find& find, CodeView queries, std::uint32_t k, const Allowed* allowed, std::int32_t* distances,
                   std::int64_t* ids, Stream stream, const Interrupt& interrupt) const;
    /// Compare all rows with all queries of a batch.
    void scan_all(QueryBatch& batch) const;

    std::size_t n_rows() const { return codes_.n(); }
    PlaneView codes() const;

 private:
    void scan_carefully(QueryBatch& batch, std::size_t query) const;
    RunsView runs() const;

    Planes codes_;
    ScanSettings settings_;
    Buffer<std::uint32_t> begins_;
    Buffer<std::uint32_t> entries_;
    std::size_t n_;
    std::vector<std::int64_t> host_ids_;  // empty if ids are consecutive
    Buffer<std::int64_t> ids_;
    std::int64_t first_id_;
};

}  // namespace fasthash::gpu
