#include "search/pruned_search.h"

#include <algorithm>

#include "search/keep_rule.h"

namespace fasthash {

void search_tree(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
                 const QueryBlock& block, Stopper& stopper) {
    PrunedSearch search(codes, tree, layout, pruning);
    for (std::size_t q = 0; q < block.queries.n && !stopper.stopped(); ++q) {
        const std::uint16_t* cuts = pruning.cuts == nullptr ? nullptr : pruning.cuts + q * tree.n_levels();
        block.note(q, search.run(block.queries.row(q), cuts, block.nearest[q]));
    }
}

PrunedSearch::PrunedSearch(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, Pruning pruning)
    : codes_(codes), entries_(codes, {}), tree_(tree), layout_(layout), pruning_(pruning) {}

QueryStats PrunedSearch::run(const std::uint8_t* query, const std::uint16_t* cuts, TopK& nearest) {
    query_ = query;
    cuts_ = cuts;
    nearest_ = &nearest;
    stats_ = {};
    stats_.nodes_visited = 1;  // the root
    families_.clear();
    n_scores_ = 0;
    add_family({0, tree_.level(0).n_nodes()}, 0);
    for (std::size_t depth = 0;; ++depth) {
        score(depth);
        const std::uint16_t largest = cut(depth);
        if (depth + 1 == tree_.n_levels()) {
            compare_codes(largest);
            return stats_;
        }
        parents_.swap(families_);
        families_.clear();
        const Array<std::uint16_t> scores = std::exchange(scores_, {});
        n_scores_ = 0;
        for (const Family& family : parents_) {
            const std::uint16_t* of_family = scores.data() + family.offset;
            for (const std::uint32_t i : find(of_family, family.nodes.size(), 0, largest)) {
                const int distance = of_family[i] + (by_level() ? family.distance : 0);
                add_family(tree_.level(depth).children(family.nodes.begin + i), static_cast<std::uint16_t>(distance));
                ++stats_.nodes_visited;
            }
        }
    }
}

void PrunedSearch::add_family(NumberRange nodes, std::uint16_t distance) {
    families_.push_back({nodes, distance, n_scores_});
    n_scores_ += nodes.size();
}

void PrunedSearch::score(std::size_t depth) {
    const LevelNodes& level = tree_.level(depth);
    scores_.resize(n_scores_);
    for (const Family& family : families_) {
        kernels().distances(query_ + layout_.offset(depth), level.key(family.nodes.begin), family.nodes.size(),
                            level.n_bytes, by_level() ? std::uint16_t{0} : family.distance,
                            scores_.data() + family.offset);
    }
}

std::uint16_t PrunedSearch::cut(std::size_t depth) {
    if (cuts_ != nullptr) return cuts_[depth];
    const LevelNodes& level = tree_.level(depth);
    const auto kept = [this](std::size_t total) {
        return static_cast<std::size_t>(keep_at_least(pruning_.keep, static_cast<double>(total)));
    };
    const auto entries = [&](std::size_t node) {
        const NumberRange rows = level.rows(node);
        return codes_.n_entries(rows.begin, rows.end);
    };
    std::uint16_t score = 0;
    switch (pruning_.mode) {
        case KeepMode::node_ratio:
            score = smallest_with(kept(n_scores_), layout_.offset(depth + 1) * 8);
            break;
        case KeepMode::gallery_ratio:
            score = score_covering(kept(codes_.n_entries()), entries);
            break;
        case KeepMode::radius:
            score = static_cast<std::uint16_t>(
                keep_at_most(pruning_.keep, static_cast<double>(layout_.level_bytes(depth) * 8)));
            break;
    }
    // In every mode the kept subtrees must hold k entries, so that the search can return k. No node is empty.
    const std::size_t needed = std::min(nearest_->k(), codes_.n_entries());
    if (kernels().count_at_most(scores_.data(), n_scores_, score) >= needed) return score;
    return std::max(score, score_covering(needed, entries));
}

const Array<std::uint32_t>& PrunedSearch::find(const std::uint16_t* scores, std::size_t n, std::uint16_t first,
                                               std::uint16_t last) {
    found_.resize(n + 1);  // find_between writes a position before it knows whether it counts
    found_.resize(kernels().find_between(scores, n, first, last, found_.data()));
    return found_;
}

// Smallest score that keeps at least n_candidates.
std::uint16_t PrunedSearch::smallest_with(std::size_t n_candidates, std::size_t largest_score) const {
    std::size_t low = 0, high = largest_score;
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        if (kernels().count_at_most(scores_.data(), n_scores_, static_cast<std::uint16_t>(middle)) >= n_candidates) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return static_cast<std::uint16_t>(low);
}

// Smallest score whose candidates weigh `needed` together; the largest score if all of them weigh less. Candidates of
// equal score are kept or dropped together, so that the result does not depend on the order of the nodes.
template <typename Weight>
std::uint16_t PrunedSearch::score_covering(std::size_t needed, Weight weight) {
    weight_at_.assign(layout_.n_bits() + 1, 0);
    for (const Family& family : families_) {
        for (std::size_t i = 0; i < family.nodes.size(); ++i) {
            weight_at_[scores_[family.offset + i]] += weight(family.nodes.begin + i);
        }
    }
    std::size_t sum = 0;
    for (std::size_t score = 0; score < weight_at_.size(); ++score) {
        sum += weight_at_[score];
        if (sum >= needed) return static_cast<std::uint16_t>(score);
    }
    return static_cast<std::uint16_t>(layout_.n_bits());
}

void PrunedSearch::compare_codes(std::uint16_t largest) {
    const LevelNodes& level = tree_.level(tree_.n_levels() - 1);
    const auto n_bits = static_cast<std::int32_t>(layout_.n_bits());
    for (std::int32_t distance = 0; distance <= std::min(n_bits, nearest_->threshold()); ++distance) {
        if (!by_level() && distance > largest) break;
        for (const Family& family : families_) {
            if (family.distance > distance) continue;
            const std::int32_t score = distance - (by_level() ? family.distance : 0);
            if (score > largest) continue;
            const auto wanted = static_cast<std::uint16_t>(score);
            for (const std::uint32_t i : find(scores_.data() + family.offset, family.nodes.size(), wanted, wanted)) {
                read(level.rows(family.nodes.begin + i));
            }
        }
        read_ranges();
    }
}

void PrunedSearch::read(NumberRange rows) {
    constexpr std::size_t kRanges = 64;
    ++stats_.nodes_visited;
    stats_.codes_compared += static_cast<std::int64_t>(rows.size());
    if (codes_.tails() != nullptr && codes_.n_dropped() == 0) {
        __builtin_prefetch(codes_.tails() + rows.begin * codes_.n_bytes());
        ranges_.push_back({static_cast<std::uint32_t>(rows.begin), static_cast<std::uint32_t>(rows.end)});
        if (ranges_.size() == kRanges) read_ranges();
        return;
    }
    const CodeView codes = codes_.codes(rows.begin, rows.end, scratch_);
    const RowRange all{0, static_cast<std::uint32_t>(codes.n)};
    first_row_ = rows.begin;
    kernels().scan_rows(query_, codes.data, codes.n_bytes, &all, 1, nearest_->largest_distance(), *this);
    first_row_ = 0;
}

void PrunedSearch::read_ranges() {
    if (ranges_.empty()) return;
    kernels().scan_rows(query_, codes_.tails(), codes_.n_bytes(), ranges_.data(), ranges_.size(),
                        nearest_->largest_distance(), *this);
    ranges_.clear();
}

std::int32_t PrunedSearch::take(const RowHit* hits, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) entries_.push(first_row_ + hits[i].row, hits[i].distance, *nearest_);
    return nearest_->largest_distance();
}

}  // namespace fasthash
