#include "search/safe_cuts.h"

#include <algorithm>

#include "search/keep_rule.h"
#include "search/level_totals.h"

namespace fasthash {
namespace {

// Bounds the cuts of one query after the other, for the modes that keep a share of the nodes or of the entries.
class CutBounds {
 public:
    CutBounds(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning, std::size_t k)
        : tree_(tree),
          layout_(layout),
          pruning_(pruning),
          n_first_(tree.level(0).n_nodes),
          has_near_nodes_(!tree.near_nodes().empty()),
          prepared_(layout.offset(1) * kernels().prepared_bytes),
          distances_(tree.level(0).n_groups() * kGroup),
          weights_(n_first_),
          sums_(layout.offset(1) * 8 + 1) {
        std::size_t n_entries = 0;
        for (std::size_t node = 0; node < n_first_; ++node) {
            const std::size_t n_below = tree.n_levels() > 1 ? tree.range(node, 1).size() : 0;
            weights_[node] = {{1, tree.entries_below(node), n_below, 0}};
            n_entries += tree.entries_below(node);
        }
        n_needed_ = std::min(k, n_entries);
        n_kept_entries_ = std::max(kept(n_entries), n_needed_);
    }

    // Sets the bounds; returns the number of levels whose cut is exact.
    std::uint8_t find(const std::uint8_t* query, std::uint16_t* cuts) {
        compare(query);
        return pruning_.mode == KeepMode::gallery_ratio ? find_by_entries(query, cuts) : find_by_nodes(query, cuts);
    }

 private:
    // What hangs below first-level nodes: themselves, entries, and nodes of the second level.
    enum Weight { kNodes, kEntries, kBelow };
    struct Weights {
        std::uint64_t of[4];  // a power of two, for vectors

        void add(const Weights& other) {
            for (std::size_t i = 0; i < 4; ++i) of[i] += other.of[i];
        }
    };

    // Sets the distances, and the sums of the weights up to each of them.
    void compare(const std::uint8_t* query) {
        const std::uint16_t all = NarrowTotals::kDropped;
        const std::vector<CodeRun> run{{0, static_cast<std::uint32_t>(n_first_), 0}};
        kernels().prepare(query, layout_.offset(1), prepared_.data());
        NarrowTotals::scan({prepared_.data(), tree_.level(0).prefixes.stored().data(), layout_.offset(1), run, layout_,
                            0, 1, &all, false},
                           distances_.data());
        std::fill(sums_.begin(), sums_.end(), Weights{});
        for (std::size_t node = 0; node < n_first_; ++node) sums_[distances_[node]].add(weights_[node]);
        for (std::size_t d = 1; d < sums_.size(); ++d) sums_[d].add(sums_[d - 1]);
    }

    std::uint8_t find_by_entries(const std::uint8_t* query, std::uint16_t* cuts) {
        cuts[0] = reached(kEntries, n_kept_entries_);
        std::fill(cuts + 1, cuts + tree_.n_levels(), cuts[0]);
        if (has_near_nodes_) {
            // Where a node has several entries, all but one of them count as near as the first level is.
            const auto others = [this, cuts](std::size_t d) {
                const Weights& sums = sums_[std::min<std::size_t>(d, cuts[0])];
                return sums.of[kEntries] - sums.of[kBelow];
            };
            cuts[1] = std::max(cuts[1], reached_below(query, cuts[0], n_kept_entries_, others));
        }
        return 1;
    }

    std::uint8_t find_by_nodes(const std::uint8_t* query, std::uint16_t* cuts) {
        cuts[0] = reached(kNodes, kept(n_first_));
        // Else the cut is raised until k entries are kept.
        const bool exact = sums_[cuts[0]].of[kEntries] >= n_needed_;
        // Each kept node has at least one node below it.
        std::size_t n_kept = sums_[cuts[0]].of[kBelow];
        for (std::size_t depth = 1; depth < tree_.n_levels(); ++depth) {
            n_kept = kept(n_kept);
            cuts[depth] = depth == 1 ? reached(kBelow, n_kept) : reached_at(depth, n_kept);
            if (depth == 1 && has_near_nodes_) {
                const std::size_t farthest = exact ? cuts[0] : sums_.size() - 1;
                cuts[1] = std::max(cuts[1], reached_below(query, farthest, n_kept, [](std::size_t) { return 0; }));
            }
        }
        return exact ? 1 : 0;
    }

