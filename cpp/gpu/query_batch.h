// A batch of queries on the device, with thresholds and candidates.
//
// Made by Gallery's searches. The kernels here prepare queries and collect candidates.
#pragma once

#include <vector>

#include "gpu/search_kernels.h"
#include "platform/stopper.h"

namespace fasthash::gpu {

constexpr unsigned kSortThreads = 512;

template <typename T>
Buffer<T> loaded(const T* values, std::size_t n, Stream stream) {
    Buffer<T> buffer(n, stream);
    if (n != 0) buffer.load(values, n);
    return buffer;
}

/// One piece of device memory for several arrays: an allocation takes as long as a kernel.
class Arena {
 public:
    /// Reserve n values; `array` points to them after allocate().
    template <typename T>
    void reserve(T*& array, std::size_t n) {
        arrays_.push_back({&array, n_bytes_, [](void* pointer, std::uint8_t* memory) {
                               *static_cast<T**>(pointer) = reinterpret_cast<T*>(memory);
                           }});
        n_bytes_ += (n * sizeof(T) + kAligned - 1) / kAligned * kAligned;
    }
    void allocate(Stream stream) {
        memory_ = Buffer<std::uint8_t>(n_bytes_, stream);
        for (const Reserved& each : arrays_) each.set(each.array, memory_.data() + each.offset);
    }

 private:
    static constexpr std::size_t kAligned = 256;
    struct Reserved {
        void* array;
        std::size_t offset;
        void (*set)(void* array, std::uint8_t* memory);
    };

    std::vector<Reserved> arrays_;
    std::size_t n_bytes_ = 0;
    Buffer<std::uint8_t> memory_;
};

/// Pads queries to whole words, and prepares their batch: thresholds, no candidates yet.
struct Prepare {
    const std::uint8_t* rows;
    std::size_t n;
    std::size_t n_bytes;
    std::uint64_t threshold;
    std::uint32_t* words;
    std::uint64_t* thresholds;
    std::uint32_t* counts;
    std::uint8_t* overflowed;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t n_words = (n_bytes + 3) / 4;
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n * n_words; i += step) {
            const std::size_t query = i / n_words, w = i % n_words;
            words[i] = word_of_row(rows + query * n_bytes, n_bytes, w);
            if (w != 0) continue;
            thresholds[query] = threshold;
            counts[query] = 0;
            overflowed[query] = 0;
        }
    }
};

/// Queries that are searched together, with their thresholds and candidates.
struct QueryBatch {
    /// `n_keys`: candidates that each query has room for. `n_wanted`: k.
    QueryBatch(CodeView queries, std::int32_t radius, std::size_t n_keys, std::uint32_t n_wanted, Stopper& ended_by,
               Stream on)
        : n(queries.n),
          n_words(static_cast<unsigned>(words_of(queries.n_bytes))),
          stream(on),
          stopper(ended_by),
          k(n_wanted),
          capacity(static_cast<std::uint32_t>(n_keys)) {
        std::uint8_t* rows = nullptr;
        arena_.reserve(rows, n * queries.n_bytes);
        arena_.reserve(words, n * n_words);
        arena_.reserve(thresholds, n);
        arena_.reserve(counts, n);
        arena_.reserve(overflowed, n);
        arena_.reserve(keys, n * n_keys);
        arena_.allocate(on);
        copy_to_device(rows, queries.data, n * queries.n_bytes, on);
        launch(Prepare{rows, n, queries.n_bytes, pair_key(radius + 1, 0), words, thresholds, counts, overflowed},
               {blocks_for(n * n_words, kScanThreads)}, kScanThreads, 0, on);
    }
    QueryBatch(const QueryBatch&) = delete;
    QueryBatch& operator=(const QueryBatch&) = delete;

    QueryView view(std::size_t query, std::size_t n_queries) const {
        QueryView these{words + query * n_words, n_queries, thresholds + query, cuts};
        if (cuts.cuts != nullptr) these.cuts.cuts += query * cuts.n_levels;
        return these;
    }
    Candidates candidates(std::size_t query) const { return {keys + query * capacity, counts + query, capacity}; }

    std::size_t n;
    unsigned n_words;
    Stream stream;
    Stopper& stopper;
    std::uint32_t k;
    LevelCuts cuts{};  // of a pruned search
    std::uint32_t* words = nullptr;
    std::uint64_t* thresholds = nullptr;
    std::uint32_t* counts = nullptr;
    std::uint8_t* overflowed = nullptr;
    std::uint64_t* keys = nullptr;
    std::uint32_t capacity;

 private:
    Arena arena_;
};

inline void tighten(const QueryBatch& batch, std::size_t query, std::size_t n_queries) {
    if (batch.capacity > kBlockKeys) {
        std::vector<std::uint32_t> n_found(n_queries);
        copy_to_host(n_found.data(), batch.counts + query, n_queries * sizeof(std::uint32_t), batch.stream);
        finish(batch.stream);
        for (std::size_t i = 0; i < n_queries; ++i) {
            const std::uint32_t n = std::min(n_found[i], batch.capacity);
            if (n > kBlockKeys) sort_ascending(batch.candidates(query + i).keys, n, batch.stream);
        }
    }
    launch(Tighten{batch.candidates(query), batch.k, batch.thresholds + query, batch.overflowed + query},
           {static_cast<unsigned>(n_queries)}, kSortThreads, kSharedKeys * sizeof(std::uint64_t), batch.stream);
}

}  // namespace fasthash::gpu
