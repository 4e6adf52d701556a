// A batch of queries on the device, with thresholds and candidates.
//
// Made by Gallery's searches. The kernels here prepare queries and collect candidates.
#pragma once

#include <vector>

#include "fasthash/search.h"
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
    std::uint8_t* flags;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t n_words = (n_bytes + 3) / 4;
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n * n_words; i += step) {
            const std::size_t query = i / n_words, w = i % n_words;
            words[i] = word_of_row(rows + query * n_bytes, n_bytes, w);
            if (w != 0) continue;
            thresholds[query] = threshold;
            counts[query] = 0;
            flags[query] = 0;
        }
    }
};

/// Forgets the candidates of queries that are compared again from the first row on.
struct Restart {
    QueryView queries;
    std::uint64_t* thresholds;
    std::uint32_t* counts;
    std::uint8_t* flags;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        for (std::size_t i = block.thread_of_row(); i < queries.n; i += block.threads_of_row()) {
            const std::size_t query = queries.number(i);
            // The k-th candidate so far is a valid threshold. It may itself be among the k nearest, hence + 1.
            thresholds[query] += 1;
            counts[query] = 0;
            flags[query] = 0;
        }
    }
};

/// Some queries of a batch, or all.
struct Selection {
    const std::uint32_t* numbers;  ///< on the device; null for 0 .. n - 1
    std::size_t n;
};

/// The metric whose distances have this type.
template <typename Distance>
constexpr Metric metric_of = std::is_same_v<Distance, float> ? Metric::jaccard : Metric::hamming;

/// Queries that are searched together, with their thresholds and candidates.
struct QueryBatch {
    /// `radius`: int32 for Hamming distance, float for Jaccard distance. `n_keys`: candidates that each query has room
    /// for. `n_wanted`: k.
    template <typename Distance>
    QueryBatch(CodeView queries, Distance radius, std::size_t n_keys, std::uint32_t n_wanted, Stopper& ended_by,
               Stream on)
        : metric(metric_of<Distance>),
          n(queries.n),
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
        arena_.reserve(flags, n);
        arena_.reserve(keys, n * n_keys);
        arena_.allocate(on);
        copy_to_device(rows, queries.data, n * queries.n_bytes, on);
        launch(Prepare{rows, n, queries.n_bytes, key_beyond(radius), words, thresholds, counts, flags},
               {blocks_for(n * n_words, kScanThreads)}, kScanThreads, 0, on);
    }
    QueryBatch(const QueryBatch&) = delete;
    QueryBatch& operator=(const QueryBatch&) = delete;

    QueryView view(const Selection& some) const { return {some.numbers, some.n, words, thresholds, cuts}; }
    Selection all() const { return {nullptr, n}; }
    Candidates candidates() const { return {keys, counts, capacity}; }

    Metric metric;
    std::size_t n;
    unsigned n_words;
    Stream stream;
    Stopper& stopper;
    std::uint32_t k;
    LevelCuts cuts{};  // of a pruned search
    std::uint32_t* words = nullptr;
    std::uint64_t* thresholds = nullptr;
    std::uint32_t* counts = nullptr;
    std::uint8_t* flags = nullptr;
    std::uint64_t* keys = nullptr;
    std::uint32_t capacity;

 private:
    Arena arena_;
};

/// Sort the candidates of queries, keep the k nearest and lower the thresholds.
inline void tighten(const QueryBatch& batch, const Selection& some) {
    const Tighten kernel{batch.view(some), batch.candidates(), batch.k, batch.thresholds, batch.flags};
    if (batch.capacity > kBlockKeys) {  // the host starts a sort for each query that has found so many
        std::vector<std::uint32_t> n_found(batch.n), numbers(some.n);
        copy_to_host(n_found.data(), batch.counts, batch.n * sizeof(std::uint32_t), batch.stream);
        if (some.numbers != nullptr) {
            copy_to_host(numbers.data(), some.numbers, some.n * sizeof(std::uint32_t), batch.stream);
        }
        finish(batch.stream);
        for (std::size_t i = 0; i < some.n; ++i) {
            const std::size_t query = some.numbers == nullptr ? i : numbers[i];
            const std::uint32_t n = std::min(n_found[query], batch.capacity);
            if (n > kBlockKeys) sort_ascending(batch.keys + query * batch.capacity, n, batch.stream);
        }
    }
    launch(kernel, {static_cast<unsigned>(some.n)}, kSortThreads, kSharedKeys * sizeof(std::uint64_t), batch.stream);
}

}  // namespace fasthash::gpu
