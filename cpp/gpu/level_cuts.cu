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
    std::size_t n_nodes;
    unsigned begin, end;  ///< the bytes of the level in a code
    unsigned n_words;     ///< of a query
    QueryView queries;    ///< with the cuts of the levels above
};

/// Counts the nodes whose parents are kept, by score: the distance over the levels so far or, with by_level, on this
/// level. A thread counts for a query of its own, and no other thread adds to its counts; blocks along x share the
/// nodes, each block along y takes one tile of queries.
struct CountNodes {
    LevelTask level;
    Histogram counts;
    unsigned tile;  ///< queries of a block

    static std::size_t bytes_for(std::size_t n_queries, unsigned n_scores) {
        return n_queries * 2 * n_scores * sizeof(std::uint32_t);
    }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        auto* const shared = static_cast<std::uint32_t*>(block.shared());
        const std::size_t first = level.n_nodes * block.x() / block.n_x();
        const std::size_t end = level.n_nodes * (block.x() + 1) / block.n_x();
        for (unsigned t = block.thread(); t < tile; t += block.n_threads()) {
            const std::size_t query = std::size_t{block.y()} * tile + t;
            if (query >= level.queries.n) break;
            const auto at = [&](unsigned score, unsigned which) -> std::uint32_t& {
                return shared[(2 * score + which) * tile + t];
            };
            for (unsigned score = 0; score < counts.n_scores; ++score) at(score, 0) = at(score, 1) = 0;
            bool kept = true;
            for (std::size_t node = first; node < end; ++node) {
                if (node == first || new_parent(node)) {
                    kept = level.queries.keeps(query, level.prefixes, level.n_words, node);
                }
                if (!kept) continue;
                const int score = level.queries.distance(query, level.prefixes, level.n_words, node,
                                                         level.queries.cuts.by_level ? level.begin : 0, level.end);
                ++at(static_cast<unsigned>(score), 0);
                at(static_cast<unsigned>(score), 1) += level.n_entries[node];
            }
            for (unsigned score = 0; score < counts.n_scores; ++score) {
                const std::size_t place = query * counts.n_scores + score;
                if (at(score, 0) == 0) continue;
                add_to(counts.nodes + place, at(score, 0));
                add_to(counts.entries + place, at(score, 1));
            }
        }
    }

 private:
    FASTHASH_DEVICE bool new_parent(std::size_t node) const {
        for (unsigned byte = 0; byte < level.begin; byte += 4) {
            const std::uint32_t different =
                level.prefixes.word(node, byte / 4) ^ level.prefixes.word(node - 1, byte / 4);
            if ((different & bytes_below(level.begin - byte)) != 0) return true;
        }
        return false;
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

LevelNodes::LevelNodes(CodeView rows, const std::uint32_t* weights, Stream stream) : n_entries(rows.n, stream) {
    Array<std::uint8_t> copied(rows.n * rows.n_bytes);
    std::copy_n(rows.data, copied.size(), copied.data());
    const ByteMajorCodes codes = ByteMajorCodes::from_rows(std::move(copied), rows.n_bytes);
    Staging staging(codes.n_groups() * kGroup * std::max(rows.n_bytes, sizeof(std::uint32_t)), stream);
    prefixes = Planes(codes, {0, codes.n_groups()}, staging, stream);
    staging.copy(n_entries.data(), weights, n_entries.nbytes());
    staging.finish();
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
    for (const LevelNodes& level : levels_) sum += level.prefixes.device_nbytes() + level.n_entries.device_nbytes();
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
                       level.prefixes.n(),
                       begin,
                       end,
                       batch.n_words,
                       batch.view(batch.all())};
        task.queries.cuts.n_checked = depth;
        const auto tile = static_cast<unsigned>(std::clamp<std::size_t>(
            kSharedBytes / CountNodes::bytes_for(1, n_scores), 1, std::min<std::size_t>(kMostCountThreads, batch.n)));
        const auto n_tiles = static_cast<unsigned>((batch.n + tile - 1) / tile);
        const auto n_shares = static_cast<unsigned>(std::clamp<std::size_t>(kCountBlocks / n_tiles, 1, task.n_nodes));
        batch.stopper.check();
        launch(CountNodes{task, histogram, tile}, {n_shares, n_tiles}, tile, CountNodes::bytes_for(tile, n_scores),
               batch.stream);
        launch(ChooseCuts{histogram, batch.n, pruning.keep, pruning.mode, static_cast<double>(n_entries_),
                          static_cast<double>(k), (end - begin) * 8, cuts + depth, n_levels},
               {blocks_for(batch.n, kScanThreads)}, kScanThreads, 0, batch.stream);
        begin = end;
    }
    batch.cuts.n_checked = n_levels;
}

}  // namespace fasthash::gpu
