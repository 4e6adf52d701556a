#include "gpu/cluster_search.h"
#include "gpu/first_rows.h"
#include "gpu/gallery.h"
#include "gpu/query_batch.h"
#include "gpu/tuning.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kKeyBytes = std::size_t{256} << 20;  // candidates of all queries of a group
constexpr std::size_t kLeastCapacity = 4096;
constexpr std::size_t kMostTogether = 65535;  // queries of a group: blocks along y

std::size_t power_of_two(std::size_t n) {
    std::size_t power = 1;
    while (power < n) power *= 2;
    return power;
}

template <typename Distance>
void check_metric(Metric metric) {
    if (metric != metric_of<Distance>) throw std::logic_error("distances must be those of the gallery's metric");
}

/// The largest distance of two codes, and the one that places without a neighbour get.
template <typename Distance>
Distance largest_distance(std::size_t n_bits) {
    return static_cast<Distance>(std::is_same_v<Distance, float> ? 1 : n_bits);
}
template <typename Distance>
Distance no_distance(std::size_t n_bits) {
    if constexpr (std::is_same_v<Distance, float>) return std::numeric_limits<float>::infinity();
    return static_cast<Distance>(n_bits + 1);
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

/// The rows compared so far give a threshold. Of `growth` times as many further rows about growth * k lie within it,
/// rarely more than 2 * growth * k plus a few, so that the candidates fit the capacity.
std::size_t growth_of(const QueryBatch& batch) {
    return std::max<std::size_t>(1, batch.capacity / (2 * std::size_t{batch.k} + 24));
}

template <typename T>
T value_at(const T* values, std::size_t i, Stream stream) {
    T value;
    copy_to_host(&value, values + i, sizeof(T), stream);
    finish(stream);
    return value;
}

}  // namespace

SegmentView Gallery::view(std::size_t part, const Allowed* allowed) const {
    SegmentView view = parts_[part].segment->view(smallest_id_);
    if (ranks_ != nullptr) {
        const Buffer<std::uint32_t>& ranks = ranks_->of_entries[part];
        view.numbers = {reinterpret_cast<const std::uint8_t*>(ranks.data()), sizeof(std::uint32_t), 0};
    }
    view.mask.bits = allowed == nullptr ? parts_[part].live.data() : (*allowed)[part].data();
    return view;
}

IdsView Gallery::ids() const { return {ranks_ == nullptr ? nullptr : ranks_->ids.data(), smallest_id_}; }

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

/// Codes are ordered by their number of bits set, so the first ones are no sample of the rest. Samples of more and more
/// rows lower the threshold before all rows are compared.
void Gallery::find_by_samples(const QueryBatch& batch, const Allowed* allowed, const Selection& queries) const {
    std::size_t n_quads = 0;
    for (const Part& part : parts_) n_quads += (part.segment->n_rows() + kQuad - 1) / kQuad;
    const std::size_t growth = std::max<std::size_t>(2, growth_of(batch));
    std::size_t every = 1;
    while (n_quads * kQuad > every * batch.capacity) every *= growth;  // all rows of the first sample have room
    for (; every > 1; every /= growth) {
        for (std::size_t part = 0; part < parts_.size(); ++part) {
            scan_sample(batch, view(part, allowed), parts_[part].segment->n_rows(), queries, every);
        }
        tighten(batch, queries);
        restart(batch, queries);
    }
    for (std::size_t part = 0; part < parts_.size(); ++part) {
        compare(batch, allowed, part, {0, parts_[part].segment->n_rows()}, queries, n_rows_);
    }
    tighten(batch, queries);
}

void Gallery::find_nearest(const QueryBatch& batch, const Allowed* allowed, const Selection& queries,
                           bool clusters) const {
    if (metric_ == Metric::jaccard) return find_by_samples(batch, allowed, queries);
    const std::size_t growth = growth_of(batch);
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

template <typename Distance>
void Gallery::search(CodeView queries, std::uint32_t k, const Allowed* allowed, const PrunedSearch* pruned,
                     Distance* distances, std::int64_t* ids_found, Stream stream, const Interrupt& interrupt) const {
    check_metric<Distance>(metric_);
    const auto radius = largest_distance<Distance>(n_bits_), none = no_distance<Distance>(n_bits_);
    Stopper stopper(interrupt);
    const WaitOnError guard([&] { finish(stream); });
    const std::size_t most = std::min<std::size_t>(k, n_entries_);  // largest result of a query
    // Room for k candidates and several times as many new ones, or for all entries.
    const std::size_t capacity = power_of_two(std::max(kLeastCapacity, std::min(8 * most, n_entries_ + most)));
    check_room(capacity);
    const std::size_t group = std::clamp<std::size_t>(kKeyBytes / (capacity * sizeof(std::uint64_t)), 1, kMostTogether);
    for (std::size_t first = 0; first < queries.n; first += group) {
        const CodeView batch_queries{queries.row(first), std::min(group, queries.n - first), queries.n_bytes};
        QueryBatch batch(batch_queries, radius, capacity, static_cast<std::uint32_t>(most), stopper, stream);
        Buffer<std::uint16_t> cuts;
        if (pruned != nullptr) {
            cuts = Buffer<std::uint16_t>(batch.n * pruned->levels.n_levels(), stream);
            pruned->levels.choose(batch, pruned->pruning, k, cuts.data());
        }
        if (n_entries_ != 0) find_nearest(batch, allowed, batch.all(), true);
        const auto write = [&] {
            const Write<Distance> kernel{batch.candidates(),   batch.n, k, none, ids(), distances + first * k,
                                         ids_found + first * k};
            launch(kernel, {blocks_for(batch.n * k, kScanThreads)}, kScanThreads, 0, stream);
        };
        write();  // before the flags are known: they are rarely set
        if (!find_again(batch, allowed)) continue;
        write();
        finish(stream);
    }
}

template <typename Distance>
void Gallery::count_within(CodeView queries, Distance radius, const Allowed* allowed, std::int64_t* counts,
                           Stream stream, const Interrupt& interrupt) const {
    check_metric<Distance>(metric_);
    Stopper stopper(interrupt);
    const WaitOnError guard([&] { finish(stream); });
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

template <typename Distance>
void Gallery::range_search(CodeView queries, Distance radius, const Allowed* allowed, const std::int64_t* offsets,
                           Distance* distances, std::int64_t* ids_found, Stream stream,
                           const Interrupt& interrupt) const {
    check_metric<Distance>(metric_);
    Stopper stopper(interrupt);
    const WaitOnError guard([&] { finish(stream); });
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
        launch(WriteRange<Distance>{batch.candidates(), starts.data() + first, ids(), distances, ids_found},
               {blocks_for(capacity, kScanThreads), static_cast<unsigned>(batch_queries.n)}, kScanThreads, 0, stream);
    }
    finish(stream);
}

#define FASTHASH_SEARCHES(Distance)                                                                                  \
    template void Gallery::search(CodeView, std::uint32_t, const Allowed*, const PrunedSearch*, Distance*,           \
                                  std::int64_t*, Stream, const Interrupt&) const;                                    \
    template void Gallery::count_within(CodeView, Distance, const Allowed*, std::int64_t*, Stream, const Interrupt&) \
        const;                                                                                                       \
    template void Gallery::range_search(CodeView, Distance, const Allowed*, const std::int64_t*, Distance*,          \
                                        std::int64_t*, Stream, const Interrupt&) const;
FASTHASH_SEARCHES(std::int32_t)
FASTHASH_SEARCHES(float)
#undef FASTHASH_SEARCHES

}  // namespace fasthash::gpu
