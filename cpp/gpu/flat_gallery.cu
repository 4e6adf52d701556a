#include "gpu/flat_gallery.h"
#include "gpu/query_batch.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kKeyBytes = std::size_t{256} << 20;     // candidates of all queries of a group
constexpr std::size_t kStreamBytes = std::size_t{256} << 20;  // block of streamed codes
constexpr std::size_t kLeastCapacity = 4096;

std::size_t power_of_two(std::size_t n) {
    std::size_t power = 1;
    while (power < n) power *= 2;
    return power;
}

void check_room(std::size_t n_keys) {
    if (n_keys > kMostKeys) throw OutOfMemory("a query finds too many codes for the GPU to sort");
}

/// Bytes of a gallery, on the device or the host.
std::size_t bytes_of(CodeView rows, const HostRuns& runs, std::size_t n_ids) {
    return Planes::bytes_for(rows.n, rows.n_bytes) +
           (runs.begins.size() + runs.entries.size()) * sizeof(std::uint32_t) + n_ids * sizeof(std::int64_t);
}

EntryMask mask_of(const Allowed* allowed) { return {allowed == nullptr ? nullptr : allowed->data()}; }

template <typename T>
T value_at(const Buffer<T>& buffer, std::size_t i, Stream stream) {
    T value;
    copy_to_host(&value, buffer.data() + i, sizeof(T), stream);
    finish(stream);
    return value;
}

}  // namespace

FlatGallery::FlatGallery(CodeView codes, const std::int64_t* ids, std::int64_t first_id, Stream stream,
                         std::size_t room)
    : FlatGallery(codes, {}, ids, codes.n, first_id, stream, room) {}

FlatGallery::FlatGallery(CodeView rows, const HostRuns& runs, const std::int64_t* ids, std::size_t n,
                         std::int64_t first_id, Stream stream, std::size_t room)
    : codes_(rows, stream, bytes_of(rows, runs, ids == nullptr ? 0 : n) > room ? Place::host : Place::device),
      settings_{wanted_unit(), std::min(room / 2, kStreamBytes)},
      begins_(loaded(runs.begins.data(), runs.begins.size(), stream, codes_.place())),
      entries_(loaded(runs.entries.data(), runs.entries.size(), stream, codes_.place())),
      n_(n),
      host_ids_(ids, ids == nullptr ? nullptr : ids + n),
      ids_(loaded(ids, host_ids_.size(), stream, codes_.place())),
      first_id_(first_id) {
    finish(stream);
}

Allowed FlatGallery::allowed(const IdFilter& filter, Stream stream) const {
    std::vector<std::uint32_t> bits((n() + 31) / 32);
    for (const std::int64_t id : filter.ids()) {
        std::size_t entry = n();
        if (host_ids_.empty()) {
            if (id >= first_id_) entry = static_cast<std::uint64_t>(id) - static_cast<std::uint64_t>(first_id_);
        } else {
            const auto place = std::lower_bound(host_ids_.begin(), host_ids_.end(), id);
            if (place != host_ids_.end() && *place == id) entry = static_cast<std::size_t>(place - host_ids_.begin());
        }
        if (entry < n()) bits[entry / 32] |= std::uint32_t{1} << entry % 32;
    }
    Allowed mask = loaded(bits.data(), bits.size(), stream);
    finish(stream);  // before the bits are freed
    return mask;
}

void FlatGallery::scan_all(QueryBatch& batch) const {
    // The rows scanned so far give a threshold. Of `growth` times as many further rows about growth * k lie within it,
    // rarely more than 2 * growth * k plus a few, so that the candidates fit the capacity.
    const std::size_t growth = std::max<std::size_t>(1, batch.capacity / (2 * std::size_t{batch.k} + 24));
    const std::size_t n_fit = batch.capacity / ((n() + n_rows() - 1) / n_rows());  // rows whose entries all have room
    std::size_t first = 0, end = std::min(n_rows(), std::max(kQuad, n_fit / kQuad * kQuad));
    while (first < n_rows()) {
        scan(codes_, settings_, batch, first, end, 0, batch.n);
        tighten(batch, 0, batch.n);
        first = end;
        end = std::min(n_rows(), end + end * growth);
    }
    std::vector<std::uint8_t> overflowed(batch.n);
    copy_to_host(overflowed.data(), batch.overflowed.data(), batch.n, batch.stream);
    finish(batch.stream);
    for (std::size_t query = 0; query < batch.n; ++query) {
        if (overflowed[query] != 0) scan_carefully(batch, query);
    }
}

