// Shared by all searches on a GPU: views of codes, queries and candidates, and the kernels that sort results.
//
// Candidates are (distance, entry) keys; a query's threshold is such a key and only falls (see fasthash/topk.h).
#pragma once

#include "gpu/launch.h"
#include "gpu/pair_keys.h"
#include "gpu/planes.h"

namespace fasthash::gpu {

constexpr unsigned kScanThreads = 256;
constexpr std::size_t kMostBlocks = 2048;  // along x: enough to fill any GPU; each block loads the queries' words once

inline unsigned blocks_for(std::size_t n_threads, unsigned per_block) {
    return static_cast<unsigned>(std::clamp<std::size_t>((n_threads + per_block - 1) / per_block, 1, kMostBlocks));
}

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

/// The lowest n bytes of a word.
FASTHASH_DEVICE std::uint32_t bytes_below(unsigned n) {
    return n >= 4 ? ~std::uint32_t{0} : (std::uint32_t{1} << 8 * n) - 1;
}

/// HDHash's cuts: for each query, and each level but the last, the largest distance kept, over the levels so far or,
/// with `by_level`, on this level alone. A code is kept if all its levels are within the cuts.
struct LevelCuts {
    const std::uint16_t* cuts;  ///< (n_queries, n_levels); null where codes are not pruned
    const std::uint32_t* ends;  ///< bytes of a code up to the end of each level
    unsigned n_levels;
    bool by_level;
    unsigned n_checked = 0;  ///< levels whose cuts are chosen; the first ones
};

/// Queries of a batch, all or some: rows of words, and the threshold of each.
struct QueryView {
    const std::uint32_t* numbers;  ///< of the queries in their batch; null for 0 .. n - 1
    std::size_t n;
    const std::uint32_t* words;  ///< of the batch, (n_queries, n_words)
    /// Exclusive threshold of each query, as a key. Distance and number are in one word, hence always of the same
    /// moment, and the key only falls, as fasthash/topk.h requires of a threshold.
    const std::uint64_t* thresholds;
    LevelCuts cuts;

    FASTHASH_DEVICE std::size_t number(std::size_t i) const { return numbers == nullptr ? i : numbers[i]; }
    /// The distance of a query and a code over these bytes.
    FASTHASH_DEVICE int distance(std::size_t query, const PlaneView& codes, unsigned n_words, std::size_t row,
                                 unsigned begin, unsigned end) const {
        int sum = 0;
        while (begin < end) {
            const unsigned w = begin / 4, next = 4 * (w + 1) < end ? 4 * (w + 1) : end;
            const std::uint32_t different = codes.word(row, w) ^ words[query * n_words + w];
            sum += count_bits(different >> 8 * (begin % 4) & bytes_below(next - begin));
            begin = next;
        }
        return sum;
    }
    /// Whether a query keeps a code.
    FASTHASH_DEVICE bool keeps(std::size_t query, const PlaneView& codes, unsigned n_words, std::size_t row) const {
        int sum = 0;
        for (unsigned level = 0, begin = 0; level < cuts.n_checked; ++level) {
            const unsigned end = cuts.ends[level];
            sum = distance(query, codes, n_words, row, begin, end) + (cuts.by_level ? 0 : sum);
            if (sum > cuts.cuts[query * cuts.n_levels + level]) return false;
            begin = end;
        }
        return true;
    }
};

/// A bit per entry: set if a search may return it. Null: all.
struct EntryMask {
    const std::uint32_t* bits;

    FASTHASH_DEVICE bool allows(std::size_t entry) const {
        return bits == nullptr || (bits[entry / 32] >> entry % 32 & 1) != 0;
    }
};

/// The entries that have the code of a row, as DuplicateRuns holds them. Rows and entries are numbered from the first
/// that this device holds.
struct RunsView {
    const std::uint64_t* marks;  ///< null where row i is entry i
    const std::uint32_t* ranks;
    const std::uint32_t* extras;
    std::size_t first_row;
    std::size_t first_entry;

    struct Run {
        std::size_t begin;
        std::size_t n;
    };
    FASTHASH_DEVICE Run of(std::size_t row) const {
        if (marks == nullptr) return {row, 1};
        const std::size_t number = row + first_row;
        const std::uint64_t word = marks[number / 64], below = word & ((std::uint64_t{1} << number % 64) - 1);
        const std::uint32_t rank =
            ranks[number / 64] + static_cast<std::uint32_t>(count_bits(static_cast<std::uint32_t>(below)) +
                                                            count_bits(static_cast<std::uint32_t>(below >> 32)));
        const std::uint32_t before = rank == 0 ? 0 : extras[rank - 1];
        const bool shared = (word >> number % 64 & 1) != 0;
        return {number + before - first_entry, shared ? 1 + extras[rank] - before : std::size_t{1}};
    }
};

/// The numbers that stand for ids in keys; they ascend as ids do.
struct NumbersView {
    const std::uint8_t* bytes;  ///< `width` for each entry; null for offset, offset + 1, ...
    unsigned width;
    std::uint64_t offset;

    FASTHASH_DEVICE std::uint64_t operator()(std::size_t entry) const {
        if (bytes == nullptr) return offset + entry;
        std::uint64_t number = 0;
        for (unsigned b = 0; b < width; ++b) number |= std::uint64_t{bytes[entry * width + b]} << 8 * b;
        return offset + number;
    }
};

/// The numbers of bits set in codes that are in their order. Null where distances do not need them.
struct SizesView {
    const std::uint32_t* begins;  ///< the first row with 0, 1, ... n_bits bits set
    unsigned n_bits;
    std::size_t first_row;  ///< of those that this device holds

