#include "gpu/gpu_segment.h"
#include "gpu/search_kernels.h"
#include "segments/bit_major_segment.h"

namespace fasthash::gpu {
namespace {

template <typename T>
Buffer<T> sent(const T* values, std::size_t n, Place place, Staging& staging, Stream stream) {
    Buffer<T> buffer(n, stream, place);
    const WaitOnError guard([&] { staging.finish(); });
    staging.copy(buffer.data(), values, n * sizeof(T));
    return buffer;
}

template <typename T>
Buffer<T> sent(const Array<T>& values, Place place, Staging& staging, Stream stream) {
    if (values.empty()) return {};
    return sent(values.data(), values.size(), place, staging, stream);
}

NumberRange rows_of(const Segment& segment, NumberRange groups) {
    const std::size_t n = segment.held().codes.size();
    return {std::min(n, groups.begin * kGroup), std::min(n, groups.end * kGroup)};
}

NumberRange entries_of(const Segment& segment, NumberRange rows) {
    const DuplicateRuns* const runs = segment.held().runs;
    return runs == nullptr ? rows : NumberRange{runs->begin(rows.begin), runs->begin(rows.end)};
}

bool has_duplicates(const HeldEntries& held) { return held.runs != nullptr && !held.runs->extras().empty(); }

}  // namespace

GpuSegment::GpuSegment(std::shared_ptr<const Segment> segment, NumberRange groups, bool with_ids, Place place,
                       Staging& staging, Stream stream)
    : segment_(std::move(segment)),
      rows_(rows_of(*segment_, groups)),
      entries_(entries_of(*segment_, rows_)),
      with_ids_(with_ids),
      codes_(segment_->held().codes, groups, staging, stream, place) {
    const WaitOnError guard([&] { staging.finish(); });
    const HeldEntries held = segment_->held();
    if (gpu::has_duplicates(held)) {
        marks_ = sent(held.runs->marks(), place, staging, stream);
        ranks_ = sent(held.runs->ranks(), place, staging, stream);
        extras_ = sent(held.runs->extras(), place, staging, stream);
    }
    if (segment_->clusters() != nullptr && rows_.size() != 0) {
        clusters_ = std::make_unique<const Clusters>(*segment_->clusters(), rows_, staging, stream);
    }
    if (with_ids && held.ids.size() != 0) {
        const std::size_t width = held.ids.width();
        ids_ = sent(held.ids.bytes().data() + entries_.begin * width, entries_.size() * width, place, staging, stream);
    }
    if (segment_->bit_major() != nullptr) {
        // A scan looks each row up in them: they are few, and on the device even if the codes are not.
        size_begins_ = sent(segment_->bit_major()->codes().count_begin(), Place::device, staging, stream);
    }
}

std::size_t GpuSegment::bytes_for(const Segment& segment, NumberRange groups, bool with_ids) {
    const HeldEntries held = segment.held();
    const NumberRange rows = rows_of(segment, groups);
    std::size_t n_bytes = Planes::bytes_for(rows.size(), held.codes.n_bytes());
    if (with_ids && held.ids.size() != 0) n_bytes += n_entries(segment, groups) * held.ids.width();
    return gpu::has_duplicates(held) ? n_bytes + held.runs->nbytes() : n_bytes;
}

std::size_t GpuSegment::n_entries(const Segment& segment, NumberRange groups) {
    return entries_of(segment, rows_of(segment, groups)).size();
}

std::size_t GpuSegment::device_nbytes() const {
    return codes_.device_nbytes() + marks_.device_nbytes() + ranks_.device_nbytes() + extras_.device_nbytes() +
           ids_.device_nbytes() + size_begins_.device_nbytes() + (clusters_ ? clusters_->device_nbytes() : 0);
}

SegmentView GpuSegment::view(std::int64_t smallest) const {
    const PackedNumbers& ids = segment_->held().ids;
    SegmentView view{};
    view.codes = {codes_.words(), codes_.stride()};
    view.sizes = {size_begins_.data(), static_cast<unsigned>(codes_.n_bytes() * 8), rows_.begin};
    view.runs = {marks_.data(), ranks_.data(), extras_.data(), rows_.begin, entries_.begin};
    const auto offset_of = [&](std::int64_t id) {
        return static_cast<std::uint64_t>(id) - static_cast<std::uint64_t>(smallest);
    };
    if (ids_.size() == 0) {
        view.numbers = {nullptr, 0, offset_of(segment_->smallest_id()) + entries_.begin};
    } else {
        view.numbers = {ids_.data(), static_cast<unsigned>(ids.width()), offset_of(ids.smallest())};
    }
    return view;
}

}  // namespace fasthash::gpu
