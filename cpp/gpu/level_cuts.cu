#include <cstring>

#include "gpu/level_cuts.h"
#include "gpu/query_batch.h"
#include "search/keep_rule.h"

namespace fasthash::gpu {
namespace {

constexpr unsigned kMostCountThreads = 128;
constexpr std::size_t kSharedBytes = std::size_t{48} << 10;  // that any GPU gives a block
constexpr std::size_t kCountBlocks = 2048;

/// Nodes and entries of a level by score, for each query.
struct Histogram {
    std::uint32_t* nodes;    ///< (n_queries, n_scores)
    std::uint32_t* entries;  ///< (n_queries, n_scores)
    unsigned n_scores;
};

/// A level whose nodes are counted.
struct LevelTask {
    PlaneView prefixes;
    const std::uint32_t* n_entries;  ///< of each node
    const std::uint32_t* children;   ///< the first node below each node of the level above; last, the number of nodes
    std::uint32_t n_parents;
    std::uint32_t n_nodes;
    unsigned begin, end;  ///< the bytes of the level in a code
    unsigned n_words;     ///< of a query
    QueryView queries;    ///< with the cuts of the levels above

    /// The first byte of a score: the distance over the levels so far or, with by_level, on this level.
    FASTHASH_ANYWHERE unsigned first_byte() const { return queries.cuts.by_level ? begin : 0; }
};

/// Counts the nodes whose parents are kept, by score. A thread counts for a query of its own, and no other thread adds
/// to its counts; blocks along x share the nodes, each block along y takes one tile of queries. kOneWord: the bytes of
/// a score are in one word of a code.
template <bool kOneWord>
struct CountNodes {
    LevelTask level;
    Histogram counts;
    unsigned tile;  ///< queries of a block

    static std::size_t bytes_for(std::size_t n_queries, unsigned n_scores) {
        return n_queries * n_scores * sizeof(std::uint64_t);
    }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        // Of each score: nodes in the high 32 bits, entries in the low ones; both are below 2^32.
        auto* const shared = static_cast<std::uint64_t*>(block.shared());
        const std::uint64_t n = level.n_nodes;
        const auto first = static_cast<std::uint32_t>(n * block.x() / block.n_x());
        const auto end = static_cast<std::uint32_t>(n * (block.x() + 1) / block.n_x());
        for (unsigned t = block.thread(); t < tile; t += block.n_threads()) {
            const std::size_t query = std::size_t{block.y()} * tile + t;
            if (query >= level.queries.n) break;
            std::uint64_t* const own = shared + t;  // its counts are `tile` apart
            for (unsigned score = 0; score < counts.n_scores; ++score) own[score * tile] = 0;
            std::uint32_t parent = parent_of(first);
            for (std::uint32_t node = first; node < end; ++parent) {
                const std::uint32_t last = level.children[parent + 1] < end ? level.children[parent + 1] : end;
                if (level.queries.keeps(query, level.prefixes, level.n_words, node)) count(own, query, node, last);
                node = last;
            }
            for (unsigned score = 0; score < counts.n_scores; ++score) {
                const std::uint64_t both = own[score * tile];
                if (both == 0) continue;
                const std::size_t place = query * counts.n_scores + score;
                add_to(counts.nodes + place, static_cast<std::uint32_t>(both >> 32));
                add_to(counts.entries + place, static_cast<std::uint32_t>(both));
            }
        }
    }

 private:
    FASTHASH_DEVICE std::uint32_t parent_of(std::uint32_t node) const {
        std::uint32_t low = 0, high = level.n_parents;  // the last parent whose children begin at or before the node
        while (high - low > 1) {
            const std::uint32_t middle = low + (high - low) / 2;
            (level.children[middle] <= node ? low : high) = middle;
        }
        return low;
    }

    FASTHASH_DEVICE void count(std::uint64_t* own, std::size_t query, std::uint32_t first, std::uint32_t end) const {
        const unsigned first_byte = level.first_byte(), w = first_byte / 4;
        const std::uint32_t mask = bytes_below(level.end - 4 * w) & ~bytes_below(first_byte % 4);
        const std::uint32_t wanted = level.queries.words[query * level.n_words + w];
        const std::uint32_t* word = level.prefixes.words + w * level.prefixes.stride + first;
        const std::uint32_t* n_entries = level.n_entries + first;
        for (std::uint32_t node = first; node < end; ++node, ++word, ++n_entries) {
            const int score =
                kOneWord ? count_bits((*word ^ wanted) & mask)
                         : level.queries.distance(query, level.prefixes, level.n_words, node, first_byte, level.end);
            own[static_cast<unsigned>(score) * tile] += std::uint64_t{1} << 32 | *n_entries;
        }
    }
};

/// Chooses the cut of each query at a level from its histogram.
struct ChooseCuts {
    Histogram counts;
    std::size_t n_queries;
    double keep;
    KeepMode mode;
    double n_entries;  ///< of the index
    double k;
    unsigned level_bits;
    std::uint16_t* cuts;  ///< of this level; those of a query are n_levels apart
    unsigned n_levels;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t step = block.threads_of_row();
        for (std::size_t query = block.thread_of_row(); query < n_queries; query += step) {
            cuts[query * n_levels] = static_cast<std::uint16_t>(
                cut(counts.nodes + query * counts.n_scores, counts.entries + query * counts.n_scores));
        }
    }

 private:
    /// The smallest score up to which the counts add up to `needed`; the largest score if they never do.
    FASTHASH_DEVICE unsigned score_covering(const std::uint32_t* n_at, double needed) const {
        double sum = 0;  // exact: integers far below 2^53
        for (unsigned score = 0; score < counts.n_scores; ++score) {
            sum += n_at[score];
            if (sum >= needed) return score;
        }
        return counts.n_scores - 1;
    }