    /// The numbers of four rows; of rows beyond the last one undefined, at most n_bits.
    FASTHASH_DEVICE Quad of_quad(std::size_t row) const {
        std::size_t number = row + first_row;
        unsigned size = 0, end = n_bits + 1;  // begins[size] <= number, and begins[end], if there, is beyond
        while (end - size > 1) {
            const unsigned middle = (size + end) / 2;
            (begins[middle] <= number ? size : end) = middle;
        }
        Quad sizes{};
        for (unsigned r = 0; r < kQuad; ++r, ++number) {
            while (size < n_bits && begins[size + 1] <= number) ++size;
            sizes.word[r] = size;
        }
        return sizes;
    }
};

/// A segment as searches see it.
struct SegmentView {
    PlaneView codes;
    SizesView sizes;
    RunsView runs;
    NumbersView numbers;
    EntryMask mask;
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

/// Calls take(key) for the allowed entries of a row before the threshold. At most k: the ids of a row ascend, so later
/// ones cannot be among the k nearest.
template <typename Distance, typename Take>
FASTHASH_DEVICE void take_entries(const SegmentView& segment, std::size_t row, Distance distance,
                                  std::uint64_t threshold, std::uint32_t k, const Take& take) {
    const RunsView::Run run = segment.runs.of(row);
    std::uint32_t n_taken = 0;
    for (std::size_t entry = run.begin; entry < run.begin + run.n && n_taken < k; ++entry) {
        const std::uint64_t key = pair_key(distance, segment.numbers(entry));
        if (key >= threshold) break;
        if (!segment.mask.allows(entry)) continue;
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
    SegmentView segment;
    unsigned n_words;
    std::size_t first;
    std::size_t end;
    QueryView queries;
    Candidates found;
    std::uint32_t k;

    /// Where threads begin to read: they read whole quads.
    FASTHASH_DEVICE std::size_t first_quad() const { return first / kQuad * kQuad; }
    FASTHASH_DEVICE bool has(std::size_t row) const { return row >= first && row < end; }
    /// `query`: its number in the batch.
    template <typename Distance>
    FASTHASH_DEVICE void keep(std::size_t query, std::size_t row, Distance distance) const {
        if (!queries.keeps(query, segment.codes, n_words, row)) return;
        take_entries(segment, row, distance, queries.thresholds[query], k,
                     [&](std::uint64_t key) { found.push(query, key); });
    }
};

/// Flags of a query, read by the host when its batch is finished.
constexpr std::uint8_t kOverflowed = 1;  // more candidates than room: the result may be wrong
constexpr std::uint8_t kGaveUp = 2;      // clusters save too little: the result is not complete

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

/// Sorts the candidates of queries, one block per query, keeps the k nearest and lowers the threshold to the k-th.
/// The capacity must be a power of two; more than kBlockKeys keys must be sorted already.
struct Tighten {
    QueryView queries;
    Candidates found;
    std::uint32_t k;
    std::uint64_t* thresholds;
    std::uint8_t* flags;  ///< kOverflowed is set if candidates exceeded the capacity

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t query = queries.number(block.x());
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
            if (n_found > found.capacity) flags[query] |= kOverflowed;
            found.counts[query] = n < k ? n : k;
            if (n >= k) thresholds[query] = keys[k - 1];
        }
    }
};

/// The ids that numbers stand for.
struct IdsView {
    const std::int64_t* ranked;  ///< all ids, ascending; null for smallest + number
    std::int64_t smallest;

    FASTHASH_DEVICE std::int64_t of(std::uint64_t number) const {
        return ranked != nullptr ? ranked[number]
                                 : static_cast<std::int64_t>(static_cast<std::uint64_t>(smallest) + number);
    }
};

/// Converts keys to distances and ids; pads results shorter than k with `none` and -1.
template <typename Distance>
struct Write {
    Candidates found;
    std::size_t n_queries;
    std::uint32_t k;
    Distance none;
    IdsView ids;
    Distance* distances;
    std::int64_t* found_ids;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n_queries * k; i += step) {
            const std::size_t query = i / k, rank = i % k;
            const bool some = rank < found.counts[query];
            const std::uint64_t key = some ? found.keys[query * found.capacity + rank] : kNoKey;
            distances[i] = some ? key_distance<Distance>(key) : none;
            found_ids[i] = some ? ids.of(key_number<Distance>(key)) : -1;
        }
    }
};

/// Converts the sorted keys of each query to distances and ids, from its offset on; one row of blocks per query.
template <typename Distance>
struct WriteRange {
    Candidates found;
    const std::int64_t* offsets;  ///< (n_queries + 1,)
    IdsView ids;
    Distance* distances;
    std::int64_t* found_ids;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t query = block.y(), step = block.threads_of_row();
        // The caller may have changed the queries since they were counted: write only as many as were counted.
        const auto room = static_cast<std::size_t>(offsets[query + 1] - offsets[query]);
        const std::size_t n = found.counts[query] < room ? found.counts[query] : room;
        for (std::size_t i = block.thread_of_row(); i < n; i += step) {
            const std::uint64_t key = found.keys[query * found.capacity + i];
            distances[offsets[query] + i] = key_distance<Distance>(key);
            found_ids[offsets[query] + i] = ids.of(key_number<Distance>(key));
        }
    }
};

}  // namespace fasthash::gpu
