#include "search/safe_cuts.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "search/keep_rule.h"
#include "search/level_totals.h"
#include "search/tree_levels.h"

namespace fasthash {
namespace {

// Bounds the cuts of one query after the other, for the modes that keep a share of the nodes or of the entries.
class CutBounds {
 public:
    CutBounds(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning, std::size_t k)
        : tree_(tree),
          layout_(layout),
          keep_(pruning.keep),
          by_entries_(pruning.mode == KeepMode::gallery_ratio),
          k_(k),
          prepared_(layout.offset(1) * kernels().prepared_bytes),
          distances_(tree.level(0).n_groups() * kGroup),
          n_distances_(layout.offset(1) * 8 + 1),
          added_(n_distances_) {}

    // Sets the bounds; false if fewer than k entries are within that of the first level.
    bool find(const std::uint8_t* query, std::uint16_t* cuts) {
        const bool holds_sums = !tree_.near_weights().empty();
        if (!holds_sums || !tree_.near_nodes().empty() || tree_.n_levels() > 2) compare(query);
        if (holds_sums) {
            sums_ = tree_.near_weights().at(query[0]);
        } else {
            add_up();
        }
        cuts[0] = first_cut();
        if (sums_[cuts[0]].n_entries < k_) return false;
        if (by_entries_) {
            find_by_entries(query, cuts);
        } else {
            find_by_nodes(query, cuts);
        }
        return true;
    }

 private:
    // Sets the distances to the first-level nodes.
    void compare(const std::uint8_t* query) {
        const LevelNodes& first = tree_.level(0);
        const CodeRun all{0, static_cast<std::uint32_t>(first.n_nodes), 0};
        const std::uint16_t any = NarrowTotals::kDropped;
        kernels().prepare(query, layout_.offset(1), prepared_.data());
        NarrowTotals::scan(
            {prepared_.data(), first.prefixes.stored().data(), layout_.offset(1), &all, 1, layout_, 0, 1, &any, false},
            distances_.data());
    }

    // Sets the sums of the weights of the first-level nodes up to each distance.
    void add_up() {
        std::fill(added_.begin(), added_.end(), Weights{});
        const Weights* weights = tree_.weights().data();
        for (std::size_t node = 0; node < tree_.level(0).n_nodes; ++node) added_[distances_[node]].add(weights[node]);
        for (std::size_t d = 1; d < n_distances_; ++d) added_[d].add(added_[d - 1]);
        sums_ = added_.data();
    }

    std::uint16_t first_cut() const {
        const std::size_t needed = nodes_kept(keep_, by_entries_ ? tree_.n_entries() : tree_.level(0).n_nodes);
        return smallest(needed, [this](std::size_t d) { return by_entries_ ? sums_[d].n_entries : sums_[d].n_nodes; });
    }

    void find_by_entries(const std::uint8_t* query, std::uint16_t* cuts) const {
        const std::size_t needed = nodes_kept(keep_, tree_.n_entries());
        const double n_more = static_cast<double>(tree_.n_entries() - tree_.last().n_nodes);
        // Where a node has several entries, all but one of them count as near as the first level is.
        const auto others = [this, cuts](std::size_t d) {
            const Weights& sums = sums_[std::min<std::size_t>(d, cuts[0])];
            return sums.n_entries - sums.n_below;
        };
        for (std::size_t depth = 1; depth < tree_.n_levels(); ++depth) {
            cuts[depth] = cuts[depth - 1];  // each level keeps as many entries, and totals only grow
            if (depth == 1) raise_by_next_byte(query, cuts[0], needed, others, cuts[1]);
            raise_by_moments(query, depth, static_cast<double>(needed) - n_more, cuts[depth]);
        }
    }

