#include "gpu/cluster_search.h"
#include "gpu/first_rows.h"
#include "gpu/gallery.h"
#include "gpu/query_batch.h"
#include "gpu/tuning.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kKeyBytes = std::size_t{256} << 20;     // candidates of all queries of a group
constexpr std::size_t kStreamBytes = std::size_t{256} << 20;  // block of streamed codes
constexpr std::size_t kLeastCapacity = 4096;
constexpr std::size_t kMostTogether = 65535;  // queries of a group: blocks along y

std::size_t power_of_two(std::size_t n) {
    std::size_t power = 1;
    while (power < n) power *= 2;
    return power;
}

void check_room(std::size_t n_keys) {
    if (n_keys > kMostKeys) throw OutOfMemory("a query finds too many codes for the GPU to sort");
}

/// The flags of the queries of a batch. Waits for the device.
std::vector<std::uint8_t> flags_of(const QueryBatch& batch) {
    std::vector<std::uint8_t> flags(batch.n);
    copy_to_host(flags.data(), batch.flags, batch.n, batch.stream);
    finish(batch.stream);
    return flags;
}

std::vector<std::uint32_t> flagged(const std::vector<std::uint8_t>& flags, std::uint8_t flag) {
    std::vector<std::uint32_t> numbers;
    for (std::size_t query = 0; query < flags.size(); ++query) {
        if ((flags[query] & flag) != 0) numbers.push_back(static_cast<std::uint32_t>(query));
    }
    return numbers;
}

/// Prepares queries to be compared again from the first row on.
void restart(const QueryBatch& batch, const Selection& some) {
    launch(Restart{batch.view(some), batch.thresholds, batch.counts, batch.flags}, {blocks_for(some.n, kScanThreads)},
           kScanThreads, 0, batch.stream);
}

template <typename T>
T value_at(const T* values, std::size_t i, Stream stream) {
    T value;
    copy_to_host(&value, values + i, sizeof(T), stream);
    finish(stream);
    return value;
}

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

Gallery::Gallery(const State& state, std::size_t n_bits, Stream stream, std::size_t room, const Gallery* previous,
                 Share share)
    : n_bits_(n_bits),
      n_bytes_((n_bits + 7) / 8),
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
    if (range >> kNumberBits != 0) rank_ids(stream);
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

SegmentView Gallery::view(std::size_t part, const Allowed* allowed) const {
    SegmentView view = parts_[part].segment->view(smallest_id_);
    if (ranked_ids_.size() != 0) {
        view.numbers = {reinterpret_cast<const std::uint8_t*>(parts_[part].ranks.data()), sizeof(std::uint32_t), 0};
    }
    view.mask.bits = allowed == nullptr ? parts_[part].live.data() : (*allowed)[part].data();
    return view;
}

IdsView Gallery::ids() const { return {ranked_ids_.data(), smallest_id_}; }

bool Gallery::visits_clusters(std::size_t part, std::size_t n_queries) const {
    const GpuSegment& segment = *parts_[part].segment;
    if (segment.clusters() == nullptr || settings_.plan == GpuPlan::scan) return false;
    return settings_.plan == GpuPlan::clusters || n_queries >= kClusterPairs / segment.n_rows();
}

void Gallery::compare(const QueryBatch& batch, const Allowed* allowed, std::size_t part, NumberRange rows,
                      const Selection& queries, std::size_t n_before) const {
    scan(parts_[part].segment->codes(), settings_, batch, view(part, allowed), rows, queries, n_before);
}

void Gallery::compare_all(const QueryBatch& batch, const Allowed* allowed) const {
    constexpr std::size_t kKnown = ~std::size_t{0};  // the thresholds are those of the radius
    for (std::size_t part = 0; part < parts_.size(); ++part) {
        const GpuSegment& segment = *parts_[part].segment;
        const NumberRange rows{0, segment.n_rows()};
        if (!visits_clusters(part, batch.n)) {
            compare(batch, allowed, part, rows, batch.all(), kKnown);
            continue;
        }
        compare_clusters(segment, view(part, allowed), settings_, batch);
        const std::vector<std::uint32_t> scanned = flagged(flags_of(batch), kGaveUp);
        if (scanned.empty()) continue;
        const Buffer<std::uint32_t> numbers = loaded(scanned.data(), scanned.size(), batch.stream);
        compare(batch, allowed, part, rows, {numbers.data(), numbers.size()}, kKnown);
        fill_bytes(batch.flags, 0, batch.n, batch.stream);
        finish(batch.stream);  // before the numbers are freed
    }
}

