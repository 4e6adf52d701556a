// Gallery: the segments of an index on a GPU, and all searches of them.
//
// Used by the Python module _cuda. Results equal those of the index on the CPU, byte for byte.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "gpu/gpu_segment.h"
#include "gpu/level_cuts.h"
#include "gpu/scan.h"
#include "segments/state.h"

namespace fasthash::gpu {

struct IdsView;
struct QueryBatch;
struct Selection;

/// For each segment a bit per entry of a gallery: set if a search may return it.
using Allowed = std::vector<Buffer<std::uint32_t>>;

/// The share of the codes that one of several devices holds.
struct Share {
    std::size_t number = 0;
    std::size_t of = 1;
};

/// HDHash's pruned search. `levels`: those of the same index.
struct PrunedSearch {
    const LevelTable& levels;
    Pruning pruning;
};

/// Immutable. Searches throw Interrupted when `interrupt` returns true. Their distances, and a radius, are int32 by
/// Hamming distance and float by Jaccard distance; those of the other metric throw std::logic_error.
class Gallery {
 public:
    static constexpr std::size_t kAllRoom = ~std::size_t{0};

    /// Device memory that a gallery needs for codes, ids and ranks of ids.
    struct Needs {
        std::size_t all = 0;
        std::size_t fresh = 0;  ///< not shared with the gallery before
    };
    static Needs needs(const State& state, Metric metric, const Gallery* previous = nullptr, Share share = {});

    /// Copies the segments of an index. Those that `previous` holds, a gallery of the same index and share, are shared
    /// with it. If needs().all is more than `room`, the codes stay in pinned host memory, from which searches read
    /// them.
    Gallery(const State& state, std::size_t n_bits, Metric metric, Stream stream, std::size_t room = kAllRoom,
            const Gallery* previous = nullptr, Share share = {});

    std::size_t n_bits() const { return n_bits_; }
    Metric metric() const { return metric_; }
    std::size_t n_bytes() const { return n_bytes_; }
    /// Bytes of device memory.
    std::size_t device_nbytes() const;
    /// Whether the codes are in host memory.
    bool streamed() const { return place_ == Place::host; }
    /// Number of segments, and of those that the previous gallery has passed on.
    std::size_t n_segments() const { return parts_.size(); }
    std::size_t n_reused() const { return n_reused_; }

    /// Convert a filter: for each segment of the index, a bit per entry that a search may return.
    Allowed allowed(const std::vector<const std::uint32_t*>& bits, Stream stream) const;
    /// Find the k nearest of each query; with `pruned`, not null, among the codes that HDHash keeps. `distances` and
    /// `ids`: device memory for queries.n * k values. `queries`: rows of bytes, on the host or the device. `allowed`:
    /// null for all entries.
    template <typename Distance>
    void search(CodeView queries, std::uint32_t k, const Allowed* allowed, const PrunedSearch* pruned,
                Distance* distances, std::int64_t* ids, Stream stream, const Interrupt& interrupt = {}) const;
    /// Count the entries within `radius` of each query. `counts`: host memory for queries.n values.
    template <typename Distance>
    void count_within(CodeView queries, Distance radius, const Allowed* allowed, std::int64_t* counts, Stream stream,
                      const Interrupt& interrupt = {}) const;
    /// Find the entries within `radius` of each query; those of query q begin at offsets[q], sorted by (distance, id).
    /// `offsets`: queries.n + 1 values on the host, the running sums of count_within. `distances`, `ids`: device
    /// memory.
    template <typename Distance>
    void range_search(CodeView queries, Distance radius, const Allowed* allowed, const std::int64_t* offsets,
                      Distance* distances, std::int64_t* ids, Stream stream, const Interrupt& interrupt = {}) const;

 private:
    struct Part {
        std::shared_ptr<const GpuSegment> segment;
        Buffer<std::uint32_t> live;  // a bit per entry; empty while none is removed
    };
    /// Ids too far apart for keys, which hold ranks in place of them.
    struct Ranks {
        Buffer<std::int64_t> ids;                       // ascending
        std::vector<Buffer<std::uint32_t>> of_entries;  // by part
    };

    /// For each segment the copy that `previous` shares with a gallery; null if there is none.
    static std::vector<std::shared_ptr<const GpuSegment>> shared(const State& state, const Gallery* previous,
                                                                 Place place, bool ranked);
    /// Whether these are all segments of this gallery.
    bool has_segments(const std::vector<std::shared_ptr<const GpuSegment>>& segments) const;
    std::shared_ptr<const Ranks> ranks_of_ids(Stream stream) const;
    SegmentView view(std::size_t part, const Allowed* allowed) const;
    IdsView ids() const;
    /// Whether the clusters of a part are visited rather than scanned.
    bool visits_clusters(std::size_t part, std::size_t n_queries) const;
    /// Scan rows of a part; `n_before` as in takes_products.
    void compare(const QueryBatch& batch, const Allowed* allowed, std::size_t part, NumberRange rows,
                 const Selection& queries, std::size_t n_before) const;
    /// Add all entries before the thresholds of a batch, which do not change, to the candidates.
    void compare_all(const QueryBatch& batch, const Allowed* allowed) const;
    /// Find the nearest by Jaccard distance.
    void find_by_samples(const QueryBatch& batch, const Allowed* allowed, const Selection& queries) const;
    /// Find the nearest of queries, with clusters where they pay or by scans alone.
    void find_nearest(const QueryBatch& batch, const Allowed* allowed, const Selection& queries, bool clusters) const;
    /// Find the nearest of the flagged queries in another way; false if there are none.
    bool find_again(const QueryBatch& batch, const Allowed* allowed) const;
    void scan_carefully(const QueryBatch& batch, const Allowed* allowed, std::uint32_t query) const;

    std::size_t n_bits_;
    std::size_t n_bytes_;
    Metric metric_;
    Place place_ = Place::device;
    ScanSettings settings_;
    std::vector<Part> parts_;
    std::size_t n_rows_ = 0;
    std::size_t n_entries_ = 0;
    std::size_t n_reused_ = 0;
    std::int64_t smallest_id_ = 0;
    std::shared_ptr<const Ranks> ranks_;  // null where keys hold ids
};

}  // namespace fasthash::gpu
