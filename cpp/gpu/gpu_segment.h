// GpuSegment: a segment of an index, or a range of its groups, in the memory of a GPU.
//
// Made by Gallery. Codes and ids keep the order of the segment; as the segment, it never changes.
#pragma once

#include <memory>

#include "gpu/clusters.h"
#include "gpu/planes.h"
#include "segments/segment.h"

namespace fasthash::gpu {

struct SegmentView;

class GpuSegment {
 public:
    /// `groups`: those of the codes that this device holds. `with_ids`: false if searches use ranks in place of ids.
    /// Codes and ids are in memory once staging.finish() returns.
    GpuSegment(std::shared_ptr<const Segment> segment, NumberRange groups, bool with_ids, Place place, Staging& staging,
               Stream stream);

    /// Bytes of these groups of a segment, on a device or the host.
    static std::size_t bytes_for(const Segment& segment, NumberRange groups, bool with_ids);
    /// The number of entries of these groups.
    static std::size_t n_entries(const Segment& segment, NumberRange groups);

    /// The segment of the index that this is a copy of.
    const Segment* segment() const { return segment_.get(); }
    std::size_t n_rows() const { return codes_.n(); }
    /// The entries of the segment that are here.
    NumberRange entries() const { return entries_; }
    /// Whether it is the same with ids as without, or was made so.
    bool is_made(bool with_ids) const { return with_ids == with_ids_ || segment_->held().ids.size() == 0; }
    const Planes& codes() const { return codes_; }
    /// Null unless the codes are in clusters.
    const Clusters* clusters() const { return clusters_.get(); }
    bool has_duplicates() const { return marks_.size() != 0; }
    std::size_t device_nbytes() const;
    /// `smallest`: the id that counts as number 0.
    SegmentView view(std::int64_t smallest) const;

 private:
    std::shared_ptr<const Segment> segment_;
    NumberRange rows_;
    NumberRange entries_;
    bool with_ids_;
    Planes codes_;
    Buffer<std::uint64_t> marks_;
    Buffer<std::uint32_t> ranks_;
    Buffer<std::uint32_t> extras_;
    Buffer<std::uint8_t> ids_;           // empty if they are counted, or not needed
    Buffer<std::uint32_t> size_begins_;  // of bit-major codes: the first row with 0, 1, ... bits set
    std::unique_ptr<const Clusters> clusters_;
};

}  // namespace fasthash::gpu
