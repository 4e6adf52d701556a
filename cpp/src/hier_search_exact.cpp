#include <algorithm>

#include "hier_search.h"

namespace fasthash {

ExactTreeSearch::ExactTreeSearch(const PrefixTree& tree, const LevelLayout& layout)
    : tree_(tree), layout_(layout), queue_(layout.n_bits() + 1) {}

QueryStats ExactTreeSearch::run(const std::uint8_t* query, TopK& nearest) {
    QueryStats stats;
    stats.nodes_visited = 1;  // the root
    compare(query, 0, tree_.roots(), 0, nearest, stats);
    std::int32_t bound = 0;
    for (; bound <= nearest.limit(); ++bound) {
        auto& waiting = queue_[static_cast<std::size_t>(bound)];
        while (!waiting.empty()) {
            const Node node = waiting.back();
            waiting.pop_back();
            ++stats.nodes_visited;
            compare(query, node.depth + 1, tree_.children(node.depth, node.index), bound, nearest, stats);
        }
    }
    for (auto i = static_cast<std::size_t>(bound); i < queue_.size(); ++i) queue_[i].clear();
    return stats;
}

void ExactTreeSearch::compare(const std::uint8_t* query, std::size_t depth, NodeRange nodes, std::int32_t bound,
                              TopK& nearest, QueryStats& stats) {
    const TreeLevel& level = tree_.level(depth);
    const bool last = depth + 1 == tree_.n_levels();
    if (last) stats.codes_compared += static_cast<std::int64_t>(nodes.size());
    for (std::size_t begin = nodes.begin; begin < nodes.end; begin += kHammingBlock) {
        const std::size_t n_block = std::min(kHammingBlock, nodes.end - begin);
        hamming_distances(query + layout_.offset(depth), level.key(begin), n_block, level.n_bytes, block_.data());
        for (std::size_t i = 0; i < n_block; ++i) {
            const std::int32_t distance = bound + block_[i];
            if (distance > nearest.limit()) continue;
            const std::size_t node = begin + i;
            if (last) {
                const NodeRange items = tree_.children(depth, node);
                for (std::size_t item = items.begin; item < items.end; ++item)
                    nearest.push(distance, tree_.ids()[item]);
            } else {
                queue_[static_cast<std::size_t>(distance)].push_back(
                    {static_cast<std::uint32_t>(depth), static_cast<std::uint32_t>(node)});
            }
        }
    }
}

}  // namespace fasthash
