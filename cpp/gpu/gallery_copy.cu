// The construction of a Gallery: which segments it copies, removed entries, numbers of ids, filters.
#include "gpu/gallery.h"
#include "gpu/query_batch.h"

namespace fasthash::gpu {
namespace {

constexpr std::size_t kStreamBytes = std::size_t{256} << 20;  // block of streamed codes

/// The groups of a segment that a device holds.
NumberRange groups_of(const Segment& segment, Share share) {
    return chunk_of(segment.held().codes.n_groups(), share.of, share.number);
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

Gallery::Gallery(const State& state, std::size_t n_bits, Metric metric, Stream stream, std::size_t room,
                 const Gallery* previous, Share share)
    : n_bits_(n_bits),
      n_bytes_((n_bits + 7) / 8),
      metric_(metric),
      settings_{wanted_unit(), wanted_plan(), std::min(room / 2, kStreamBytes)} {
    std::size_t n_needed = 0, n_sent = 0;
    for (const LiveSegment& each : state.segments) {
        n_needed += GpuSegment::bytes_for(*each.segment, groups_of(*each.segment, share));
    }
    if (n_needed > room) place_ = Place::host;
    const auto held_before = [&](const Segment* segment) -> std::shared_ptr<const GpuSegment> {
        if (previous == nullptr || previous->place_ != place_) return nullptr;
        for (const Part& part : previous->parts_) {
            if (part.segment->segment() == segment) return part.segment;
        }
        return nullptr;
    };
    for (const LiveSegment& each : state.segments) {
        parts_.push_back({held_before(each.segment.get()), {}, {}});
        if (parts_.back().segment) {
            ++n_reused_;
        } else {
            n_sent = std::max(n_sent, GpuSegment::bytes_for(*each.segment, groups_of(*each.segment, share)));
        }
    }
    std::optional<Staging> staging;
    if (n_reused_ < parts_.size()) staging.emplace(n_sent + kGroup * n_bytes_, stream);
    std::int64_t largest_id = 0;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
        const LiveSegment& each = state.segments[i];
        Part& part = parts_[i];
        if (!part.segment) {
            part.segment =
                std::make_shared<GpuSegment>(each.segment, groups_of(*each.segment, share), place_, *staging, stream);
        }
        n_rows_ += part.segment->n_rows();
        n_entries_ += part.segment->entries().size();
        smallest_id_ = i == 0 ? each.segment->smallest_id() : std::min(smallest_id_, each.segment->smallest_id());
        largest_id = i == 0 ? each.segment->largest_id() : std::max(largest_id, each.segment->largest_id());
        if (each.live.has_all()) continue;
        const auto bits = bits_of(part.segment->entries(), (each.segment->n_entries() + 31) / 32, [&](std::size_t w) {
            return static_cast<std::uint32_t>(each.live.word(w / 2) >> 32 * (w % 2));
        });
        part.live = loaded(bits.data(), bits.size(), stream);
        finish(stream);  // before the bits are freed
    }
    if (staging) staging->finish();
    const std::uint64_t range = static_cast<std::uint64_t>(largest_id) - static_cast<std::uint64_t>(smallest_id_);
    const unsigned n_held = metric == Metric::jaccard ? kNumberBits<float> : kNumberBits<std::int32_t>;
    if (range >> n_held != 0) rank_ids(stream);
}

/// For ids too far apart for keys: numbers them in their order.
void Gallery::rank_ids(Stream stream) {
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
    std::vector<std::uint32_t> ranks(order.size());
    for (const Numbered& each : order) {
        ranks[each.entry] = static_cast<std::uint32_t>(ids.size());
        ids.push_back(each.id);
    }
    ranked_ids_ = loaded(ids.data(), ids.size(), stream);
    std::size_t first = 0;
    for (Part& part : parts_) {
        part.ranks = loaded(ranks.data() + first, part.segment->entries().size(), stream);
        first += part.segment->entries().size();
    }
    finish(stream);  // before the ranks are freed
}

std::size_t Gallery::device_nbytes() const {
    std::size_t sum = ranked_ids_.device_nbytes();
    for (const Part& part : parts_) {
        sum += part.segment->device_nbytes() + part.live.device_nbytes() + part.ranks.device_nbytes();
    }
    return sum;
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
