#include "search/safe_radius.h"

#include <algorithm>

#include "search/keep_rule.h"
#include "search/level_totals.h"

namespace fasthash {
namespace {

class SafeRadius {
 public:
    SafeRadius(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning)
        : tree_(tree),
          layout_(layout),
          pruning_(pruning),
          n_first_(tree.level(0).n_nodes),
          prepared_(layout.offset(1) * kernels().prepared_bytes),
          distances_(tree.level(0).n_groups() * kGroup),
          within_(layout.offset(1) * 8 + 1) {}

    std::int32_t of(const std::uint8_t* query) {
        const std::uint16_t all = NarrowTotals::kDropped;
        const std::vector<CodeRun> run{{0, static_cast<std::uint32_t>(n_first_), 0}};
        kernels().prepare(query, layout_.offset(1), prepared_.data());
        NarrowTotals::scan({prepared_.data(), tree_.level(0).prefixes.stored().data(), layout_.offset(1), run, layout_,
                            0, 1, &all, false},
                           distances_.data());
        if (pruning_.mode == KeepMode::gallery_ratio) {
            count_within([this](std::size_t node) { return tree_.entries_below(node); });
            return reached(kept(within_.back()));
        }
        count_within([](std::size_t) { return std::size_t{1}; });
        const std::int32_t cut = reached(kept(n_first_));
        std::int32_t radius = cut;
        std::size_t n_kept = 0;
        for (std::size_t depth = 1; depth < tree_.n_levels(); ++depth) {
            count_within([this, depth](std::size_t node) { return tree_.range(node, depth).size(); });
            // Each kept node has at least one node below it.
            n_kept = kept(depth == 1 ? within_[static_cast<std::size_t>(cut)] : n_kept);
            radius = std::min(radius, reached(n_kept));
        }
        return radius;
    }

 private:
    // Sums weights of the first-level nodes up to each distance.
    template <typename Weight>
    void count_within(Weight weight_of) {
        std::fill(within_.begin(), within_.end(), 0);
        for (std::size_t node = 0; node < n_first_; ++node) within_[distances_[node]] += weight_of(node);
        for (std::size_t d = 1; d < within_.size(); ++d) within_[d] += within_[d - 1];
    }
    // The smallest distance up to which nodes have this weight.
    std::int32_t reached(std::size_t weight) const {
        return static_cast<std::int32_t>(std::lower_bound(within_.begin(), within_.end() - 1, weight) -
                                         within_.begin());
    }
    std::size_t kept(std::size_t n) const {
        return static_cast<std::size_t>(keep_at_least(pruning_.keep, static_cast<double>(n)));
    }

    const LevelTree& tree_;
    const LevelLayout& layout_;
    const Pruning& pruning_;
    const std::size_t n_first_;
    Array<std::uint8_t> prepared_;
    Array<std::uint8_t> distances_;    // of the query to each first-level node
    std::vector<std::size_t> within_;  // weight of the first-level nodes up to each distance
};

}  // namespace

std::vector<std::int32_t> safe_radii(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
                                     CodeView queries) {
    if (!tree.is_coarse() || layout.offset(1) > kMostPartBytes) return {};
    if (pruning.mode == KeepMode::radius) {
        auto radius = static_cast<std::int32_t>(layout.n_bytes() * 8);
        for (std::size_t depth = 0; depth < tree.n_levels(); ++depth) {
            const double n_bits = static_cast<double>(layout.level_bytes(depth) * 8);
            radius = std::min(radius, static_cast<std::int32_t>(keep_at_most(pruning.keep, n_bits)));
        }
        return std::vector<std::int32_t>(queries.n, radius);
    }
    SafeRadius safe(tree, layout, pruning);
    std::vector<std::int32_t> radii(queries.n);
    for (std::size_t q = 0; q < queries.n; ++q) radii[q] = safe.of(queries.row(q));
    return radii;
}

}  // namespace fasthash