void Gallery::find_nearest(const QueryBatch& batch, const Allowed* allowed, const Selection& queries,
                           bool clusters) const {
    // The rows compared so far give a threshold. Of `growth` times as many further rows about growth * k lie within it,
    // rarely more than 2 * growth * k plus a few, so that the candidates fit the capacity.
    const std::size_t growth = std::max<std::size_t>(1, batch.capacity / (2 * std::size_t{batch.k} + 24));
    const std::size_t n_fit = batch.capacity / ((n_entries_ + n_rows_ - 1) / n_rows_);  // rows whose entries have room
    std::size_t n_compared = 0;
    for (std::size_t part = 0; part < parts_.size(); ++part) {
        const std::size_t n = parts_[part].segment->n_rows();
        if (clusters && visits_clusters(part, queries.n)) {
            search_clusters(*parts_[part].segment, view(part, allowed), settings_, batch, n_compared == 0);
            n_compared += n;
            continue;
        }
        for (std::size_t first = 0; first < n;) {
            const std::size_t n_next = n_compared == 0 ? n_fit : n_compared * growth;
            const std::size_t end = std::min(n, first + std::max(kQuad, n_next / kQuad * kQuad));
            if (n_compared == 0 && end <= kFirstRows && place_ == Place::device) {
                const ScanTask task{view(part, allowed), batch.n_words,      first,  end,
                                    batch.view(queries), batch.candidates(), batch.k};
                const auto n_bits = static_cast<unsigned>(n_bytes_ * 8);
                launch(FirstRows{task, n_bits}, {static_cast<unsigned>(queries.n)}, kScanThreads,
                       FirstRows::shared_bytes(n_bits), batch.stream);
            } else {
                compare(batch, allowed, part, {first, end}, queries, n_compared);
            }
            tighten(batch, queries);
            n_compared += end - first;
            first = end;
        }
    }
}

bool Gallery::find_again(const QueryBatch& batch, const Allowed* allowed) const {
    std::vector<std::uint8_t> flags = flags_of(batch);  // the only wait of a search that ends here
    const std::vector<std::uint32_t> scanned = flagged(flags, kGaveUp);
    if (!scanned.empty()) {
        const Buffer<std::uint32_t> numbers = loaded(scanned.data(), scanned.size(), batch.stream);
        const Selection some{numbers.data(), numbers.size()};
        restart(batch, some);
        find_nearest(batch, allowed, some, false);
        flags = flags_of(batch);
    }
    const std::vector<std::uint32_t> overflowed = flagged(flags, kOverflowed);
    for (const std::uint32_t query : overflowed) scan_carefully(batch, allowed, query);
    return !scanned.empty() || !overflowed.empty();
}

/// Scans again for a query whose candidates have overflowed, and takes smaller steps when they overflow again.
void Gallery::scan_carefully(const QueryBatch& batch, const Allowed* allowed, std::uint32_t query) const {
    const Buffer<std::uint32_t> number = loaded(&query, 1, batch.stream);
    const Selection one{number.data(), 1};
    restart(batch, one);
    std::uint32_t n_kept = 0;
    for (std::size_t part = 0; part < parts_.size(); ++part) {
        const std::size_t n = parts_[part].segment->n_rows();
        // A row yields at most k entries, or one without duplicates: a step of this size cannot overflow.
        const std::size_t per_row = parts_[part].segment->has_duplicates() ? batch.k : 1;
        const std::size_t safe = std::max(kQuad, (batch.capacity - batch.k) / per_row / kQuad * kQuad);
        for (std::size_t first = 0, step = (n + kQuad - 1) / kQuad * kQuad; first < n;) {
            copy_to_device(batch.counts + query, &n_kept, sizeof(n_kept), batch.stream);
            const std::size_t end = std::min(n, first + step);
            compare(batch, allowed, part, {first, end}, one, 0);
            if (value_at(batch.counts, query, batch.stream) > batch.capacity) {
                step = std::max(safe, step / 4 / kQuad * kQuad);
                continue;
            }
            tighten(batch, one);
            n_kept = value_at(batch.counts, query, batch.stream);
            first = end;
            step *= 2;
        }
    }
}

