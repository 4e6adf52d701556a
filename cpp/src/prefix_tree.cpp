#include "fasthash/prefix_tree.h"

#include <algorithm>
#include <cstring>

namespace fasthash {

PrefixTree::PrefixTree(const LevelLayout& layout) {
    levels_.reserve(layout.n_levels());
    for (std::size_t depth = 0; depth < layout.n_levels(); ++depth) {
        levels_.push_back({layout.level_bytes(depth), {}, {0}});
    }
}

std::size_t PrefixTree::nbytes() const {
    std::size_t bytes = levels_.capacity() * sizeof(TreeLevel) + ids_.capacity() * sizeof(std::int64_t);
    for (const TreeLevel& level : levels_) {
        bytes += level.keys.capacity() + level.child_begin.capacity() * sizeof(std::uint32_t);
    }
    return bytes;
}

NodeRange PrefixTree::items(std::size_t depth, std::size_t node) const {
    NodeRange range{node, node + 1};
    for (; depth < n_levels(); ++depth) {
        range = {levels_[depth].child_begin[range.begin], levels_[depth].child_begin[range.end]};
    }
    return range;
}

PrefixTreeBuilder::PrefixTreeBuilder(const LevelLayout& layout, std::size_t n_items) : layout_(layout), tree_(layout) {
    tree_.ids_.reserve(n_items);
}

bool PrefixTreeBuilder::append(const std::uint8_t* code, std::int64_t id) {
    std::size_t first_new = 0;  // first level at which the code leaves the path of the last one
    if (!last_.empty()) {
        const int order = std::memcmp(last_.data(), code, last_.size());
        if (order > 0 || (order == 0 && tree_.ids_.back() >= id)) return false;
        const auto byte =
            static_cast<std::size_t>(std::mismatch(last_.begin(), last_.end(), code).first - last_.begin());
        while (first_new < layout_.n_levels() && layout_.offset(first_new + 1) <= byte) ++first_new;
    }
    for (std::size_t depth = first_new; depth < layout_.n_levels(); ++depth) {
        TreeLevel& level = tree_.levels_[depth];
        const std::uint8_t* key = code + layout_.offset(depth);
        level.keys.insert(level.keys.end(), key, key + level.n_bytes);
        level.child_begin.push_back(level.child_begin.back());
        // The new node is one more child of its parent, which stands last at the depth above.
        if (depth > 0) ++tree_.levels_[depth - 1].child_begin.back();
    }
    ++tree_.levels_.back().child_begin.back();
    tree_.ids_.push_back(id);
    last_.assign(code, code + layout_.n_bytes());
    return true;
}

PrefixTree PrefixTreeBuilder::finish() {
    for (TreeLevel& level : tree_.levels_) {
        level.keys.shrink_to_fit();
        level.child_begin.shrink_to_fit();
    }
    return std::move(tree_);
}

PrefixTreeCursor::PrefixTreeCursor(const PrefixTree& tree) : tree_(&tree), node_(tree.n_levels(), 0) {
    for (std::size_t depth = 0; depth < tree.n_levels(); ++depth) {
        offset_.push_back(code_.size());
        code_.resize(code_.size() + tree.level(depth).n_bytes);
        if (!done()) load_key(depth);
    }
}

void PrefixTreeCursor::next() {
    ++item_;
    if (done()) return;
    // Move up while the next child lies beyond the current node.
    std::size_t child = item_;
    for (std::size_t depth = tree_->n_levels(); depth-- > 0;) {
        if (child < tree_->level(depth).child_begin[node_[depth] + 1]) return;
        child = ++node_[depth];
        load_key(depth);
    }
}

void PrefixTreeCursor::load_key(std::size_t depth) {
    const TreeLevel& level = tree_->level(depth);
    std::memcpy(code_.data() + offset_[depth], level.key(node_[depth]), level.n_bytes);
}

}  // namespace fasthash
