// The construction of a Gallery: which segments it copies, removed entries, numbers of ids, filters.
#include "gpu/gallery.h"
#include "gpu/query_batch.h"

namespace fasthash::gpu {
namespace {

constexpr std::size_t kStreamBytes = std::size_t{256} << 20;                      // block of streamed codes
constexpr std::size_t kRankBytes = sizeof(std::int64_t) + sizeof(std::uint32_t);  // of an entry: its id and its rank

/// The groups of a segment that a device holds.
NumberRange groups_of(const Segment& segment, Share share) {
    return chunk_of(segment.held().codes.n_groups(), share.of, share.number);
}

/// Whether ids are too far apart for keys, so that keys hold their ranks.
bool are_far_apart(const State& state, Metric metric) {
    if (state.segments.empty()) return false;
    std::int64_t smallest = state.segments[0].segment->smallest_id(), largest = state.segments[0].segment->largest_id();
    for (const LiveSegment& each : state.segments) {
        smallest = std::min(smallest, each.segment->smallest_id());
        largest = std::max(largest, each.segment->largest_id());
    }
    const unsigned n_held = metric == Metric::jaccard ? kNumberBits<float> : kNumberBits<std::int32_t>;
    return (static_cast<std::uint64_t>(largest) - static_cast<std::uint64_t>(smallest)) >> n_held != 0;
}

/// The bits of these entries, in words; word(w) has those of the entries 32 w .. 32 w + 31.
template <typename Word>
std::vector<std::uint32_t> bits_of(NumberRange entries, std::size_t n_words, const Word& word) {
    std::vector<std::uint32_t> bits((entries.size() + 31) / 32);
    const std::size_t first = entries.begin / 32, shift = entries.begin % 32;
    const auto word_or_none = [&](std::size_t w) { return w < n_words ? std::uint64_t{word(w)} : 0; };
    for (std::size_t i = 0; i < bits.size(); ++i) {
        bits[i] = static_cast<std::uint32_t>((word_or_none(first + i) | word_or_none(first + i + 1) << 32) >> shift);
    }
    return bits;
}

}  // namespace

Gallery::Needs Gallery::needs(const State& state, Metric metric, const Gallery* previous, Share share) {
    const bool ranked = are_far_apart(state, metric);
    const auto held = shared(state, previous, Place::device, ranked);
    const bool ranks_held = previous != nullptr && previous->ranks_ != nullptr && previous->has_segments(held);
    Needs needs;
    for (std::size_t i = 0; i < held.size(); ++i) {
        const Segment& segment = *state.segments[i].segment;
        const NumberRange groups = groups_of(segment, share);
        const std::size_t n_bytes = GpuSegment::bytes_for(segment, groups, !ranked);
        const std::size_t n_ranks = ranked ? GpuSegment::n_entries(segment, groups) * kRankBytes : 0;
        needs.all += n_bytes + n_ranks;
        needs.fresh += (held[i] == nullptr ? n_bytes : 0) + (ranks_held ? 0 : n_ranks);
    }
    return needs;
}

Gallery::Gallery(const State& state, std::size_t n_bits, Metric metric, Stream stream, std::size_t room,
                 const Gallery* previous, Share share)
    : n_bits_(n_bits),
      n_bytes_((n_bits + 7) / 8),
      metric_(metric),
      settings_{wanted_unit(), wanted_plan(), std::min(room / 2, kStreamBytes)} {
    if (needs(state, metric, previous, share).all > room) place_ = Place::host;
    const bool ranked = are_far_apart(state, metric);
    const auto held = shared(state, previous, place_, ranked);
    std::size_t n_sent = 0;
    for (std::size_t i = 0; i < held.size(); ++i) {
        const Segment& segment = *state.segments[i].segment;
        parts_.push_back({held[i], {}});
        if (held[i] != nullptr) {
            ++n_reused_;
        } else {
            n_sent = std::max(n_sent, GpuSegment::bytes_for(segment, groups_of(segment, share), !ranked));
        }
    }
    std::optional<Staging> staging;
    if (n_reused_ < parts_.size()) staging.emplace(n_sent + kGroup * n_bytes_, stream);
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        const LiveSegment& each = state.segments[i];
        Part& part = parts_[i];
        if (!part.segment) {
            part.segment = std::make_shared<GpuSegment>(each.segment, groups_of(*each.segment, share), !ranked, place_,
                                                        *staging, stream);
        }
        n_rows_ += part.segment->n_rows();
        n_entries_ += part.segment->entries().size();
        smallest_id_ = i == 0 ? each.segment->smallest_id() : std::min(smallest_id_, each.segment->smallest_id());
        if (each.live.has_all()) continue;
        const auto bits = bits_of(part.segment->entries(), (each.segment->n_entries() + 31) / 32, [&](std::size_t w) {
            return static_cast<std::uint32_t>(each.live.word(w / 2) >> 32 * (w % 2));
        });
        part.live = loaded(bits.data(), bits.size(), stream);
        finish(stream);  // before the bits are freed
    }
    if (staging) staging->finish();
    if (!ranked) return;
    // Removed entries keep their ranks, so a removal changes none.
    const bool same = previous != nullptr && previous->has_segments(held);
    ranks_ = same && previous->ranks_ != nullptr ? previous->ranks_ : ranks_of_ids(stream);
}