void Gallery::search(CodeView queries, std::uint32_t k, const Allowed* allowed, const PrunedSearch* pruned,
                     std::int32_t* distances, std::int64_t* ids_found, Stream stream,
                     const Interrupt& interrupt) const {
    const auto n_bits = static_cast<std::int32_t>(this->n_bits());
    Stopper stopper(interrupt);
    const std::size_t most = std::min<std::size_t>(k, n_entries_);  // largest result of a query
    // Room for k candidates and several times as many new ones, or for all entries.
    const std::size_t capacity = power_of_two(std::max(kLeastCapacity, std::min(8 * most, n_entries_ + most)));
    check_room(capacity);
    const std::size_t group = std::clamp<std::size_t>(kKeyBytes / (capacity * sizeof(std::uint64_t)), 1, kMostTogether);
    for (std::size_t first = 0; first < queries.n; first += group) {
        const CodeView batch_queries{queries.row(first), std::min(group, queries.n - first), queries.n_bytes};
        QueryBatch batch(batch_queries, n_bits, capacity, static_cast<std::uint32_t>(most), stopper, stream);
        Buffer<std::uint16_t> cuts;
        if (pruned != nullptr) {
            cuts = Buffer<std::uint16_t>(batch.n * pruned->levels.n_levels(), stream);
            pruned->levels.choose(batch, pruned->pruning, k, cuts.data());
        }
        if (n_entries_ != 0) find_nearest(batch, allowed, batch.all(), true);
        const auto write = [&] {
            launch(Write{batch.candidates(), batch.n, k, n_bits, ids(), distances + first * k, ids_found + first * k},
                   {blocks_for(batch.n * k, kScanThreads)}, kScanThreads, 0, stream);
        };
        write();  // before the flags are known: they are rarely set
        if (!find_again(batch, allowed)) continue;
        write();
        finish(stream);
    }
}

void Gallery::count_within(CodeView queries, std::int32_t radius, const Allowed* allowed, std::int64_t* counts,
                           Stream stream, const Interrupt& interrupt) const {
    Stopper stopper(interrupt);
    for (std::size_t first = 0; first < queries.n; first += kMostTogether) {
        const CodeView batch_queries{queries.row(first), std::min(kMostTogether, queries.n - first), queries.n_bytes};
        // Capacity 0: candidates are counted but not stored.
        const QueryBatch batch(batch_queries, radius, 0, ~std::uint32_t{0}, stopper, stream);
        compare_all(batch, allowed);
        std::vector<std::uint32_t> found(batch_queries.n);
        copy_to_host(found.data(), batch.counts, batch_queries.n * sizeof(std::uint32_t), stream);
        finish(stream);
        std::copy(found.begin(), found.end(), counts + first);
    }
}

void Gallery::range_search(CodeView queries, std::int32_t radius, const Allowed* allowed, const std::int64_t* offsets,
                           std::int32_t* distances, std::int64_t* ids_found, Stream stream,
                           const Interrupt& interrupt) const {
    Stopper stopper(interrupt);
    const Buffer<std::int64_t> starts = loaded(offsets, queries.n + 1, stream);
    for (std::size_t first = 0, end = 0; first < queries.n; first = end) {
        // As many queries as fit; each gets the capacity of the largest result among them.
        std::size_t capacity = 1;
        while (end < queries.n && end - first < kMostBlocks) {
            const auto n_found = static_cast<std::size_t>(offsets[end + 1] - offsets[end]);
            const std::size_t wider = std::max(capacity, power_of_two(n_found));
            if (end > first && (end + 1 - first) * wider * sizeof(std::uint64_t) > kKeyBytes) break;
            capacity = wider;
            ++end;
        }
        check_room(capacity);
        const CodeView batch_queries{queries.row(first), end - first, queries.n_bytes};
        const QueryBatch batch(batch_queries, radius, capacity, static_cast<std::uint32_t>(capacity), stopper, stream);
        compare_all(batch, allowed);
        tighten(batch, batch.all());
        launch(WriteRange{batch.candidates(), starts.data() + first, ids(), distances, ids_found},
               {blocks_for(capacity, kScanThreads), static_cast<unsigned>(batch_queries.n)}, kScanThreads, 0, stream);
    }
    finish(stream);
}

}  // namespace fasthash::gpu
