// HDHash's pruned coarse-to-fine search (ICPR 2020) on the GPU; same results as PrunedSearch on the CPU.
//
// Launched by TreeGallery::search_pruned, one block per query.
#pragma once

#include <cmath>

#include "fasthash/search.h"
#include "gpu/search_kernels.h"
#include "search/keep_rule.h"

namespace fasthash::gpu {

constexpr unsigned kPrunedThreads = 256;

/// The nodes of one level of the tree, on the device.
struct LevelView {
    PlaneView keys;  ///< the level's bytes of the code, per node
    unsigned n_bytes;
    unsigned offset;  ///< of the level in the code, in bytes
    std::uint32_t n_nodes;
    const std::uint32_t* child_begins;  ///< first child of each node, and the number of nodes of the next level; null
                                        ///< at the last level of the tree, whose children are rows
    const std::uint32_t* row_begins;    ///< first row of each node, and the number of rows
};

/// A kept node, and its distance up to and including its level.
struct KeptNode {
    std::uint32_t node;
    std::uint32_t distance;
};

/// One block for each query.
struct PrunedSearch {
    const LevelView* levels;
    unsigned n_levels;  ///< of the tree: one less than the code has
    PlaneView codes;
    unsigned n_words;
    unsigned n_bits;
    std::uint32_t n_entries;
    QueryView queries;
    RunsView runs;
    Candidates found;
    std::uint32_t k;
    double keep;
    KeepMode mode;
    KeptNode* scratch;  ///< twice n_scratch nodes for each query
    std::uint32_t n_scratch;
    std::uint8_t* overflowed;  ///< set if the candidates exceeded the capacity

    struct Shared {
        std::uint64_t threshold;  ///< exclusive, as a key
        std::uint32_t n_kept;
        std::uint32_t cut;  ///< the largest score kept
        std::uint32_t full;
    };

    static std::size_t shared_bytes(unsigned n_words, unsigned n_bits) {
        return sizeof(Shared) + (2 * (n_bits + 1) + 2 * n_words) * sizeof(std::uint32_t);
    }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        auto& shared = *static_cast<Shared*>(block.shared());
        auto* const nodes_at = reinterpret_cast<std::uint32_t*>(&shared + 1);  // candidates by score
        auto* const entries_at = nodes_at + n_bits + 1;                        // entries below them
        auto* const words = entries_at + n_bits + 1;
        auto* const key_words = words + n_words;  // the query's bytes of the current level
        const std::size_t query = block.x();
        for (unsigned w = block.thread(); w < n_words; w += block.n_threads()) {
            words[w] = queries.words[query * n_words + w];
        }
        if (block.thread() == 0) {
            shared.threshold = queries.thresholds[query];
            shared.full = 0;
        }
        KeptNode* parents = scratch + query * 2 * n_scratch;
        KeptNode* kept = parents + n_scratch;
        std::uint32_t n_parents = 0;
        for (unsigned depth = 0;; ++depth) {
            const LevelView& level = levels[depth];
            block.sync();
            for (unsigned w = block.thread(); w < (level.n_bytes + 3) / 4; w += block.n_threads()) {
                key_words[w] = word_of_key(words, level, w);
            }
            clear(block, nodes_at, 2 * (n_bits + 1));
            if (block.thread() == 0) shared.n_kept = 0;
            block.sync();
            each_candidate(block, depth, parents, n_parents, key_words,
                           [&](std::uint32_t node, unsigned score, unsigned) {
                               add_to(nodes_at + score, 1);
                               add_to(entries_at + score, entries_below(level, node));
                           });
            block.sync();
            if (block.thread() == 0) shared.cut = cut(depth, nodes_at, entries_at);
            block.sync();
            if (depth + 1 == n_levels) break;
            each_candidate(block, depth, parents, n_parents, key_words,
                           [&](std::uint32_t node, unsigned score, unsigned above) {
                               if (score <= shared.cut)
                                   kept[add_to(&shared.n_kept, 1)] = {node, score + (by_level() ? above : 0)};
                           });
            block.sync();
            n_parents = shared.n_kept;
            KeptNode* const read = parents;
            parents = kept;
            kept = read;
        }
        compare_codes(block, shared, parents, n_parents, key_words, words, nodes_at, query);
    }

 private:
    FASTHASH_DEVICE bool by_level() const { return mode == KeepMode::radius; }

    FASTHASH_DEVICE static void clear(const Block& block, std::uint32_t* counts, unsigned n) {
        for (unsigned i = block.thread(); i < n; i += block.n_threads()) counts[i] = 0;
    }

    FASTHASH_DEVICE static std::uint32_t word_of_key(const std::uint32_t* words, const LevelView& level, unsigned w) {
        std::uint32_t word = 0;
        for (unsigned b = 0; b < 4 && 4 * w + b < level.n_bytes; ++b) {
            const unsigned byte = level.offset + 4 * w + b;
            word |= (words[byte / 4] >> 8 * (byte % 4) & 0xff) << 8 * b;
        }
        return word;
    }

    FASTHASH_DEVICE std::uint32_t entries_below(const LevelView& level, std::uint32_t node) const {
        return runs.begins[level.row_begins[node + 1]] - runs.begins[level.row_begins[node]];
    }

