// The multi-level index: a prefix tree, searched exactly by lower bounds or pruned as HDHash does (ICPR 2020).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "fasthash/index.h"
#include "fasthash/prefix_tree.h"

namespace fasthash {

class HierIndex final : public Index {
 public:
    explicit HierIndex(LevelLayout layout) : Index(layout), tree_(layout) {}

    /// Take over a tree whose ids are distinct and none -1. Throws ArgumentError.
    static std::unique_ptr<HierIndex> from_tree(LevelLayout layout, PrefixTree tree);

    IndexKind kind() const override { return IndexKind::hier; }
    /// Nodes per level; at the last one the distinct codes.
    std::vector<std::size_t> nodes_per_level() const;

 protected:
    std::size_t do_size() const override { return tree_.n_items(); }
    std::size_t do_nbytes() const override { return tree_.nbytes(); }
    void do_add(CodeView codes, const std::int64_t* ids) override;
    void do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, std::int32_t* distances,
                   std::int64_t* ids, QueryStats* stats) const override;
    void do_save(const std::string& path) const override;

 private:
    PrefixTree tree_;
    std::uint64_t next_id_ = 0;
};

}  // namespace fasthash