    FASTHASH_DEVICE unsigned cut(const std::uint32_t* nodes_at, const std::uint32_t* entries_at) const {
        double n_candidates = 0;
        for (unsigned score = 0; score < counts.n_scores; ++score) n_candidates += nodes_at[score];
        unsigned score = 0;
        if (mode == KeepMode::node_ratio) score = score_covering(nodes_at, keep_at_least(keep, n_candidates));
        if (mode == KeepMode::gallery_ratio) score = score_covering(entries_at, keep_at_least(keep, n_entries));
        if (mode == KeepMode::radius) score = static_cast<unsigned>(keep_at_most(keep, level_bits));
        // The kept subtrees must hold k entries, so that the search can return k. No node is empty.
        double n_near = 0;
        for (unsigned s = 0; s <= score && s < counts.n_scores; ++s) n_near += nodes_at[s];
        if (n_near >= k) return score;
        const unsigned wider = score_covering(entries_at, k);
        return score > wider ? score : wider;
    }
};

}  // namespace

LevelNodes::LevelNodes(CodeView rows, std::size_t parent_bytes, const std::uint32_t* weights, Stream stream)
    : n_entries(rows.n, stream) {
    Array<std::uint8_t> copied(rows.n * rows.n_bytes);
    std::copy_n(rows.data, copied.size(), copied.data());
    const ByteMajorCodes codes = ByteMajorCodes::from_rows(std::move(copied), rows.n_bytes);
    Staging staging(codes.n_groups() * kGroup * std::max(rows.n_bytes, sizeof(std::uint32_t)), stream);
    prefixes = Planes(codes, {0, codes.n_groups()}, staging, stream);
    staging.copy(n_entries.data(), weights, n_entries.nbytes());
    staging.finish();
    std::vector<std::uint32_t> begins;
    for (std::size_t i = 0; i < rows.n; ++i) {
        if (i == 0 || std::memcmp(rows.row(i), rows.row(i - 1), parent_bytes) != 0) {
            begins.push_back(static_cast<std::uint32_t>(i));
        }
    }
    begins.push_back(static_cast<std::uint32_t>(rows.n));
    children = loaded(begins.data(), begins.size(), stream);
    finish(stream);  // before the vector is freed
}

LevelTable::LevelTable(std::vector<LevelNodes> levels, std::size_t n_entries, Stream stream)
    : levels_(std::move(levels)), n_entries_(n_entries) {
    std::vector<std::uint32_t> ends;
    for (const LevelNodes& level : levels_) ends.push_back(static_cast<std::uint32_t>(level.prefixes.n_bytes()));
    ends_ = loaded(ends.data(), ends.size(), stream);
    finish(stream);  // before the vector is freed
}

std::size_t LevelTable::device_nbytes() const {
    std::size_t sum = ends_.device_nbytes();
    for (const LevelNodes& level : levels_) {
        sum += level.prefixes.device_nbytes() + level.n_entries.device_nbytes() + level.children.device_nbytes();
    }
    return sum;
}

void LevelTable::choose(QueryBatch& batch, const Pruning& pruning, std::uint32_t k, std::uint16_t* cuts) const {
    const auto n_levels = static_cast<unsigned>(levels_.size());
    const bool by_level = pruning.mode == KeepMode::radius;
    const std::size_t most_scores = levels_.back().prefixes.n_bytes() * 8 + 1;
    Buffer<std::uint32_t> counts(2 * batch.n * most_scores, batch.stream);
    if (n_entries_ == 0) return;
    unsigned begin = 0;
    for (unsigned depth = 0; depth < n_levels; ++depth) {
        const LevelNodes& level = levels_[depth];
        const auto end = static_cast<unsigned>(level.prefixes.n_bytes()), n_scores = end * 8 + 1;
        const Histogram histogram{counts.data(), counts.data() + batch.n * n_scores, n_scores};
        counts.clear();
        batch.cuts = {cuts, ends_.data(), n_levels, by_level};
        LevelTask task{{level.prefixes.words(), level.prefixes.stride()},
                       level.n_entries.data(),
                       level.children.data(),
                       static_cast<std::uint32_t>(level.children.size() - 1),
                       static_cast<std::uint32_t>(level.prefixes.n()),
                       begin,
                       end,
                       batch.n_words,
                       batch.view(batch.all())};
        task.queries.cuts.n_checked = depth;
        const auto tile =
            static_cast<unsigned>(std::clamp<std::size_t>(kSharedBytes / CountNodes<true>::bytes_for(1, n_scores), 1,
                                                          std::min<std::size_t>(kMostCountThreads, batch.n)));
        const auto n_tiles = static_cast<unsigned>((batch.n + tile - 1) / tile);
        const auto n_shares = static_cast<unsigned>(std::clamp<std::size_t>(kCountBlocks / n_tiles, 1, task.n_nodes));
        batch.stopper.check();
        const Grid grid{n_shares, n_tiles};
        const std::size_t shared_bytes = CountNodes<true>::bytes_for(tile, n_scores);
        if (task.first_byte() / 4 == (end - 1) / 4) {
            launch(CountNodes<true>{task, histogram, tile}, grid, tile, shared_bytes, batch.stream);
        } else {
            launch(CountNodes<false>{task, histogram, tile}, grid, tile, shared_bytes, batch.stream);
        }
        launch(ChooseCuts{histogram, batch.n, pruning.keep, pruning.mode, static_cast<double>(n_entries_),
                          static_cast<double>(k), (end - begin) * 8, cuts + depth, n_levels},
               {blocks_for(batch.n, kScanThreads)}, kScanThreads, 0, batch.stream);
        begin = end;
    }
    batch.cuts.n_checked = n_levels;
}

}  // namespace fasthash::gpu
