// The multi-level index: searched exactly by whichever plan suits the codes, or pruned as HDHash does (ICPR 2020).
#pragma once

#include "fasthash/index.h"

namespace fasthash {

/// What the index may spend for speed, all included. Beyond a plain copy of the codes only what pays is taken.
enum class Memory : std::uint8_t {
    standard,  ///< up to twice the bytes of the codes
    compact,   ///< as little as possible: codes lose the bytes that their place tells
    fast,      ///< up to six times the bytes of the codes
};

class HierIndex final : public Index {
 public:
    /// `plan`: what the exact search does; nothing lets the index choose by its codes.
    explicit HierIndex(LevelLayout layout, Memory memory = Memory::standard, std::optional<Plan> plan = std::nullopt)
        : Index(std::move(layout)), memory_(memory), forced_plan_(plan) {}

    IndexKind kind() const override { return IndexKind::hier; }
    Memory memory() const { return memory_; }
    std::optional<Plan> forced_plan() const { return forced_plan_; }

    struct Shape {
        Plan plan;              ///< of the first segment, which holds most of the codes
        std::size_t n_parts;    ///< 0 for a scan, 1 for a prefix
        std::size_t part_bits;  ///< of each part
        std::vector<std::size_t>
            nodes_per_level;  ///< distinct prefixes of whole levels; at the last level distinct codes
    };
    Shape shape() const;

 protected:
    LiveSegment build(const std::vector<LiveSegment>& parts, const NewItems& items, const Segment* first,
                      Stopper& stopper) const override;
    void search_pruned(const Pruning& pruning, const IdFilter* filter, const SearchTask& task,
                       Stopper& stopper) const override;
    std::unique_ptr<Index> empty_copy() const override;
    IndexSettings settings() const override;

 private:
    Memory memory_;
    std::optional<Plan> forced_plan_;
};

}  // namespace fasthash
