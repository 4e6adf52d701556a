// Shared by all searches on a GPU: views of codes, queries and candidates, and the kernels that sort results.
//
// Candidates are (distance, entry) keys; a query's threshold is such a key and only falls (see fasthash/topk.h).
#pragma once

#include "gpu/launch.h"
#include "gpu/planes.h"

namespace fasthash::gpu {

constexpr unsigned kScanThreads = 256;

/// Word w of four neighbouring codes.
struct alignas(16) Quad {
    std::uint32_t word[kQuad];
};

/// View of Planes, passed to kernels.
struct PlaneView {
    const std::uint32_t* words;
    std::size_t stride;     ///< words from one plane to the next; a multiple of kQuad
    std::size_t begin = 0;  ///< first row of the view; a multiple of kQuad

    FASTHASH_DEVICE Quad quad(std::size_t first, std::size_t w) const {
        return *reinterpret_cast<const Quad*>(words + w * stride + (first - begin));
    }
    FASTHASH_DEVICE std::uint32_t word(std::size_t row, std::size_t w) const {
        return words[w * stride + (row - begin)];
    }
};

/// Word w of a row of bytes, padded with zeros.
FASTHASH_DEVICE std::uint32_t word_of_row(const std::uint8_t* row, std::size_t n_bytes, std::size_t w) {
    std::uint32_t word = 0;
    for (std::size_t b = 0; b < 4 && 4 * w + b < n_bytes; ++b) word |= std::uint32_t{row[4 * w + b]} << 8 * b;
    return word;
}

/// A pair (distance, entry) as one number, so that pairs are ordered as numbers are. Entries are numbered as their ids
/// ascend.
FASTHASH_ANYWHERE std::uint64_t pair_key(int distance, std::uint64_t entry) {
    return static_cast<std::uint64_t>(distance) << 48 | entry;
}
FASTHASH_DEVICE int key_distance(std::uint64_t key) { return static_cast<int>(key >> 48); }
FASTHASH_DEVICE std::uint64_t key_entry(std::uint64_t key) { return key & ((std::uint64_t{1} << 48) - 1); }
constexpr std::uint64_t kNoKey = ~std::uint64_t{0};

/// Queries of a batch: rows of words, and the threshold of each.
struct QueryView {
    const std::uint32_t* words;  ///< (n, n_words)
    std::size_t n;
    /// Exclusive threshold of each query, as a key. Distance and entry are in one word, hence always of the same
    /// moment, and the key only falls, as fasthash/topk.h requires of a threshold.
    const std::uint64_t* thresholds;
};

/// A bit per entry: set if a search may return it. Null: all.
struct EntryMask {
    const std::uint32_t* bits;

    FASTHASH_DEVICE bool allows(std::size_t entry) const {
        return bits == nullptr || (bits[entry / 32] >> entry % 32 & 1) != 0;
    }
};

/// The entries that have the code of a row: one of the same number, or several in a run, in ascending order.
struct RunsView {
    const std::uint32_t* begins;  ///< of the runs; null where row i is entry i
    const std::uint32_t* entries;
};

/// The candidates of each query, as keys.
struct Candidates {
    std::uint64_t* keys;    ///< (n_queries, capacity)
    std::uint32_t* counts;  ///< (n_queries,): candidates found, possibly more than the capacity
    std::uint32_t capacity;

    FASTHASH_DEVICE void push(std::size_t query, std::uint64_t key) const {
        const std::uint32_t place = add_to(counts + query, 1);
        if (place < capacity) keys[query * capacity + place] = key;
    }
};

/// Calls take(key) for the allowed entries of a row before the threshold. At most k: entries ascend, so later ones
/// cannot be among the k nearest.
template <typename Take>
FASTHASH_DEVICE void take_entries(const RunsView& runs, const EntryMask& mask, std::size_t row, int distance,
                                  std::uint64_t threshold, std::uint32_t k, const Take& take) {
    if (runs.begins == nullptr) {
        const std::uint64_t key = pair_key(distance, row);
        if (key < threshold && mask.allows(row)) take(key);
        return;
    }
    std::uint32_t n_taken = 0;
    for (std::uint32_t i = runs.begins[row]; i < runs.begins[row + 1] && n_taken < k; ++i) {
        const std::uint64_t key = pair_key(distance, runs.entries[i]);
        if (key >= threshold) break;
        if (!mask.allows(runs.entries[i])) continue;
        take(key);
        ++n_taken;
    }
}

/// Lowers a threshold to the end of the k-th distance, given the number of entries found at each distance. Ties at that
/// distance stay before the threshold, since their ids decide.
FASTHASH_DEVICE std::uint64_t tightened(std::uint64_t threshold, const std::uint32_t* counts, unsigned n_bits,
                                        std::uint32_t k) {
    std::uint32_t n_near = 0;
    for (unsigned distance = 0; distance <= n_bits; ++distance) {
        n_near += counts[distance];
        if (n_near < k) continue;
        const std::uint64_t beyond = pair_key(static_cast<int>(distance) + 1, 0);
        return beyond < threshold ? beyond : threshold;
    }
    return threshold;
}

/// Arguments of a scan: compare rows first .. end with the queries, and add the entries before their thresholds to the
/// candidates.
struct ScanTask {
    PlaneView codes;
    unsigned n_words;
    std::size_t first;  ///< a multiple of kQuad
    std::size_t end;
    QueryView queries;
    RunsView runs;
    EntryMask mask;
    Candidates found;
    std::uint32_t k;

