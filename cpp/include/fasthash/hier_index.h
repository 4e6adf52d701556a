// HierIndex: exact search by the cheapest plan for its codes, or HDHash's pruned search over levels (ICPR 2020).
#pragma once

#include "fasthash/index.h"

namespace fasthash {

class HierIndex final : public Index {
 public:
    /// `plan`: forces an exact search plan; empty lets the index choose. With Metric::jaccard the index has one level
    /// and no plan, and `memory` has no effect. Throws ArgumentError for others.
    explicit HierIndex(LevelLayout layout, Memory memory = Memory::standard, std::optional<Plan> plan = std::nullopt,
                       Metric metric = Metric::hamming);

    Memory memory() const;
    std::optional<Plan> forced_plan() const;

    struct Shape {
        Plan plan;                   ///< of the first segment, which holds most of the codes
        std::size_t n_substrings;    ///< 0 for a scan and for clusters, 1 for a prefix
        std::size_t substring_bits;  ///< of each substring
        std::size_t n_clusters;      ///< 0 unless the plan is clusters
        /// Distinct prefixes of whole levels; at the last level distinct codes.
        std::vector<std::size_t> nodes_per_level;
    };
    Shape shape() const;

 private:
    friend class Index;

    explicit HierIndex(std::unique_ptr<Impl> impl);
};

}  // namespace fasthash
