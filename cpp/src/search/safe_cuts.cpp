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
          pruning_(pruning),
          k_(k),
          n_first_(tree.level(0).n_nodes),
          has_near_nodes_(!tree.near_nodes().empty()),
          prepared_(layout.offset(1) * kernels().prepared_bytes),
          distances_(tree.level(0).n_groups() * kGroup),
          sums_(layout.offset(1) * 8 + 1) {
        for (const Weights& weights : tree.weights()) n_entries_ += weights.n_entries;
    }

    // Sets the bounds; false if fewer than k entries are within that of the first level.
    bool find(const std::uint8_t* query, std::uint16_t* cuts) {
        compare(query);
        if (pruning_.mode == KeepMode::gallery_ratio) {
            find_by_entries(query, cuts);
        } else {
            find_by_nodes(query, cuts);
        }
        return sums_[cuts[0]].n_entries >= k_;
    }

 private:
    // Sets the distances, and the sums of the weights up to each of them.
    void compare(const std::uint8_t* query) {
        const std::uint16_t all = NarrowTotals::kDropped;
        const std::vector<CodeRun> run{{0, static_cast<std::uint32_t>(n_first_), 0}};
        kernels().prepare(query, layout_.offset(1), prepared_.data());
        NarrowTotals::scan({prepared_.data(), tree_.level(0).prefixes.stored().data(), layout_.offset(1), run, layout_,
                            0, 1, &all, false},
                           distances_.data());
        std::fill(sums_.begin(), sums_.end(), Weights{});
        const Weights* weights = tree_.weights().data();
        for (std::size_t node = 0; node < n_first_; ++node) sums_[distances_[node]].add(weights[node]);
        for (std::size_t d = 1; d < sums_.size(); ++d) sums_[d].add(sums_[d - 1]);
    }

    void find_by_entries(const std::uint8_t* query, std::uint16_t* cuts) {
        const std::size_t needed = kept(n_entries_);
        cuts[0] = bound(needed, [this](std::size_t d) { return sums_[d].n_entries; });
        std::fill(cuts + 1, cuts + tree_.n_levels(), cuts[0]);
        const double n_more = static_cast<double>(n_entries_ - tree_.last().n_nodes);
        for (std::size_t depth = 1; depth < tree_.n_levels(); ++depth) {
            cuts[depth] = std::max(cuts[depth], bound_by_moments(query, depth, static_cast<double>(needed) - n_more));
        }
        if (!has_near_nodes_) return;
        // Where a node has several entries, all but one of them count as near as the first level is.
        const auto others = [this, cuts](std::size_t d) {
            const Weights& sums = sums_[std::min<std::size_t>(d, cuts[0])];
            return sums.n_entries - sums.n_below;
        };
        cuts[1] = std::max(cuts[1], bound_by_next_byte(query, cuts[0], needed, others));
    }

    void find_by_nodes(const std::uint8_t* query, std::uint16_t* cuts) {
        cuts[0] = bound(kept(n_first_), [this](std::size_t d) { return sums_[d].n_nodes; });
        if (tree_.n_levels() == 1) return;
        std::size_t n_kept = kept(sums_[cuts[0]].n_below);
        cuts[1] = bound(n_kept, [this](std::size_t d) { return sums_[d].n_below; });
        if (has_near_nodes_) {
            cuts[1] = std::max(cuts[1], bound_by_next_byte(query, cuts[0], n_kept, [](std::size_t) { return 0; }));
        }
        cuts[1] = std::max(cuts[1], bound_by_moments(query, 1, static_cast<double>(n_kept)));
        for (std::size_t depth = 2; depth < tree_.n_levels(); ++depth) {
            n_kept = kept(n_kept);  // each kept node has at least one node below it
            const std::vector<std::size_t> sums = nodes_within(depth);
            cuts[depth] = std::max(bound(n_kept, [&](std::size_t d) { return sums[d]; }),
                                   bound_by_moments(query, depth, static_cast<double>(n_kept)));
        }
    }

    // The smallest distance on the first level up to which the sum is what is needed, or the largest distance.
    template <typename Sum>
    std::uint16_t bound(std::size_t needed, Sum sum_within) const {
        std::uint16_t d = 0;
        while (d + 1u < sums_.size() && sum_within(d) < needed) ++d;
        return d;
    }
    // Nodes of a level below the first-level nodes up to each distance.
    std::vector<std::size_t> nodes_within(std::size_t depth) const {
        std::vector<std::size_t> sums(sums_.size());
        for (std::size_t node = 0; node < n_first_; ++node) sums[distances_[node]] += tree_.range(node, depth).size();
        std::partial_sum(sums.begin(), sums.end(), sums.begin());
        return sums;
    }
    // The smallest distance over the first level and the byte after it up to which there are as many second-level nodes
    // as needed below kept first-level nodes, if `others` are added up to each distance.
    template <typename Others>
    std::uint16_t bound_by_next_byte(const std::uint8_t* query, std::size_t first_cut, std::size_t needed,
                                     Others others) const {
        constexpr std::size_t kDistances = NearNodes::kDistances;
        std::uint32_t at[kDistances][kDistances] = {};  // by the distance on the first level, and on the byte
        const std::uint32_t* counts = tree_.near_nodes().at(query[layout_.offset(1)]);
        const std::size_t last = std::min(first_cut, kDistances - 1);
        for (std::size_t node = 0; node < n_first_; ++node, counts += kDistances) {
            if (distances_[node] > last) continue;
            for (std::size_t t = 0; t < kDistances; ++t) at[distances_[node]][t] += counts[t];
        }
        std::size_t sum = 0;
        std::uint16_t d = 0;
        for (; d < kDistances; ++d) {
            for (std::size_t first = 0; first <= d; ++first) sum += at[first][d - first];
            if (sum + others(d) >= needed) break;
        }
        return d;
    }
    // No larger than the smallest distance over all levels so far within which as many nodes of a level are as needed.
    std::uint16_t bound_by_moments(const std::uint8_t* query, std::size_t depth, double needed) const {
        const DistanceMoments moments = tree_.moments().of(query, layout_.offset(depth + 1));
        return static_cast<std::uint16_t>(std::ceil(moments.least_radius(needed)));
    }
    std::size_t kept(std::size_t n) const {
        return static_cast<std::size_t>(keep_at_least(pruning_.keep, static_cast<double>(n)));
    }

    const LevelTree& tree_;
    const LevelLayout& layout_;
    const Pruning& pruning_;
    const std::size_t k_, n_first_;
    const bool has_near_nodes_;
    std::size_t n_entries_ = 0;
    Array<std::uint8_t> prepared_;
    Array<std::uint8_t> distances_;  // of the query to each first-level node
    std::vector<Weights> sums_;      // of the first-level nodes up to each distance
};

}  // namespace

