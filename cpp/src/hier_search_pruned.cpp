#include <algorithm>
#include <cmath>

#include "hier_search.h"

namespace fasthash {
namespace {

// keep * total as people mean it: 0.29 of 100 is 29, though the product in binary falls short of it.
constexpr double kRounding = 1e-12;

std::size_t share_up(double keep, std::size_t total) {
    return static_cast<std::size_t>(std::ceil(keep * static_cast<double>(total) * (1 - kRounding)));
}

std::size_t share_down(double keep, std::size_t total) {
    return static_cast<std::size_t>(std::floor(keep * static_cast<double>(total) * (1 + kRounding)));
}

// Smallest score up to which the counts reach `needed`; the largest score if they never do. Equal scores stay together,
// so that the result does not depend on the order of the nodes.
std::size_t reach(const std::vector<std::size_t>& counts, std::size_t needed) {
    std::size_t sum = 0;
    for (std::size_t score = 0; score < counts.size(); ++score) {
        sum += counts[score];
        if (sum >= needed) return score;
    }
    return counts.size() - 1;
}

}  // namespace

PrunedTreeSearch::PrunedTreeSearch(const PrefixTree& tree, const LevelLayout& layout, Pruning pruning)
    : tree_(tree), layout_(layout), pruning_(pruning), nodes_at_(layout.n_bits() + 1), items_at_(layout.n_bits() + 1) {}

QueryStats PrunedTreeSearch::run(const std::uint8_t* query, std::size_t k, TopK& nearest) {
    QueryStats stats;
    stats.nodes_visited = 1;  // the root
    candidates_.clear();
    compare(query, 0, tree_.roots(), 0);
    for (std::size_t depth = 0; depth + 1 < tree_.n_levels(); ++depth) {
        const std::int32_t largest = cut(depth, k);
        kept_.clear();
        for (const Candidate& candidate : candidates_) {
            if (candidate.score <= largest) kept_.push_back(candidate);
        }
        stats.nodes_visited += static_cast<std::int64_t>(kept_.size());
        candidates_.clear();
        for (const Candidate& parent : kept_) {
            compare(query, depth + 1, tree_.children(depth, parent.node), parent.distance);
        }
    }
    stats.codes_compared = static_cast<std::int64_t>(candidates_.size());
    for (const Candidate& code : candidates_) {
        if (code.distance > nearest.limit()) continue;
        const NodeRange items = tree_.items(tree_.n_levels() - 1, code.node);
        for (std::size_t item = items.begin; item < items.end; ++item) nearest.push(code.distance, tree_.ids()[item]);
    }
    return stats;
}

void PrunedTreeSearch::compare(const std::uint8_t* query, std::size_t depth, NodeRange nodes,
                               std::int32_t parent_distance) {
    const TreeLevel& level = tree_.level(depth);
    for (std::size_t begin = nodes.begin; begin < nodes.end; begin += kHammingBlock) {
        const std::size_t n_block = std::min(kHammingBlock, nodes.end - begin);
        hamming_distances(query + layout_.offset(depth), level.key(begin), n_block, level.n_bytes, block_.data());
        for (std::size_t i = 0; i < n_block; ++i) {
            const std::int32_t distance = parent_distance + block_[i];
            candidates_.push_back({begin + i, distance, pruning_.mode == KeepMode::radius ? block_[i] : distance});
        }
    }
}

std::int32_t PrunedTreeSearch::cut(std::size_t depth, std::size_t k) {
    std::fill(nodes_at_.begin(), nodes_at_.end(), 0);
    std::fill(items_at_.begin(), items_at_.end(), 0);
    for (const Candidate& candidate : candidates_) {
        const auto score = static_cast<std::size_t>(candidate.score);
        ++nodes_at_[score];
        items_at_[score] += tree_.items(depth, candidate.node).size();
    }
    std::size_t score = 0;
    switch (pruning_.mode) {
        case KeepMode::node_ratio:
            score = reach(nodes_at_, share_up(pruning_.keep, candidates_.size()));
            break;
        case KeepMode::gallery_ratio:
            score = reach(items_at_, share_up(pruning_.keep, tree_.n_items()));
            break;
        case KeepMode::radius:
            score = share_down(pruning_.keep, layout_.level_bytes(depth) * 8);
            break;
    }
    // Whatever the mode, the subtrees kept must hold k codes, so that the search can return k.
    return static_cast<std::int32_t>(std::max(score, reach(items_at_, std::min(k, tree_.n_items()))));
}

}  // namespace fasthash
