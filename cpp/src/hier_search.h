// The two ways through a prefix tree. Both keep the memory they need between queries.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "fasthash/hamming.h"
#include "fasthash/index.h"
#include "fasthash/prefix_tree.h"
#include "fasthash/topk.h"

namespace fasthash {

/// Exact: the distance summed over the levels read so far is a lower bound for all codes below a node, so nodes are
/// opened in the order of that bound until it passes the k-th distance. Nodes at the k-th distance itself are opened
/// too: a code of equal distance enters by a smaller id.
class ExactTreeSearch {
 public:
    ExactTreeSearch(const PrefixTree& tree, const LevelLayout& layout);
    QueryStats run(const std::uint8_t* query, TopK& nearest);

 private:
    struct Node {
        std::uint32_t depth;
        std::uint32_t index;
    };

    // Compare the nodes of one depth under a parent whose bound is `bound`: codes at the last depth enter `nearest`,
    // other nodes queue up.
    void compare(const std::uint8_t* query, std::size_t depth, NodeRange nodes, std::int32_t bound, TopK& nearest,
                 QueryStats& stats);

    const PrefixTree& tree_;
    const LevelLayout& layout_;
    std::vector<std::vector<Node>> queue_;  // waiting nodes by lower bound
    std::array<std::int32_t, kHammingBlock> block_;
};

/// HDHash's coarse-to-fine search (ICPR 2020): level by level, only the most promising nodes stay in the race. Never
/// returns fewer than k codes if the tree holds them.
class PrunedTreeSearch {
 public:
    PrunedTreeSearch(const PrefixTree& tree, const LevelLayout& layout, Pruning pruning);
    QueryStats run(const std::uint8_t* query, std::size_t k, TopK& nearest);

 private:
    struct Candidate {
        std::size_t node;
        std::int32_t distance;  // summed over the levels up to this one
        std::int32_t score;     // what the cut is applied to
    };

    // Candidates of one depth: the children of the kept nodes of the depth above.
    void compare(const std::uint8_t* query, std::size_t depth, NodeRange nodes, std::int32_t parent_distance);
    // The largest score that stays in the race.
    std::int32_t cut(std::size_t depth, std::size_t k);

    const PrefixTree& tree_;
    const LevelLayout& layout_;
    Pruning pruning_;
    std::vector<Candidate> kept_;
    std::vector<Candidate> candidates_;
    std::vector<std::size_t> nodes_at_;  // candidates per score
    std::vector<std::size_t> items_at_;  // codes in their subtrees per score
    std::array<std::int32_t, kHammingBlock> block_;
};

}  // namespace fasthash
