// Queries on the device that are searched together, and what has been found for them.
#pragma once

#include <algorithm>

#include "gpu/flat_kernels.h"

namespace fasthash::gpu {

constexpr unsigned kSortThreads = 512;
constexpr std::size_t kMostBlocks = 2048;  // along x: enough to fill any GPU, few enough to share the queries' words

inline unsigned blocks_for(std::size_t n_threads, unsigned per_block) {
    return static_cast<unsigned>(std::clamp<std::size_t>((n_threads + per_block - 1) / per_block, 1, kMostBlocks));
}

template <typename T>
Buffer<T> loaded(const T* values, std::size_t n, Stream stream) {
    Buffer<T> buffer(n, stream);
    if (n != 0) buffer.load(values, n);
    return buffer;
}

/// Rows of bytes to rows of whole words.
struct Widen {
    const std::uint8_t* rows;
    std::size_t n;
    std::size_t n_bytes;
    std::uint32_t* words;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t n_words = (n_bytes + 3) / 4;
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n * n_words; i += step) {
            words[i] = word_of_row(rows + i / n_words * n_bytes, n_bytes, i % n_words);
        }
    }
};

/// The same value for all.
struct Fill {
    std::uint64_t* values;
    std::size_t n;
    std::uint64_t value;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n; i += step) {
            values[i] = value;
        }
    }
};

/// Queries that are searched together, and what has been found for them.
struct QueryBatch {
    QueryBatch(CodeView queries, std::int32_t radius, std::size_t n_keys, std::uint32_t n_wanted, ItemRuns item_runs,
               ItemMask item_mask, Stream on)
        : n(queries.n),
          n_words(static_cast<unsigned>(words_of(queries.n_bytes))),
          stream(on),
          k(n_wanted),
          runs(item_runs),
          mask(item_mask),
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
        launch(Fill{bounds.data(), n, pair_key(radius + 1, 0)}, {blocks_for(n, kScanThreads)}, kScanThreads, 0, on);
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
    std::uint32_t k;
    ItemRuns runs;
    ItemMask mask;
    Buffer<std::uint32_t> words;
    Buffer<std::uint64_t> bounds;
    Buffer<std::uint32_t> counts;
    Buffer<std::uint8_t> overflowed;
    Buffer<std::uint64_t> keys;
    std::uint32_t capacity;
};

inline void tighten(const QueryBatch& batch, std::size_t query, std::size_t n_queries) {
    launch(Tighten{batch.candidates(query), batch.k, batch.bounds.data() + query, batch.overflowed.data() + query},
           {static_cast<unsigned>(n_queries)}, kSortThreads, kSharedKeys * sizeof(std::uint64_t), batch.stream);
}

}  // namespace fasthash::gpu
