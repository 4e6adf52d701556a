// A batch of queries on the device, with thresholds and candidates.
//
// Made by FlatGallery's searches. The kernels here prepare queries and collect candidates.
#pragma once

#include <algorithm>
#include <vector>

#include "gpu/search_kernels.h"
#include "platform/stopper.h"

namespace fasthash::gpu {

constexpr unsigned kSortThreads = 512;
constexpr std::size_t kMostBlocks = 2048;  // along x: enough to fill any GPU; each block loads the queries' words once

inline unsigned blocks_for(std::size_t n_threads, unsigned per_block) {
    return static_cast<unsigned>(std::clamp<std::size_t>((n_threads + per_block - 1) / per_block, 1, kMostBlocks));
}

template <typename T>
Buffer<T> loaded(const T* values, std::size_t n, Stream stream, Place place = Place::device) {
    Buffer<T> buffer(n, stream, place);
    if (n != 0) buffer.load(values, n);
    return buffer;
}

/// Pads rows of bytes to rows of whole words.
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

/// Fills an array with one value.
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

/// Copies the queries with these numbers from another batch, and their thresholds.
struct TakeQueries {
    const std::uint32_t* numbers;
    std::size_t n;
    unsigned n_words;
    const std::uint32_t* all_words;
    std::uint32_t* words;
    const std::uint64_t* all_thresholds;
    std::uint64_t* thresholds;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n * n_words; i += step) {
            const std::size_t query = i / n_words, w = i % n_words;
            words[i] = all_words[std::size_t{numbers[query]} * n_words + w];
            // The k-th candidate of the other batch may itself be among the k nearest, hence + 1.
            if (w == 0) thresholds[query] = all_thresholds[numbers[query]] + 1;
        }
    }
};

/// Copies the results of these queries back to the other batch.
struct GiveBack {
    const std::uint32_t* numbers;
    std::size_t n;
    Candidates found;
    std::uint32_t k;
    Candidates all;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n * k; i += step) {
            const std::size_t query = i / k, rank = i % k, to = numbers[query];
            if (rank < found.counts[query])
                all.keys[to * all.capacity + rank] = found.keys[query * found.capacity + rank];
            if (rank == 0) all.counts[to] = found.counts[query];
        }
    }
};

/// Queries that are searched together, with their thresholds and candidates.
struct QueryBatch {
    QueryBatch(CodeView queries, std::int32_t radius, std::size_t n_keys, std::uint32_t n_wanted, RunsView runs_of_rows,
               EntryMask entry_mask, Stopper& ended_by, Stream on)
        : QueryBatch(queries.n, static_cast<unsigned>(words_of(queries.n_bytes)), n_keys, n_wanted, runs_of_rows,
                     entry_mask, ended_by, on) {
        Buffer<std::uint8_t> rows(n * queries.n_bytes, on);
        rows.load(queries.data, n * queries.n_bytes);
        launch(Widen{rows.data(), n, queries.n_bytes, words.data()}, {blocks_for(n * n_words, kScanThreads)},
               kScanThreads, 0, on);
        launch(Fill{thresholds.data(), n, pair_key(radius + 1, 0)}, {blocks_for(n, kScanThreads)}, kScanThreads, 0, on);
    }

    /// The queries with these numbers from another batch, without their candidates.
    QueryBatch(const QueryBatch& all, const Buffer<std::uint32_t>& numbers)
        : QueryBatch(numbers.size(), all.n_words, all.capacity, all.k, all.runs, all.mask, all.stopper, all.stream) {
        launch(TakeQueries{numbers.data(), n, n_words, all.words.data(), words.data(), all.thresholds.data(),
                           thresholds.data()},
               {blocks_for(n * n_words, kScanThreads)}, kScanThreads, 0, stream);
    }
    /// Replace the candidates of these queries in the other batch by the sorted ones of this batch.
    void give_back(QueryBatch& all, const Buffer<std::uint32_t>& numbers) const {
        launch(GiveBack{numbers.data(), n, candidates(0), k, all.candidates(0)}, {blocks_for(n * k, kScanThreads)},
               kScanThreads, 0, stream);
    }

    QueryView view(std::size_t query, std::size_t n_queries) const {
        return {words.data() + query * n_words, n_queries, thresholds.data() + query};
    }
    Candidates candidates(std::size_t query) const {
        return {keys.data() + query * capacity, counts.data() + query, capacity};
    }

    std::size_t n;
    unsigned n_words;
    Stream stream;
    Stopper& stopper;
    std::uint32_t k;
    RunsView runs;
    EntryMask mask;
    Buffer<std::uint32_t> words;
    Buffer<std::uint64_t> thresholds;
    Buffer<std::uint32_t> counts;
    Buffer<std::uint8_t> overflowed;
    Buffer<std::uint64_t> keys;
    std::uint32_t capacity;

 private:
    QueryBatch(std::size_t n_queries, unsigned words_of_query, std::size_t n_keys, std::uint32_t n_wanted,
               RunsView runs_of_rows, EntryMask entry_mask, Stopper& ended_by, Stream on)
        : n(n_queries),
          n_words(words_of_query),
          stream(on),
          stopper(ended_by),
          k(n_wanted),
          runs(runs_of_rows),
          mask(entry_mask),
          words(n * n_words, on),
          thresholds(n, on),
          counts(n, on),
          overflowed(n, on),
          keys(n * n_keys, on),
          capacity(static_cast<std::uint32_t>(n_keys)) {
        counts.clear();
        overflowed.clear();
    }
};

inline void tighten(const QueryBatch& batch, std::size_t query, std::size_t n_queries) {
    if (batch.capacity > kBlockKeys) {
        std::vector<std::uint32_t> n_found(n_queries);
        copy_to_host(n_found.data(), batch.counts.data() + query, n_queries * sizeof(std::uint32_t), batch.stream);
        finish(batch.stream);
        for (std::size_t i = 0; i < n_queries; ++i) {
            const std::uint32_t n = std::min(n_found[i], batch.capacity);
            if (n > kBlockKeys) sort_ascending(batch.candidates(query + i).keys, n, batch.stream);
        }
    }
    launch(Tighten{batch.candidates(query), batch.k, batch.thresholds.data() + query, batch.overflowed.data() + query},
           {static_cast<unsigned>(n_queries)}, kSortThreads, kSharedKeys * sizeof(std::uint64_t), batch.stream);
}

}  // namespace fasthash::gpu