    /// Calls visit(node, score, distance of the levels above) for the children of all parents; at depth 0 for all
    /// nodes. The score is the distance over the levels so far, or with by_level() on this level alone.
    template <typename Visit>
    FASTHASH_DEVICE void each_candidate(const Block& block, unsigned depth, const KeptNode* parents,
                                        std::uint32_t n_parents, const std::uint32_t* key_words,
                                        const Visit& visit) const {
        constexpr unsigned kLanes = 32;  // threads that visit the children of a node together
        const LevelView& level = levels[depth];
        if (depth == 0) {
            for (std::uint32_t node = block.thread(); node < level.n_nodes; node += block.n_threads()) {
                visit(node, difference(level, node, key_words), 0u);
            }
            return;
        }
        const std::uint32_t* const begins = levels[depth - 1].child_begins;
        const unsigned n_groups = block.n_threads() / kLanes != 0 ? block.n_threads() / kLanes : 1;
        for (std::uint32_t p = block.thread() / kLanes; p < n_parents; p += n_groups) {
            const KeptNode parent = parents[p];
            for (std::uint32_t node = begins[parent.node] + block.thread() % kLanes; node < begins[parent.node + 1];
                 node += kLanes) {
                visit(node, difference(level, node, key_words) + (by_level() ? 0 : parent.distance), parent.distance);
            }
        }
    }

    FASTHASH_DEVICE static unsigned difference(const LevelView& level, std::uint32_t node,
                                               const std::uint32_t* key_words) {
        int distance = 0;
        for (unsigned w = 0; w < (level.n_bytes + 3) / 4; ++w)
            distance += count_bits(level.keys.word(node, w) ^ key_words[w]);
        return static_cast<unsigned>(distance);
    }

    /// The smallest score up to which the counts add up to `needed`; n_bits if they never do.
    FASTHASH_DEVICE unsigned score_covering(const std::uint32_t* counts, double needed) const {
        double sum = 0;  // exact: integers far below 2^53
        for (unsigned score = 0; score <= n_bits; ++score) {
            sum += counts[score];
            if (sum >= needed) return score;
        }
        return n_bits;
    }

    FASTHASH_DEVICE unsigned cut(unsigned depth, const std::uint32_t* nodes_at, const std::uint32_t* entries_at) const {
        double n_candidates = 0;
        for (unsigned score = 0; score <= n_bits; ++score) n_candidates += nodes_at[score];
        unsigned score = 0;
        if (mode == KeepMode::node_ratio) score = score_covering(nodes_at, keep_at_least(keep, n_candidates));
        if (mode == KeepMode::gallery_ratio) {
            score = score_covering(entries_at, keep_at_least(keep, static_cast<double>(n_entries)));
        }
        if (mode == KeepMode::radius) {
            score = static_cast<unsigned>(keep_at_most(keep, static_cast<double>(levels[depth].n_bytes * 8)));
        }
        // The kept subtrees must hold k entries, so that the search can return k. No node is empty.
        const double needed = k;
        double n_near = 0;
        for (unsigned s = 0; s <= score && s <= n_bits; ++s) n_near += nodes_at[s];
        if (n_near >= needed) return score;
        const unsigned wider = score_covering(entries_at, needed);
        return score > wider ? score : wider;
    }

    /// Compare the codes below the kept nodes of the last level, nearest nodes first.
    FASTHASH_DEVICE void compare_codes(const Block& block, Shared& shared, const KeptNode* parents,
                                       std::uint32_t n_parents, const std::uint32_t* key_words,
                                       const std::uint32_t* words, std::uint32_t* counts, std::size_t query) const {
        const LevelView& level = levels[n_levels - 1];
        const unsigned largest = shared.cut;
        block.sync();
        clear(block, counts, n_bits + 1);  // number of entries found at each distance
        block.sync();
        for (unsigned lower = 0; lower <= n_bits; ++lower) {
            const std::uint64_t threshold = shared.threshold;
            if (pair_key(static_cast<int>(lower), 0) >= threshold || shared.full != 0) break;
            if (!by_level() && lower > largest) break;
            each_candidate(block, n_levels - 1, parents, n_parents, key_words,
                           [&](std::uint32_t node, unsigned score, unsigned above) {
                               if (score > largest || score + (by_level() ? above : 0) != lower) return;
                               for (std::uint32_t row = level.row_begins[node]; row < level.row_begins[node + 1];
                                    ++row) {
                                   read(row, words, threshold, counts, query);
                               }
                           });
            block.sync();
            if (block.thread() == 0) {
                shared.threshold = tightened(shared.threshold, counts, n_bits, k);
                if (found.counts[query] > found.capacity) shared.full = 1;
            }
            block.sync();
        }
        if (block.thread() == 0) overflowed[query] = static_cast<std::uint8_t>(shared.full);
    }

    FASTHASH_DEVICE void read(std::uint32_t row, const std::uint32_t* words, std::uint64_t threshold,
                              std::uint32_t* counts, std::size_t query) const {
        int distance = 0;
        for (unsigned w = 0; w < n_words; ++w) distance += count_bits(codes.word(row, w) ^ words[w]);
        if (distance > key_distance(threshold)) return;
        take_entries(runs, {nullptr}, row, distance, threshold, k, [&](std::uint64_t key) {
            found.push(query, key);
            add_to(counts + distance, 1);
        });
    }
};

}  // namespace fasthash::gpu
