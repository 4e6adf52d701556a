// Exact prefix search on the GPU: visits prefixes by their distance, a lower bound for the codes below them.
//
// Launched by TreeGallery, one block per query. A query that would read too many rows gives up and is scanned instead.
#pragma once

#include "gpu/search_kernels.h"

namespace fasthash::gpu {

constexpr unsigned kTreeThreads = 256;
constexpr unsigned kLanes = 32;    // threads that share the rows of a prefix
constexpr unsigned kQueue = 2048;  // prefixes compared per round

/// The distinct prefixes of the codes, ascending.
struct PrefixView {
    const std::uint32_t* values;
    const std::uint32_t* begins;  ///< first row of each prefix; last, the number of rows
    std::uint32_t n;
    unsigned n_bits;  ///< at most 32
};

/// One block per query. Its threads collect the prefixes at distance 0, 1, 2, ... and compare their codes, until the
/// distance exceeds the threshold.
struct TreeSearch {
    PrefixView prefixes;
    PlaneView codes;
    unsigned n_words;
    unsigned n_bits;
    QueryView queries;
    const std::uint32_t* query_prefixes;
    RunsView runs;
    EntryMask mask;
    Candidates found;
    std::uint32_t k;
    std::uint32_t most_rows;  ///< to compare; a query that needs more gives up
    std::uint8_t* given_up;

    struct Shared {
        std::uint64_t threshold;  ///< exclusive, as a key
        std::uint32_t n_queued;
        std::uint32_t n_rows;
        std::uint32_t stop;
        std::uint32_t queue[kQueue];
    };

    static std::size_t shared_bytes(unsigned n_words, unsigned n_bits) {
        return sizeof(Shared) + (n_words + n_bits + 1) * sizeof(std::uint32_t);
    }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        auto& shared = *static_cast<Shared*>(block.shared());
        auto* const counts = reinterpret_cast<std::uint32_t*>(&shared + 1);  // entries found by distance
        auto* const words = counts + n_bits + 1;
        const std::size_t query = block.x();
        for (unsigned w = block.thread(); w < n_words; w += block.n_threads()) {
            words[w] = queries.words[query * n_words + w];
        }
        for (unsigned d = block.thread(); d <= n_bits; d += block.n_threads()) counts[d] = 0;
        if (block.thread() == 0) {
            shared.threshold = queries.thresholds[query];
            shared.n_queued = 0;
            shared.n_rows = 0;
            shared.stop = 0;
        }
        block.sync();
        const std::uint32_t own = query_prefixes[query];
        for (unsigned distance = 0; distance <= prefixes.n_bits; ++distance) {
            // The prefix distance is a lower bound for the codes below it.
            if (pair_key(static_cast<int>(distance), 0) >= shared.threshold || shared.stop != 0) break;
            for (std::uint32_t first = 0; first < prefixes.n; first += kQueue) {
                const std::uint32_t end = first + kQueue < prefixes.n ? first + kQueue : prefixes.n;
                for (std::uint32_t i = first + block.thread(); i < end; i += block.n_threads()) {
                    if (count_bits(prefixes.values[i] ^ own) == static_cast<int>(distance)) {
                        shared.queue[add_to(&shared.n_queued, 1)] = i;
                    }
                }
                block.sync();
                const bool some = shared.n_queued != 0;
                block.sync();  // all threads must have read n_queued before the next round changes it
                if (!some) continue;
                read_queue(block, shared, counts, words, query);
                if (shared.stop != 0) break;
            }
            block.sync();
        }
        block.sync();
        if (block.thread() == 0) {
            given_up[query] = shared.stop != 0 || found.counts[query] > found.capacity ? 1 : 0;
        }
    }

 private:
    FASTHASH_DEVICE void read_queue(const Block& block, Shared& shared, std::uint32_t* counts,
                                    const std::uint32_t* words, std::size_t query) const {
        const std::uint64_t threshold = shared.threshold;
        const unsigned n_groups = block.n_threads() / kLanes != 0 ? block.n_threads() / kLanes : 1;
        for (std::uint32_t i = block.thread() / kLanes; i < shared.n_queued; i += n_groups) {
            const std::uint32_t begin = prefixes.begins[shared.queue[i]], end = prefixes.begins[shared.queue[i] + 1];
            if (block.thread() % kLanes == 0) add_to(&shared.n_rows, end - begin);
            for (std::uint32_t row = begin + block.thread() % kLanes; row < end; row += kLanes) {
                int distance = 0;
                for (unsigned w = 0; w < n_words; ++w) distance += count_bits(codes.word(row, w) ^ words[w]);
                if (distance > key_distance(threshold)) continue;
                take_entries(runs, mask, row, distance, threshold, k, [&](std::uint64_t key) {
                    found.push(query, key);
                    add_to(counts + distance, 1);
                });
            }
        }
        block.sync();
        if (block.thread() == 0) {
            shared.n_queued = 0;
            if (shared.n_rows > most_rows || found.counts[query] > found.capacity) shared.stop = 1;
            shared.threshold = tightened(shared.threshold, counts, n_bits, k);
        }
        block.sync();
    }
};

}  // namespace fasthash::gpu