    // The smallest distance up to which first-level nodes have this weight, or the largest one.
    std::uint16_t reached(Weight weight, std::size_t needed) const {
        std::uint16_t d = 0;
        while (d + 1u < sums_.size() && sums_[d].of[weight] < needed) ++d;
        return d;
    }
    // The same, by the nodes of a deeper level.
    std::uint16_t reached_at(std::size_t depth, std::size_t needed) const {
        std::vector<std::size_t> sums(sums_.size());
        for (std::size_t node = 0; node < n_first_; ++node) sums[distances_[node]] += tree_.range(node, depth).size();
        std::uint16_t d = 0;
        for (std::size_t sum = sums[0]; d + 1u < sums.size() && sum < needed; sum += sums[d]) ++d;
        return d;
    }
    // The smallest distance over the first level and the byte after it up to which second-level nodes, below
    // first-level nodes up to `farthest`, have this weight, if `more` is added up to each distance.
    template <typename More>
    std::uint16_t reached_below(const std::uint8_t* query, std::size_t farthest, std::size_t needed, More more) const {
        constexpr std::size_t kDistances = NearNodes::kDistances;
        std::uint32_t at[kDistances][kDistances] = {};  // by the distance on the first level, and on the byte
        const std::uint32_t* counts = tree_.near_nodes().at(query[layout_.offset(1)]);
        const std::size_t last = std::min(farthest, kDistances - 1);
        for (std::size_t node = 0; node < n_first_; ++node, counts += kDistances) {
            if (distances_[node] > last) continue;
            for (std::size_t t = 0; t < kDistances; ++t) at[distances_[node]][t] += counts[t];
        }
        std::size_t sum = 0;
        std::uint16_t d = 0;
        for (; d < kDistances; ++d) {
            for (std::size_t first = 0; first <= d; ++first) sum += at[first][d - first];
            if (sum + more(d) >= needed) break;
        }
        return d;
    }
    std::size_t kept(std::size_t n) const {
        return static_cast<std::size_t>(keep_at_least(pruning_.keep, static_cast<double>(n)));
    }

    const LevelTree& tree_;
    const LevelLayout& layout_;
    const Pruning& pruning_;
    const std::size_t n_first_;
    const bool has_near_nodes_;
    std::size_t n_needed_ = 0;        // entries that must be kept
    std::size_t n_kept_entries_ = 0;  // entries to keep by gallery_ratio
    Array<std::uint8_t> prepared_;
    Array<std::uint8_t> distances_;  // of the query to each first-level node
    std::vector<Weights> weights_;   // of each first-level node
    std::vector<Weights> sums_;      // of the first-level nodes up to each distance
};

}  // namespace

SafeCuts::SafeCuts(const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning, CodeView queries,
                   std::size_t k)
    : layout_(&layout), n_levels_(tree.n_levels()), by_level_(pruning.mode == KeepMode::radius) {
    if (!tree.is_coarse() || layout.offset(n_levels_) > kMostPartBytes) return;
    cuts_.resize(queries.n * n_levels_);
    n_exact_.assign(queries.n, static_cast<std::uint8_t>(n_levels_));
    if (by_level_) {
        // These cuts are raised only if fewer than k entries are kept, and then this search finds fewer than k.
        for (std::size_t i = 0; i < cuts_.size(); ++i) {
            const double n_bits = static_cast<double>(layout.level_bytes(i % n_levels_) * 8);
            cuts_[i] = static_cast<std::uint16_t>(keep_at_most(pruning.keep, n_bits));
        }
    } else {
        CutBounds bounds(tree, layout, pruning, k);
        for (std::size_t q = 0; q < queries.n; ++q) n_exact_[q] = bounds.find(queries.row(q), &cuts_[q * n_levels_]);
    }
    for (auto first = cuts_.begin(); first != cuts_.end(); first += static_cast<std::ptrdiff_t>(n_levels_)) {
        radii_.push_back(*std::min_element(first, first + static_cast<std::ptrdiff_t>(n_levels_)));
    }
}

Fate SafeCuts::fate(std::size_t query, const std::uint8_t* code, const std::uint8_t* group, std::size_t i) const {
    unsigned total;
    const LevelCuts cuts{*layout_, cuts_.data() + query * n_levels_, n_levels_, by_level_};
    const std::size_t beyond = cuts.first_beyond(code, group, i, total);
    return beyond == n_levels_ ? Fate::kept : beyond < n_exact_[query] ? Fate::dropped : Fate::unknown;
}

SafeCuts::Parts SafeCuts::parts(std::size_t query) const {
    Parts all{{}, by_level_};
    const std::size_t n_exact = n_exact_[query], rest = layout_->offset(n_exact);
    for (std::size_t depth = 0; depth < n_exact; ++depth) {
        const std::uint16_t cut = cuts_[query * n_levels_ + depth];
        all.parts.push_back({layout_->offset(depth), layout_->level_bytes(depth), static_cast<std::uint8_t>(cut)});
    }
    all.parts.push_back({rest, layout_->n_bytes() - rest, kDropped});
    return all;
}

}  // namespace fasthash