    void find_by_nodes(const std::uint8_t* query, std::uint16_t* cuts) const {
        std::size_t n_kept = nodes_kept(keep_, sums_[cuts[0]].n_below);
        if (tree_.n_levels() == 1) return;
        cuts[1] = smallest(n_kept, [this](std::size_t d) { return sums_[d].n_below; });
        raise_by_next_byte(query, cuts[0], n_kept, [](std::size_t) { return 0; }, cuts[1]);
        raise_by_moments(query, 1, static_cast<double>(n_kept), cuts[1]);
        for (std::size_t depth = 2; depth < tree_.n_levels(); ++depth) {
            n_kept = nodes_kept(keep_, n_kept);  // each kept node has at least one node below it
            const std::vector<std::size_t> sums = nodes_within(depth);
            cuts[depth] = smallest(n_kept, [&](std::size_t d) { return sums[d]; });
            raise_by_moments(query, depth, static_cast<double>(n_kept), cuts[depth]);
        }
    }

    // The smallest distance on the first level up to which the sum is what is needed, or the largest distance.
    template <typename Sum>
    std::uint16_t smallest(std::size_t needed, Sum sum_within) const {
        std::uint16_t d = 0;
        while (d + 1u < n_distances_ && sum_within(d) < needed) ++d;
        return d;
    }
    // Nodes of a level below the first-level nodes up to each distance.
    std::vector<std::size_t> nodes_within(std::size_t depth) const {
        std::vector<std::size_t> sums(n_distances_);
        const std::size_t n_first = tree_.level(0).n_nodes;
        for (std::size_t node = 0; node < n_first; ++node) sums[distances_[node]] += tree_.range(node, depth).size();
        std::partial_sum(sums.begin(), sums.end(), sums.begin());
        return sums;
    }

    // Raises the bound of the second level to the smallest distance over the first level and the byte after it up to
    // which there are as many nodes as needed below kept first-level nodes, if `others` are added up to each distance.
    template <typename Others>
    void raise_by_next_byte(const std::uint8_t* query, std::size_t first_cut, std::size_t needed, Others others,
                            std::uint16_t& bound) const {
        if (tree_.near_nodes().empty()) return;
        constexpr std::size_t kDistances = NearNodes::kDistances;
        std::uint32_t at[kDistances][kDistances] = {};  // by the distance on the first level, and on the byte
        const std::uint32_t* counts = tree_.near_nodes().at(query[layout_.offset(1)]);
        const std::size_t last = std::min(first_cut, kDistances - 1), n_first = tree_.level(0).n_nodes;
        for (std::size_t node = 0; node < n_first; ++node, counts += kDistances) {
            if (distances_[node] > last) continue;
            for (std::size_t t = 0; t < kDistances; ++t) at[distances_[node]][t] += counts[t];
        }
        std::size_t sum = 0;
        std::uint16_t d = 0;
        for (; d < kDistances; ++d) {
            for (std::size_t first = 0; first <= d; ++first) sum += at[first][d - first];
            if (sum + others(d) >= needed) break;
        }
        bound = std::max(bound, d);
    }

    // Raises the bound of a level to one by the moments of the distances to the nodes: no larger than the smallest
    // distance over all levels so far within which as many of them are as needed.
    void raise_by_moments(const std::uint8_t* query, std::size_t depth, double needed, std::uint16_t& bound) const {
        const std::size_t n_bytes = layout_.offset(depth + 1);
        if (needed <= 0 || tree_.moments().mean(query, n_bytes) <= bound) return;
        const double radius = tree_.moments().of(query, n_bytes).least_radius(needed);
        bound = std::max(bound, static_cast<std::uint16_t>(std::ceil(radius)));
    }

