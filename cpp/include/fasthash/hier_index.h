// The multi-level index: searched exactly by whichever plan suits the codes, or pruned as HDHash does (ICPR 2020).
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "fasthash/index.h"

namespace fasthash {

/// What the index may spend for speed, all included. Beyond a plain copy of the codes only what pays is taken.
enum class Memory : std::uint8_t {
    standard,  ///< up to twice the bytes of the codes
    compact,   ///< as little as possible: codes lose the bytes that their place tells
    fast,      ///< up to six times the bytes of the codes
};

class PartIndex;
class LevelTree;
class SortedCodes;

class HierIndex final : public Index {
 public:
    /// `plan`: what the exact search does; nothing lets the index choose by its codes.
    explicit HierIndex(LevelLayout layout, Memory memory = Memory::standard, std::optional<Plan> plan = std::nullopt);
    ~HierIndex() override;

    /// Hold these codes from now on. Their ids are distinct, none is -1, and all are below `next_id`.
    void adopt(SortedCodes codes, std::uint64_t next_id);

    IndexKind kind() const override { return IndexKind::hier; }
    Memory memory() const { return memory_; }

    struct Shape {
        Plan plan;
        std::size_t n_parts;    ///< 0 for a scan, 1 for a prefix
        std::size_t part_bits;  ///< of each part
        std::vector<std::size_t>
            nodes_per_level;  ///< distinct prefixes of whole levels; at the last level distinct codes
    };
    Shape shape() const;

 protected:
    std::size_t do_size() const override;
    std::size_t do_nbytes() const override;
    void do_add(CodeView codes, const std::int64_t* ids) override;
    void do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, std::int32_t* distances,
                   std::int64_t* ids, QueryStats* stats, Stopper& stopper) const override;
    void do_save(const std::string& path) const override;

 private:
    const LevelTree& level_tree() const;

    Memory memory_;
    std::optional<Plan> forced_plan_;
    std::unique_ptr<PartIndex> parts_;
    Plan plan_ = Plan::scan;
    double plan_cost_ = 0;  // of a query, as the planner weighed it
    std::uint64_t next_id_ = 0;
    mutable std::mutex level_tree_mutex_;
    mutable std::unique_ptr<LevelTree> level_tree_;  // made by the first pruned search
};

}  // namespace fasthash
