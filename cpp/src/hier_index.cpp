#include "fasthash/hier_index.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "fasthash/topk.h"
#include "file_format.h"
#include "hier_search.h"

namespace fasthash {

std::unique_ptr<HierIndex> HierIndex::from_tree(LevelLayout layout, PrefixTree tree) {
    ids_to_add(tree.ids().data(), tree.n_items(), 0, {});  // for its checks
    auto index = std::make_unique<HierIndex>(std::move(layout));
    index->next_id_ = next_after(0, tree.ids());
    index->tree_ = std::move(tree);
    return index;
}

std::vector<std::size_t> HierIndex::nodes_per_level() const {
    const auto lock = read_lock();
    std::vector<std::size_t> nodes;
    for (std::size_t depth = 0; depth < tree_.n_levels(); ++depth) nodes.push_back(tree_.level(depth).n_nodes());
    return nodes;
}

// Sorts the new items, then merges them with the old ones into a new tree; the old one stays until that succeeded.
void HierIndex::do_add(CodeView codes, const std::int64_t* given) {
    if (codes.n > PrefixTree::kMaxItems - tree_.n_items()) {
        throw ArgumentError("codes must leave the index with at most " + std::to_string(PrefixTree::kMaxItems) +
                            " codes, got " + std::to_string(codes.n) + " more to " + std::to_string(tree_.n_items()));
    }
    // A copy: sorting must not rest on memory that another thread of the caller may change meanwhile.
    const std::vector<std::uint8_t> copy(codes.data, codes.data + codes.n * codes.n_bytes);
    codes.data = copy.data();
    const std::vector<std::int64_t> ids = ids_to_add(given, codes.n, next_id_, tree_.ids());
    const auto precedes = [&codes](const std::uint8_t* a, std::int64_t id_a, const std::uint8_t* b, std::int64_t id_b) {
        const int order = std::memcmp(a, b, codes.n_bytes);
        return order != 0 ? order < 0 : id_a < id_b;
    };
    std::vector<std::uint32_t> order(codes.n);
    std::iota(order.begin(), order.end(), 0u);
    std::sort(order.begin(), order.end(),
              [&](std::uint32_t a, std::uint32_t b) { return precedes(codes.row(a), ids[a], codes.row(b), ids[b]); });

    PrefixTreeBuilder builder(layout(), tree_.n_items() + codes.n);
    PrefixTreeCursor old(tree_);
    for (const std::uint32_t row : order) {
        for (; !old.done() && precedes(old.code(), old.id(), codes.row(row), ids[row]); old.next()) {
            builder.append(old.code(), old.id());
        }
        builder.append(codes.row(row), ids[row]);
    }
    for (; !old.done(); old.next()) builder.append(old.code(), old.id());
    tree_ = builder.finish();
    next_id_ = next_after(next_id_, ids);
}

void HierIndex::do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                          std::int32_t* distances, std::int64_t* ids, QueryStats* stats) const {
    TopK nearest(k, layout().n_bits());
    ExactTreeSearch exact(tree_, layout());
    PrunedTreeSearch pruned(tree_, layout(), pruning.value_or(Pruning{1}));
    for (std::size_t q = 0; q < queries.n; ++q) {
        nearest.clear();
        const QueryStats work = pruning ? pruned.run(queries.row(q), k, nearest) : exact.run(queries.row(q), nearest);
        nearest.write(distances + q * k, ids + q * k);
        if (stats != nullptr) stats[q] = work;
    }
}

void HierIndex::do_save(const std::string& path) const {
    IndexWriter writer(path, {IndexKind::hier, layout(), tree_.n_items(), true});
    for (PrefixTreeCursor item(tree_); !item.done(); item.next()) writer.codes(item.code(), layout().n_bytes());
    writer.ids(tree_.ids().data(), tree_.n_items());
    writer.finish();
}

}  // namespace fasthash