    FASTHASH_DEVICE void keep(std::size_t query, std::size_t row, int distance) const {
        take_entries(runs, mask, row, distance, queries.thresholds[query], k,
                     [&](std::uint64_t key) { found.push(query, key); });
    }
};

/// Most keys that can be sorted.
constexpr std::uint32_t kMostKeys = std::uint32_t{1} << 30;
/// Up to this many keys are sorted in a block's shared memory.
constexpr std::uint32_t kSharedKeys = 4096;

/// Sorts keys with all threads of a block. Pads them with kNoKey to a power of two.
FASTHASH_DEVICE void sort_keys(const Block& block, std::uint64_t* keys, std::uint32_t n) {
    std::uint32_t padded = 1;
    while (padded < n) padded *= 2;
    for (std::uint32_t i = n + block.thread(); i < padded; i += block.n_threads()) keys[i] = kNoKey;
    block.sync();
    // Bitonic sort: runs of length `run` are merged over halving gaps.
    for (std::uint32_t run = 2; run <= padded; run *= 2) {
        for (std::uint32_t gap = run / 2; gap > 0; gap /= 2) {
            for (std::uint32_t i = block.thread(); i < padded / 2; i += block.n_threads()) {
                const std::uint32_t low = 2 * i - (i & (gap - 1)), high = low + gap;
                const bool ascending = (low & run) == 0;
                const std::uint64_t a = keys[low], b = keys[high];
                if ((a > b) == ascending) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            block.sync();
        }
    }
}

/// Above this many keys one block is too slow, so the whole device sorts them.
constexpr std::uint32_t kBlockKeys = 65536;

/// Sorts the candidates of each query, one block per query, keeps the k nearest and lowers the threshold to the k-th.
/// The capacity must be a power of two; more than kBlockKeys keys must be sorted already.
struct Tighten {
    Candidates found;
    std::uint32_t k;
    std::uint64_t* thresholds;
    std::uint8_t* overflowed;  ///< set if candidates exceeded the capacity, so that the result may be wrong

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t query = block.x();
        std::uint64_t* const keys = found.keys + query * found.capacity;
        const std::uint32_t n_found = found.counts[query];
        const std::uint32_t n = n_found < found.capacity ? n_found : found.capacity;
        if (n <= kSharedKeys) {
            auto* const shared = static_cast<std::uint64_t*>(block.shared());
            for (std::uint32_t i = block.thread(); i < n; i += block.n_threads()) shared[i] = keys[i];
            block.sync();
            sort_keys(block, shared, n);
            for (std::uint32_t i = block.thread(); i < n; i += block.n_threads()) keys[i] = shared[i];
            block.sync();
        } else if (n <= kBlockKeys) {
            sort_keys(block, keys, n);
        }
        if (block.thread() == 0) {
            if (n_found > found.capacity) overflowed[query] = 1;
            found.counts[query] = n < k ? n : k;
            if (n >= k) thresholds[query] = keys[k - 1];
        }
    }
};

/// Converts keys to distances and ids; pads results shorter than k with n_bits + 1 and -1.
struct Write {
    Candidates found;
    std::size_t n_queries;
    std::uint32_t k;
    std::int32_t n_bits;
    const std::int64_t* ids;  ///< by entry; null for first_id, first_id + 1, ...
    std::int64_t first_id;
    std::int32_t* distances;
    std::int64_t* found_ids;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n_queries * k; i += step) {
            const std::size_t query = i / k, rank = i % k;
            const bool some = rank < found.counts[query];
            const std::uint64_t key = some ? found.keys[query * found.capacity + rank] : kNoKey;
            const std::uint64_t entry = key_entry(key);
            distances[i] = some ? key_distance(key) : n_bits + 1;
            found_ids[i] = !some ? -1 : ids == nullptr ? first_id + static_cast<std::int64_t>(entry) : ids[entry];
        }
    }
};

/// Converts the sorted keys of each query to distances and ids, from its offset on; one row of blocks per query.
struct WriteRange {
    Candidates found;
    const std::int64_t* offsets;  ///< (n_queries + 1,)
    const std::int64_t* ids;
    std::int64_t first_id;
    std::int32_t* distances;
    std::int64_t* found_ids;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t query = block.y(), step = block.threads_of_row();
        // The caller may have changed the queries since they were counted: write only as many as were counted.
        const auto room = static_cast<std::size_t>(offsets[query + 1] - offsets[query]);
        const std::size_t n = found.counts[query] < room ? found.counts[query] : room;
        for (std::size_t i = block.thread_of_row(); i < n; i += step) {
            const std::uint64_t key = found.keys[query * found.capacity + i];
            const std::uint64_t entry = key_entry(key);
            distances[offsets[query] + i] = key_distance(key);
            found_ids[offsets[query] + i] = ids == nullptr ? first_id + static_cast<std::int64_t>(entry) : ids[entry];
        }
    }
};

}  // namespace fasthash::gpu