SafeCuts::SafeCuts(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning, CodeView queries,
                   std::size_t k)
    : layout_(&layout),
      n_levels_(tree.n_levels()),
      by_level_(pruning.mode == KeepMode::radius),
      n_exact_(by_level_ ? n_levels_ : 1) {
    if (!tree.is_coarse() || layout.offset(n_levels_) > kMostPartBytes) return;
    cuts_.resize(queries.n * n_levels_);
    radii_.assign(queries.n, 0);
    if (by_level_) {
        for (std::size_t i = 0; i < cuts_.size(); ++i) {
            const double n_bits = static_cast<double>(layout.level_bytes(i % n_levels_) * 8);
            cuts_[i] = static_cast<std::uint16_t>(keep_at_most(pruning.keep, n_bits));
        }
    } else {
        CutBounds bounds(tree, layout, pruning, k);
        for (std::size_t q = 0; q < queries.n; ++q) {
            if (!bounds.find(queries.row(q), &cuts_[q * n_levels_])) radii_[q] = -1;
        }
    }
    set_radii();
}

SafeCuts::SafeCuts(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
                   CodeView queries, std::size_t k)
    : layout_(&layout), n_levels_(tree.n_levels()), by_level_(pruning.mode == KeepMode::radius), n_exact_(n_levels_) {
    if (layout.offset(n_levels_) > kMostPartBytes) return;
    std::vector<std::uint16_t> guesses;
    for (std::size_t depth = 0; depth < tree.n_depths(); ++depth) guesses.push_back(tree.likely_cut(depth));
    TreeLevels<NarrowTotals> levels(codes, tree, layout, pruning, guesses);
    Array<std::uint8_t> prepared(layout.n_bytes() * kernels().prepared_bytes);
    for (std::size_t q = 0; q < queries.n; ++q) {
        kernels().prepare(queries.row(q), layout.n_bytes(), prepared.data());
        levels.start(prepared.data(), nullptr, k);
        for (std::size_t depth = 0; depth < n_levels_; ++depth) {
            levels.compare({0, tree.prefixes(depth).n_groups()});
            levels.settle();
        }
        cuts_.insert(cuts_.end(), levels.cuts().begin(),
                     levels.cuts().begin() + static_cast<std::ptrdiff_t>(n_levels_));
    }
    for (std::size_t depth = 0; depth < n_levels_; ++depth) tree.note_cut(depth, guesses[depth]);
    radii_.assign(queries.n, 0);
    set_radii();
}

// A code is kept if it is no farther than the smallest cut.
void SafeCuts::set_radii() {
    for (std::size_t q = 0; q < radii_.size(); ++q) {
        const auto first = cuts_.begin() + static_cast<std::ptrdiff_t>(q * n_levels_);
        if (radii_[q] == 0) radii_[q] = *std::min_element(first, first + static_cast<std::ptrdiff_t>(n_levels_));
    }
}

Fate SafeCuts::fate(std::size_t query, const std::uint8_t* code, const std::uint8_t* group, std::size_t i) const {
    unsigned total;
    const LevelCuts cuts{*layout_, cuts_.data() + query * n_levels_, n_levels_, by_level_};
    const std::size_t beyond = cuts.first_beyond(code, group, i, total);
    return beyond == n_levels_ ? Fate::kept : beyond < n_exact_ ? Fate::dropped : Fate::unknown;
}

SafeCuts::Parts SafeCuts::parts(std::size_t query) const {
    Parts comparison{{}, by_level_};
    for (std::size_t depth = 0; depth < n_exact_; ++depth) {
        const std::uint16_t cut = cuts_[query * n_levels_ + depth];
        comparison.parts.push_back(
            {layout_->offset(depth), layout_->level_bytes(depth), static_cast<std::uint8_t>(cut)});
    }
    const std::size_t rest = layout_->offset(n_exact_);
    comparison.parts.push_back({rest, layout_->n_bytes() - rest, kDropped});
    return comparison;
}

}  // namespace fasthash