std::vector<std::shared_ptr<const GpuSegment>> Gallery::shared(const State& state, const Gallery* previous, Place place,
                                                               bool ranked) {
    std::vector<std::shared_ptr<const GpuSegment>> segments(state.segments.size());
    if (previous == nullptr || previous->place_ != place) return segments;
    for (std::size_t i = 0; i < segments.size(); ++i) {
        for (const Part& part : previous->parts_) {
            if (part.segment->segment() != state.segments[i].segment.get()) continue;
            if (part.segment->is_made(!ranked)) segments[i] = part.segment;
        }
    }
    return segments;
}

bool Gallery::has_segments(const std::vector<std::shared_ptr<const GpuSegment>>& segments) const {
    return std::equal(parts_.begin(), parts_.end(), segments.begin(), segments.end(),
                      [](const Part& part, const auto& segment) { return part.segment == segment; });
}

/// Numbers the ids in their order.
std::shared_ptr<const Gallery::Ranks> Gallery::ranks_of_ids(Stream stream) const {
    struct Numbered {
        std::int64_t id;
        std::uint32_t entry;  // counted over all parts
    };
    std::vector<Numbered> order;
    for (const Part& part : parts_) {
        const NumberRange entries = part.segment->entries();
        for (std::size_t entry = entries.begin; entry < entries.end; ++entry) {
            order.push_back({part.segment->segment()->id(entry), static_cast<std::uint32_t>(order.size())});
        }
    }
    std::sort(order.begin(), order.end(), [](const Numbered& a, const Numbered& b) { return a.id < b.id; });
    std::vector<std::int64_t> ids;
    std::vector<std::uint32_t> numbers(order.size());
    for (const Numbered& each : order) {
        numbers[each.entry] = static_cast<std::uint32_t>(ids.size());
        ids.push_back(each.id);
    }
    auto ranks = std::make_shared<Ranks>();
    ranks->ids = loaded(ids.data(), ids.size(), stream);
    std::size_t first = 0;
    for (const Part& part : parts_) {
        const std::size_t n = part.segment->entries().size();
        ranks->of_entries.push_back(loaded(numbers.data() + first, n, stream));
        first += n;
    }
    finish(stream);  // before the numbers are freed
    return ranks;
}

std::size_t Gallery::device_nbytes() const {
    std::size_t sum = 0;
    for (const Part& part : parts_) sum += part.segment->device_nbytes() + part.live.device_nbytes();
    if (ranks_ == nullptr) return sum;
    for (const Buffer<std::uint32_t>& each : ranks_->of_entries) sum += each.device_nbytes();
    return sum + ranks_->ids.device_nbytes();
}

Allowed Gallery::allowed(const std::vector<const std::uint32_t*>& bits, Stream stream) const {
    Allowed masks;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        const GpuSegment& segment = *parts_[i].segment;
        const std::size_t n_words = (segment.segment()->n_entries() + 31) / 32;
        const auto here = bits_of(segment.entries(), n_words, [&](std::size_t w) { return bits[i][w]; });
        masks.push_back(loaded(here.data(), here.size(), stream));
        finish(stream);  // before the bits are freed
    }
    return masks;
}

}  // namespace fasthash::gpu
