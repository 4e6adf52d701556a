#include <algorithm>

#include "gpu/flat_gallery.h"
#include "gpu/flat_kernels.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kKeyBytes = std::size_t{256} << 20;  // of the candidates of all queries of a group
constexpr std::size_t kLeastCapacity = 4096;
constexpr unsigned kSortThreads = 512;
constexpr std::size_t kMostBlocks = 2048;  // along x: enough to fill any GPU, few enough to share the queries' words

std::size_t power_of_two(std::size_t n) {
    std::size_t power = 1;
    while (power < n) power *= 2;
    return power;
}

PlaneView view_of(const Planes& codes) { return {codes.words(), codes.stride()}; }

template <typename T>
Buffer<T> loaded(const T* values, std::size_t n, Stream stream) {
    Buffer<T> buffer(n, stream);
    if (n != 0) buffer.load(values, n);
    return buffer;
}

unsigned blocks_for(std::size_t n_threads, unsigned per_block) {
    return static_cast<unsigned>(std::clamp<std::size_t>((n_threads + per_block - 1) / per_block, 1, kMostBlocks));
}

/// Rows of bytes to rows of whole words.
struct Widen {
    const std::uint8_t* rows;
    std::size_t n;
    std::size_t n_bytes;
    std::uint32_t* words;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t n_words = (n_bytes + 3) / 4;
        const std::size_t step = std::size_t{block.n_x()} * block.n_threads();
        for (std::size_t i = std::size_t{block.x()} * block.n_threads() + block.thread(); i < n * n_words; i += step) {
            words[i] = word_of_row(rows + i / n_words * n_bytes, n_bytes, i % n_words);
        }
    }
};

/// The same value for all.
struct Fill {
    std::int32_t* values;
    std::size_t n;
    std::int32_t value;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = std::size_t{block.n_x()} * block.n_threads();
        for (std::size_t i = std::size_t{block.x()} * block.n_threads() + block.thread(); i < n; i += step) {
            values[i] = value;
        }
    }
};

}  // namespace

/// Queries that are searched together, and what has been found for them.
struct QueryBatch {
    QueryBatch(CodeView queries, std::int32_t radius, std::size_t n_keys, RowMask row_mask, Stream on)
        : n(queries.n),
          n_words(static_cast<unsigned>(words_of(queries.n_bytes))),
          stream(on),
          mask(row_mask),
          words(queries.n * n_words, on),
          bounds(queries.n, on),
          counts(queries.n, on),
          overflowed(queries.n, on),
          keys(queries.n * n_keys, on),
          capacity(static_cast<std::uint32_t>(n_keys)) {
        Buffer<std::uint8_t> rows(n * queries.n_bytes, on);
        rows.load(queries.data, n * queries.n_bytes);
        launch(Widen{rows.data(), n, queries.n_bytes, words.data()}, {blocks_for(n * n_words, kScanThreads)},
               kScanThreads, 0, on);
        launch(Fill{bounds.data(), n, radius}, {blocks_for(n, kScanThreads)}, kScanThreads, 0, on);
        counts.clear();
        overflowed.clear();
    }

    QueryView view(std::size_t query, std::size_t n_queries) const {
        return {words.data() + query * n_words, n_queries, bounds.data() + query};
    }
    Candidates candidates(std::size_t query) const {
        return {keys.data() + query * capacity, counts.data() + query, capacity};
    }

    std::size_t n;
    unsigned n_words;
    Stream stream;
    RowMask mask;
    Buffer<std::uint32_t> words;
    Buffer<std::int32_t> bounds;
    Buffer<std::uint32_t> counts;
    Buffer<std::uint8_t> overflowed;
    Buffer<std::uint64_t> keys;
    std::uint32_t capacity;
};

