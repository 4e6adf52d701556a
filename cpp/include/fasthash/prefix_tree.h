// Distinct code prefixes as a tree: one node per distinct prefix of whole levels, equal codes stored once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "fasthash/codes.h"

namespace fasthash {

/// The nodes of one depth, in the order of their prefixes. The children of node i are the nodes
/// child_begin[i] .. child_begin[i + 1] of the next depth; at the last depth they are rows of the tree's ids.
struct TreeLevel {
    std::size_t n_bytes;                     // width of one key
    std::vector<std::uint8_t> keys;          // this level's part of the code, per node
    std::vector<std::uint32_t> child_begin;  // one more than there are nodes

    std::size_t n_nodes() const { return child_begin.size() - 1; }
    const std::uint8_t* key(std::size_t node) const { return keys.data() + node * n_bytes; }
};

/// A half-open range of nodes of one depth, or of rows of ids.
struct NodeRange {
    std::size_t begin;
    std::size_t end;
    std::size_t size() const { return end - begin; }
};

class PrefixTree {
 public:
    explicit PrefixTree(const LevelLayout& layout);

    std::size_t n_levels() const { return levels_.size(); }
    const TreeLevel& level(std::size_t depth) const { return levels_[depth]; }
    std::size_t n_items() const { return ids_.size(); }
    const std::vector<std::int64_t>& ids() const { return ids_; }
    std::size_t nbytes() const;

    /// Children of the (nameless) root: all nodes of the first level.
    NodeRange roots() const { return {0, levels_.front().n_nodes()}; }
    NodeRange children(std::size_t depth, std::size_t node) const {
        const auto& begin = levels_[depth].child_begin;
        return {begin[node], begin[node + 1]};
    }
    /// Rows of ids() in the subtree of a node.
    NodeRange items(std::size_t depth, std::size_t node) const;

    /// Largest number of items, by the width of the offsets.
    static constexpr std::size_t kMaxItems = UINT32_MAX;

 private:
    friend class PrefixTreeBuilder;
    std::vector<TreeLevel> levels_;
    std::vector<std::int64_t> ids_;
};

/// Builds a tree from items that arrive in the order of (code, id).
class PrefixTreeBuilder {
 public:
    explicit PrefixTreeBuilder(const LevelLayout& layout, std::size_t n_items);

    /// False, and nothing added, if the item does not come after the last one.
    bool append(const std::uint8_t* code, std::int64_t id);
    PrefixTree finish();

 private:
    LevelLayout layout_;
    PrefixTree tree_;
    std::vector<std::uint8_t> last_;
};

/// Walks the items of a tree in the order of (code, id).
class PrefixTreeCursor {
 public:
    explicit PrefixTreeCursor(const PrefixTree& tree);

    bool done() const { return item_ == tree_->n_items(); }
    const std::uint8_t* code() const { return code_.data(); }
    std::int64_t id() const { return tree_->ids()[item_]; }
    void next();

 private:
    void load_key(std::size_t depth);

    const PrefixTree* tree_;
    std::size_t item_ = 0;
    std::vector<std::size_t> node_;    // current node of each depth
    std::vector<std::size_t> offset_;  // first byte of each level
    std::vector<std::uint8_t> code_;
};

}  // namespace fasthash