/// Scans again for a query whose candidates have overflowed: starts from the threshold known so far, and takes smaller
/// steps when they overflow again.
void FlatGallery::scan_carefully(QueryBatch& batch, std::size_t query) const {
    // The k-th candidate found so far is a valid threshold. It may itself be among the k nearest, hence + 1.
    const std::uint64_t threshold = value_at(batch.thresholds, query, batch.stream) + 1;
    copy_to_device(batch.thresholds.data() + query, &threshold, sizeof(threshold), batch.stream);
    std::uint32_t n_kept = 0;
    // A row yields at most k entries, or one without runs: a step of this size cannot overflow.
    const std::size_t per_row = begins_.size() == 0 ? 1 : batch.k;
    const std::size_t safe = std::max(kQuad, (batch.capacity - batch.k) / per_row / kQuad * kQuad);
    for (std::size_t first = 0, step = (n_rows() + kQuad - 1) / kQuad * kQuad; first < n_rows();) {
        copy_to_device(batch.counts.data() + query, &n_kept, sizeof(n_kept), batch.stream);
        const std::size_t end = std::min(n_rows(), first + step);
        scan(codes_, settings_, batch, first, end, query, 1);
        if (value_at(batch.counts, query, batch.stream) > batch.capacity) {
            step = std::max(safe, step / 4 / kQuad * kQuad);
            continue;
        }
        tighten(batch, query, 1);
        n_kept = value_at(batch.counts, query, batch.stream);
        first = end;
        step *= 2;
    }
}

void FlatGallery::find(QueryBatch& batch) const { scan_all(batch); }

void FlatGallery::search(CodeView queries, std::uint32_t k, const Allowed* allowed, std::int32_t* distances,
                         std::int64_t* ids, Stream stream, const Interrupt& interrupt) const {
    search_by([&](QueryBatch& batch, std::size_t) { find(batch); }, queries, k, allowed, distances, ids, stream,
              interrupt);
}

void FlatGallery::search_by(const Find& find_nearest, CodeView queries, std::uint32_t k, const Allowed* allowed,
                            std::int32_t* distances, std::int64_t* ids, Stream stream,
                            const Interrupt& interrupt) const {
    const auto n_bits = static_cast<std::int32_t>(n_bytes() * 8);
    Stopper stopper(interrupt);
    const std::size_t most = std::min<std::size_t>(k, n());  // largest result of a query
    // Room for k candidates and several times as many new ones, or for all entries.
    const std::size_t capacity = power_of_two(std::max(kLeastCapacity, std::min(8 * most, n() + most)));
    check_room(capacity);
    const std::size_t group = std::max<std::size_t>(1, kKeyBytes / (capacity * sizeof(std::uint64_t)));
    for (std::size_t first = 0; first < queries.n; first += group) {
        const CodeView batch_queries{queries.row(first), std::min(group, queries.n - first), queries.n_bytes};
        QueryBatch batch(batch_queries, n_bits, capacity, static_cast<std::uint32_t>(most), runs(), mask_of(allowed),
                         stopper, stream);
        if (n() != 0) find_nearest(batch, first);
        launch(Write{batch.candidates(0), batch_queries.n, k, n_bits, ids_.size() == 0 ? nullptr : ids_.data(),
                     first_id_, distances + first * k, ids + first * k},
               {blocks_for(batch_queries.n * k, kScanThreads)}, kScanThreads, 0, stream);
    }
    finish(stream);
}

void FlatGallery::count_within(CodeView queries, std::int32_t radius, const Allowed* allowed, std::int64_t* counts,
                               Stream stream, const Interrupt& interrupt) const {
    Stopper stopper(interrupt);
    constexpr std::size_t kGroup = 65536;
    for (std::size_t first = 0; first < queries.n; first += kGroup) {
        const CodeView batch_queries{queries.row(first), std::min(kGroup, queries.n - first), queries.n_bytes};
        // Capacity 0: candidates are counted but not stored.
        QueryBatch batch(batch_queries, radius, 0, ~std::uint32_t{0}, runs(), mask_of(allowed), stopper, stream);
        scan(codes_, settings_, batch, 0, n_rows(), 0, batch_queries.n);
        std::vector<std::uint32_t> found(batch_queries.n);
        copy_to_host(found.data(), batch.counts.data(), batch_queries.n * sizeof(std::uint32_t), stream);
        finish(stream);
        std::copy(found.begin(), found.end(), counts + first);
    }
}

void FlatGallery::range_search(CodeView queries, std::int32_t radius, const Allowed* allowed,
                               const std::int64_t* offsets, std::int32_t* distances, std::int64_t* ids, Stream stream,
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
        QueryBatch batch(batch_queries, radius, capacity, static_cast<std::uint32_t>(capacity), runs(),
                         mask_of(allowed), stopper, stream);
        scan(codes_, settings_, batch, 0, n_rows(), 0, batch_queries.n);
        tighten(batch, 0, batch_queries.n);
        launch(WriteRange{batch.candidates(0), starts.data() + first, ids_.size() == 0 ? nullptr : ids_.data(),
                          first_id_, distances, ids},
               {blocks_for(capacity, kScanThreads), static_cast<unsigned>(batch_queries.n)}, kScanThreads, 0, stream);
    }
    finish(stream);
}

PlaneView FlatGallery::codes() const { return {codes_.words(), codes_.stride()}; }

RunsView FlatGallery::runs() const {
    return begins_.size() == 0 ? RunsView{nullptr, nullptr} : RunsView{begins_.data(), entries_.data()};
}

}  // namespace fasthash::gpu