namespace {

template <unsigned kWords>
void launch_scan(PlaneView codes, const QueryBatch& batch, std::size_t first, std::size_t end, std::size_t query,
                 std::size_t n_queries) {
    const Scan<kWords> kernel{codes,      batch.n_words,          first, end, batch.view(query, n_queries),
                              batch.mask, batch.candidates(query)};
    const auto n_tiles = static_cast<unsigned>((n_queries + kTile - 1) / kTile);
    launch(kernel, {blocks_for((end - first + kQuad - 1) / kQuad, kScanThreads), n_tiles}, kScanThreads,
           Scan<kWords>::shared_bytes(batch.n_words), batch.stream);
}

/// The one place that decides which kernel compares.
void scan(PlaneView codes, const QueryBatch& batch, std::size_t first, std::size_t end, std::size_t query,
          std::size_t n_queries) {
    switch (batch.n_words) {
        case 1:
            return launch_scan<1>(codes, batch, first, end, query, n_queries);
        case 2:
            return launch_scan<2>(codes, batch, first, end, query, n_queries);
        case 4:
            return launch_scan<4>(codes, batch, first, end, query, n_queries);
        case 8:
            return launch_scan<8>(codes, batch, first, end, query, n_queries);
        default:
            return launch_scan<0>(codes, batch, first, end, query, n_queries);
    }
}

void tighten(const QueryBatch& batch, std::size_t query, std::size_t n_queries, std::uint32_t k) {
    launch(Tighten{batch.candidates(query), k, batch.bounds.data() + query, batch.overflowed.data() + query},
           {static_cast<unsigned>(n_queries)}, kSortThreads, 0, batch.stream);
}

template <typename T>
T value_at(const Buffer<T>& buffer, std::size_t i, Stream stream) {
    T value;
    copy_to_host(&value, buffer.data() + i, sizeof(T), stream);
    finish(stream);
    return value;
}

}  // namespace

FlatGallery::FlatGallery(CodeView codes, const std::int64_t* ids, std::int64_t first_id, Stream stream)
    : codes_(codes, stream),
      host_ids_(ids, ids == nullptr ? nullptr : ids + codes.n),
      ids_(loaded(ids, host_ids_.size(), stream)),
      first_id_(first_id) {
    finish(stream);
}

Buffer<std::uint32_t> FlatGallery::mask(const IdFilter* filter, Stream stream) const {
    if (filter == nullptr) return {};
    std::vector<std::uint32_t> bits((n() + 31) / 32);
    for (const std::int64_t id : filter->ids()) {
        std::size_t row = n();
        if (host_ids_.empty()) {
            if (id >= first_id_) row = static_cast<std::size_t>(id - first_id_);
        } else {
            const auto place = std::lower_bound(host_ids_.begin(), host_ids_.end(), id);
            if (place != host_ids_.end() && *place == id) row = static_cast<std::size_t>(place - host_ids_.begin());
        }
        if (row < n()) bits[row / 32] |= std::uint32_t{1} << row % 32;
    }
    Buffer<std::uint32_t> mask = loaded(bits.data(), bits.size(), stream);
    finish(stream);  // the bits go away
    return mask;
}

void FlatGallery::search_group(QueryBatch& batch, std::uint32_t k) const {
    // After r rows the k-th distance is known among them; of `growth` times as many further rows about growth * k are
    // nearer, for which there is room twice over.
    const std::size_t growth = std::max<std::size_t>(1, batch.capacity / (2 * std::size_t{k}));
    std::size_t first = 0, end = std::min<std::size_t>(n(), batch.capacity);
    while (first < n()) {
        gpu::scan(view_of(codes_), batch, first, end, 0, batch.n);
        tighten(batch, 0, batch.n, k);
        first = end;
        end = std::min(n(), end + end * growth);
    }
    std::vector<std::uint8_t> overflowed(batch.n);
    copy_to_host(overflowed.data(), batch.overflowed.data(), batch.n, batch.stream);
    finish(batch.stream);
    for (std::size_t query = 0; query < batch.n; ++query) {
        if (overflowed[query] != 0) search_again(batch, query, k);
    }
}

/// The careful way for a query that so many codes are near to that there was no room: in steps that are made smaller
/// where there is none again.
void FlatGallery::search_again(QueryBatch& batch, std::size_t query, std::uint32_t k) const {
    // Its k-th distance is no larger than the one that was found last.
    const std::int32_t bound = value_at(batch.bounds, query, batch.stream) + 1;
    copy_to_device(batch.bounds.data() + query, &bound, sizeof(bound), batch.stream);
    std::uint32_t n_kept = 0;
    const std::size_t safe = (batch.capacity - k) / kQuad * kQuad;  // rows for which there is always room
    for (std::size_t first = 0, step = safe; first < n();) {
        copy_to_device(batch.counts.data() + query, &n_kept, sizeof(n_kept), batch.stream);
        const std::size_t end = std::min(n(), first + step);
        gpu::scan(view_of(codes_), batch, first, end, query, 1);
        if (value_at(batch.counts, query, batch.stream) > batch.capacity) {
            step = std::max(safe, step / 4 / kQuad * kQuad);
            continue;
        }
        tighten(batch, query, 1, k);
        n_kept = value_at(batch.counts, query, batch.stream);
        first = end;
        step *= 2;
    }
}