    const LevelTree& tree_;
    const LevelLayout& layout_;
    const double keep_;
    const bool by_entries_;
    const std::size_t k_;
    Array<std::uint8_t> prepared_;
    Array<std::uint8_t> distances_;  // of the query to each first-level node
    const std::size_t n_distances_;  // on the first level
    std::vector<Weights> added_;
    const Weights* sums_ = nullptr;  // of the first-level nodes up to each distance
};

}  // namespace

SafeCuts::SafeCuts(const LevelLayout& layout, std::size_t n_levels, std::size_t n_exact, bool by_level,
                   std::size_t n_queries)
    : layout_(&layout),
      n_levels_(n_levels),
      n_exact_(n_exact),
      by_level_(by_level),
      cuts_(n_queries * n_levels),
      radii_(n_queries) {}

SafeCuts SafeCuts::bounds(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning, CodeView queries,
                          std::size_t k, bool scans) {
    const std::size_t n_levels = tree.n_levels();
    if (!tree.is_coarse() || layout.offset(n_levels) > kMostPartBytes) return {};
    const bool by_level = pruning.mode == KeepMode::radius;
    if (scans && !by_level && !tree.suits_bounds()) return {};
    SafeCuts bounds(layout, n_levels, by_level ? n_levels : 1, by_level, queries.n);
    if (by_level) {
        for (std::size_t i = 0; i < bounds.cuts_.size(); ++i) {
            bounds.cuts_[i] = static_cast<std::uint16_t>(bits_kept(pruning.keep, layout.level_bytes(i % n_levels) * 8));
        }
        for (std::size_t q = 0; q < queries.n; ++q) bounds.radii_[q] = bounds.smallest_cut(q);
    } else {
        CutBounds of_query(tree, layout, pruning, k);
        for (std::size_t q = 0; q < queries.n; ++q) {
            const bool has_k = of_query.find(queries.row(q), &bounds.cuts_[q * n_levels]);
            bounds.radii_[q] = has_k ? bounds.smallest_cut(q) : -1;
        }
    }
    return bounds;
}

SafeCuts SafeCuts::exact(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout,
                         const Pruning& pruning, CodeView queries, std::size_t k) {
    const std::size_t n_levels = tree.n_levels();
    if (layout.offset(n_levels) > kMostPartBytes) return {};
    SafeCuts exact(layout, n_levels, n_levels, pruning.mode == KeepMode::radius, queries.n);
    std::vector<std::uint16_t> guesses = tree.likely_cuts();
    TreeLevels<NarrowTotals> levels(codes, tree, layout, pruning, guesses, false);
    Array<std::uint8_t> prepared(layout.n_bytes() * kernels().prepared_bytes);
    for (std::size_t q = 0; q < queries.n; ++q) {
        kernels().prepare(queries.row(q), layout.n_bytes(), prepared.data());
        levels.start(queries.row(q), prepared.data(), nullptr, k);
        for (std::size_t depth = 0; depth < n_levels; ++depth) {
            levels.compare({0, levels.compared(depth).n_groups()});
            levels.settle();
        }
        std::copy_n(levels.cuts().begin(), n_levels, &exact.cuts_[q * n_levels]);
        exact.radii_[q] = exact.smallest_cut(q);
    }
    tree.note_cuts(guesses);
    return exact;
}

// A code is kept if it is no farther than the smallest cut.
std::int32_t SafeCuts::smallest_cut(std::size_t query) const {
    const std::uint16_t* cuts = cuts_.data() + query * n_levels_;
    return *std::min_element(cuts, cuts + n_levels_);
}

Fate SafeCuts::fate(std::size_t query, const std::uint8_t* query_code, const std::uint8_t* group, std::size_t i) const {
    unsigned total;
    const LevelCuts cuts{*layout_, cuts_.data() + query * n_levels_, n_levels_, by_level_};
    const std::size_t beyond = cuts.first_beyond(query_code, group, i, total);
    return beyond == n_levels_ ? Fate::kept : beyond < n_exact_ ? Fate::dropped : Fate::unknown;
}

SafeCuts::Parts SafeCuts::parts(std::size_t query) const {
    Parts comparison{{}, n_exact_ + 1, by_level_};
    for (std::size_t depth = 0; depth < n_exact_; ++depth) {
        const std::uint16_t cut = cuts_[query * n_levels_ + depth];
        comparison.parts[depth] = {layout_->offset(depth), layout_->level_bytes(depth), static_cast<std::uint8_t>(cut)};
    }
    const std::size_t rest = layout_->offset(n_exact_);
    comparison.parts[n_exact_] = {rest, layout_->n_bytes() - rest, kDropped};
    return comparison;
}

}  // namespace fasthash
