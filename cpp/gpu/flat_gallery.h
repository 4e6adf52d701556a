// Codes on a GPU, searched by comparing all of them.
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

/// The entries behind distinct codes, on the host: those of row i are entries[begins[i]] .. entries[begins[i + 1] - 1],
/// in ascending order. Entries are numbered as their ids ascend. Nothing where row i is entry i.
struct HostRuns {
    std::vector<std::uint32_t> begins;
    std::vector<std::uint32_t> entries;
};

/// A bit for each entry of a gallery that a search may find.
using Allowed = Buffer<std::uint32_t>;

/// Results are those of an index on the CPU, byte for byte. One search at a time. Searches throw Interrupted when
/// `interrupt` says so.
class FlatGallery {
 public:
    /// `ids` ascend; null for first_id, first_id + 1, ... Both are copied. Fewer than 2^32 codes. If all of it
    /// takes more bytes of the device than `room`, it stays in pinned memory of the host: scans stream the codes.
    FlatGallery(CodeView codes, const std::int64_t* ids, std::int64_t first_id, Stream stream,
                std::size_t room = kAllRoom);
    virtual ~FlatGallery() = default;
    static constexpr std::size_t kAllRoom = ~std::size_t{0};

    std::size_t n() const { return n_; }
    std::size_t n_bytes() const { return codes_.n_bytes(); }
    /// Of the device.
    virtual std::size_t nbytes() const {
        return codes_.device_nbytes() + begins_.device_nbytes() + entries_.device_nbytes() + ids_.device_nbytes();
    }
    /// Whether the codes are on the host.
    bool streamed() const { return codes_.place() == Place::host; }

    /// What a filter allows, for searches of this gallery.
    Allowed allowed(const IdFilter& filter, Stream stream) const;

    /// The k nearest of each query, on the device: `distances` and `ids` take queries.n * k values there. `queries` are
    /// rows of bytes, on the host or the device. `allowed`: null for all.
    void search(CodeView queries, std::uint32_t k, const Allowed* allowed, std::int32_t* distances, std::int64_t* ids,
                Stream stream, const Interrupt& interrupt = {}) const;
    /// How many are within a distance of each query; `counts` takes queries.n values on the host.
    void count_within(CodeView queries, std::int32_t radius, const Allowed* allowed, std::int64_t* counts,
                      Stream stream, const Interrupt& interrupt = {}) const;
    /// Which they are: those of query q from offsets[q] on, by (distance, id). `offsets`, queries.n + 1 values on the
    /// host, are the running sums of what count_within found; `distances` and `ids` are on the device.
    void range_search(CodeView queries, std::int32_t radius, const Allowed* allowed, const std::int64_t* offsets,
                      std::int32_t* distances, std::int64_t* ids, Stream stream, const Interrupt& interrupt = {}) const;

 protected:
    /// Distinct codes, with runs of `n` entries.
    FlatGallery(CodeView rows, const HostRuns& runs, const std::int64_t* ids, std::size_t n, std::int64_t first_id,
                Stream stream, std::size_t room);

    /// Finds the k nearest of each query of a batch.
    virtual void find(QueryBatch& batch) const;
    /// The same in a search of another kind; `first` is the number of the batch's first query.
    using Find = std::function<void(QueryBatch& batch, std::size_t first)>;
    void search_by(const Find& find, CodeView queries, std::uint32_t k, const Allowed* allowed, std::int32_t* distances,
                   std::int64_t* ids, Stream stream, const Interrupt& interrupt) const;
    /// Compares all rows, for all queries of a batch.
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
    std::vector<std::int64_t> host_ids_;  // none where they follow one another
    Buffer<std::int64_t> ids_;
    std::int64_t first_id_;
};

}  // namespace fasthash::gpu