void FlatGallery::search(CodeView queries, std::uint32_t k, const IdFilter* filter, std::int32_t* distances,
                         std::int64_t* ids, Stream stream) const {
    const auto n_bits = static_cast<std::int32_t>(n_bytes() * 8);
    const Buffer<std::uint32_t> bits = mask(filter, stream);
    const std::size_t most = std::min<std::size_t>(k, n());  // that a query can find
    // Room for k and for at least as many further rows as are read at once.
    const std::size_t capacity = power_of_two(std::max(kLeastCapacity, std::min(8 * most, n() + most) + kQuad));
    const std::size_t group = std::max<std::size_t>(1, kKeyBytes / (capacity * sizeof(std::uint64_t)));
    for (std::size_t first = 0; first < queries.n; first += group) {
        const CodeView part{queries.row(first), std::min(group, queries.n - first), queries.n_bytes};
        QueryBatch batch(part, n_bits, capacity, {filter == nullptr ? nullptr : bits.data()}, stream);
        if (n() != 0) search_group(batch, static_cast<std::uint32_t>(most));
        launch(Write{batch.candidates(0), part.n, k, n_bits, ids_.size() == 0 ? nullptr : ids_.data(), first_id_,
                     distances + first * k, ids + first * k},
               {blocks_for(part.n * k, kScanThreads)}, kScanThreads, 0, stream);
    }
    finish(stream);
}

void FlatGallery::count_within(CodeView queries, std::int32_t radius, const IdFilter* filter, std::int64_t* counts,
                               Stream stream) const {
    const Buffer<std::uint32_t> bits = mask(filter, stream);
    constexpr std::size_t kGroup = 32768;  // blocks along y
    for (std::size_t first = 0; first < queries.n; first += kGroup) {
        const CodeView part{queries.row(first), std::min(kGroup, queries.n - first), queries.n_bytes};
        QueryBatch batch(part, radius, 0, {filter == nullptr ? nullptr : bits.data()}, stream);
        launch(CountWithin{view_of(codes_), batch.n_words, n(), batch.view(0, part.n), batch.mask, batch.counts.data()},
               {blocks_for((n() + kQuad - 1) / kQuad, kScanThreads), static_cast<unsigned>(part.n)}, kScanThreads,
               sizeof(std::uint32_t), stream);
        std::vector<std::uint32_t> found(part.n);
        copy_to_host(found.data(), batch.counts.data(), part.n * sizeof(std::uint32_t), stream);
        finish(stream);
        std::copy(found.begin(), found.end(), counts + first);
    }
}

void FlatGallery::range_search(CodeView queries, std::int32_t radius, const IdFilter* filter,
                               const std::int64_t* offsets, std::int32_t* distances, std::int64_t* ids,
                               Stream stream) const {
    const Buffer<std::uint32_t> bits = mask(filter, stream);
    const Buffer<std::int64_t> starts = loaded(offsets, queries.n, stream);
    for (std::size_t first = 0, end = 0; first < queries.n; first = end) {
        // As many queries as there is room for, each with that of the one that finds most.
        std::size_t capacity = 1;
        while (end < queries.n && end - first < kMostBlocks) {
            const auto n_found = static_cast<std::size_t>(offsets[end + 1] - offsets[end]);
            const std::size_t wider = std::max(capacity, power_of_two(n_found));
            if (end > first && (end + 1 - first) * wider * sizeof(std::uint64_t) > kKeyBytes) break;
            capacity = wider;
            ++end;
        }
        const CodeView part{queries.row(first), end - first, queries.n_bytes};
        QueryBatch batch(part, radius, capacity, {filter == nullptr ? nullptr : bits.data()}, stream);
        gpu::scan(view_of(codes_), batch, 0, n(), 0, part.n);
        tighten(batch, 0, part.n, batch.capacity);
        launch(WriteRange{batch.candidates(0), starts.data() + first, ids_.size() == 0 ? nullptr : ids_.data(),
                          first_id_, distances, ids},
               {blocks_for(capacity, kScanThreads), static_cast<unsigned>(part.n)}, kScanThreads, 0, stream);
    }
    finish(stream);
}

}  // namespace fasthash::gpu
