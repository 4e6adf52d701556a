// Codes on a GPU, searched by comparing all of them.
#pragma once

#include <cstdint>
#include <vector>

#include "fasthash/id_filter.h"
#include "gpu/planes.h"

namespace fasthash::gpu {

struct QueryBatch;

/// Results are those of FlatIndex on the CPU, byte for byte. One search at a time.
class FlatGallery {
 public:
    /// `ids` ascend; null for first_id, first_id + 1, ... Both are copied. Fewer than 2^32 codes.
    FlatGallery(CodeView codes, const std::int64_t* ids, std::int64_t first_id, Stream stream);

    std::size_t n() const { return codes_.n(); }
    std::size_t n_bytes() const { return codes_.n_bytes(); }
    std::size_t nbytes() const { return codes_.nbytes() + ids_.nbytes(); }

    /// The k nearest of each query, on the device: `distances` and `ids` take queries.n * k values there. `queries` are
    /// rows of bytes, on the host or the device. `filter`: only
    /// its ids; null for all.
    void search(CodeView queries, std::uint32_t k, const IdFilter* filter, std::int32_t* distances, std::int64_t* ids,
                Stream stream) const;
    /// How many are within a distance of each query; `counts` takes queries.n values on the host.
    void count_within(CodeView queries, std::int32_t radius, const IdFilter* filter, std::int64_t* counts,
                      Stream stream) const;
    /// Which they are: those of query q from offsets[q] on, by (distance, id). `offsets`, queries.n + 1 values on the
    /// host, are the running sums of what count_within found; `distances` and `ids` are on the device.
    void range_search(CodeView queries, std::int32_t radius, const IdFilter* filter, const std::int64_t* offsets,
                      std::int32_t* distances, std::int64_t* ids, Stream stream) const;

 private:
    void search_group(QueryBatch& batch, std::uint32_t k) const;
    /// A bit for each code that a filter allows; nothing for no filter.
    Buffer<std::uint32_t> mask(const IdFilter* filter, Stream stream) const;
    void search_again(QueryBatch& batch, std::size_t query, std::uint32_t k) const;

    Planes codes_;
    std::vector<std::int64_t> host_ids_;  // none where they follow one another
    Buffer<std::int64_t> ids_;
    std::int64_t first_id_;
};

}  // namespace fasthash::gpu
