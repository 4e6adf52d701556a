#include "search/tree_levels.h"

#include <algorithm>

#include "search/keep_rule.h"

namespace fasthash {
namespace {

NumberRange groups_of(NumberRange nodes) { return {nodes.begin / kGroup, (nodes.end + kGroup - 1) / kGroup}; }

}  // namespace

template <typename Totals>
TreeLevels<Totals>::TreeLevels(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout,
                               const Pruning& pruning, std::vector<std::uint16_t>& guesses)
    : codes_(codes),
      tree_(tree),
      layout_(layout),
      pruning_(pruning),
      by_level_(pruning.mode == KeepMode::radius),
      guesses_(guesses),
      cuts_(tree.n_levels()) {
    std::size_t most_groups = 0;
    for (std::size_t depth = 0; depth < tree.n_levels(); ++depth) {
        most_groups = std::max(most_groups, tree.level(depth).n_groups());
    }
    totals_.resize(most_groups * kGroup);
}

template <typename Totals>
void TreeLevels<Totals>::start(const std::uint8_t* prepared, const std::uint16_t* given, std::size_t k) {
    prepared_ = prepared;
    given_ = given;
    n_needed_ = std::min(k, codes_.n_entries());
    depth_ = n_kept_ = 0;
    n_most_ = 1;
    first_kept_.clear();
    runs_.assign(1, {0, tree_.level(0).n_groups()});
    open_level();
}

template <typename Totals>
void TreeLevels<Totals>::open_level() {
    next_run_ = 0;
    const double n_bits = static_cast<double>(layout_.level_bytes(depth_) * 8);
    if (given_ != nullptr) {
        cuts_[depth_] = given_[depth_];
    } else if (by_level_) {
        cuts_[depth_] = static_cast<std::uint16_t>(keep_at_most(pruning_.keep, n_bits));
    } else {
        cuts_[depth_] = Totals::kDropped;
        // Scores are counted at the guess and below while they are in the cache.
        counts_.assign(largest_score() + 1, kUnknown);
        guess_ = std::clamp<std::size_t>(guesses_[depth_], 1, std::min<std::size_t>(largest_score(), 254));
        counts_[guess_] = counts_[guess_ - 1] = 0;
    }
}

template <typename Totals>
std::size_t TreeLevels<Totals>::largest_score() const {
    return (by_level_ ? layout_.level_bytes(depth_) : layout_.offset(depth_ + 1)) * 8;
}

// The groups of nodes of a level, or of rows, below the kept nodes of the first level.
template <typename Totals>
std::vector<NumberRange> TreeLevels<Totals>::groups_at(std::size_t depth) const {
    const std::size_t n_nodes = depth == tree_.n_levels() ? codes_.n_rows() : tree_.level(depth).n_nodes;
    if (!tree_.is_coarse()) return {groups_of({0, n_nodes})};
    std::vector<NumberRange> runs;
    for (const std::uint32_t node : first_kept_) {
        const NumberRange groups = groups_of(tree_.below(node, depth));
        if (!runs.empty() && groups.begin <= runs.back().end) {
            runs.back().end = groups.end;
        } else {
            runs.push_back(groups);
        }
    }
    return runs;
}

template <typename Totals>
LevelScan TreeLevels<Totals>::scan_of(std::size_t first, std::size_t n, const std::uint16_t* cuts) {
    const bool of_rows = level().of_rows;
    const std::uint8_t* groups =
        of_rows ? codes_.groups(first, n, scratch_) : level().prefixes.groups(first, n, scratch_);
    const std::size_t n_bytes = of_rows ? codes_.n_bytes() : level().prefixes.n_bytes();
    return {prepared_, groups, n, n_bytes, layout_, depth_ + 1, cuts, by_level_};
}

template <typename Totals>
void TreeLevels<Totals>::compare(NumberRange groups) {
    for_runs_in(groups, [this](std::size_t first, std::size_t n) { compare_groups(first, n); });
}

template <typename Totals>
void TreeLevels<Totals>::compare_groups(std::size_t first, std::size_t n) {
    Value* totals = totals_.data() + first * kGroup;
    const LevelScan scan = scan_of(first, n, cuts_.data());
    const bool counts = !by_level_ && given_ == nullptr;
    if (first + n == level().n_groups()) {
        Totals::scan(scan, totals);
        drop_padding(totals_.data());
        if (!counts) return;
        for (const std::size_t score : {guess_, guess_ - 1}) counts_[score] += counted_in(first, n, score);
    } else if (!counts) {
        Totals::scan(scan, totals);
    } else {
        TotalCount count{nullptr, {static_cast<std::uint8_t>(guess_), static_cast<std::uint8_t>(guess_ - 1)}, {0, 0}};
        if (const Array<std::uint8_t>* weights = this->weights()) count.weights = weights->data() + first * kGroup;
        Totals::scan(scan, totals, &count);
        counts_[guess_] += static_cast<std::size_t>(count.counts[0]);
        counts_[guess_ - 1] += static_cast<std::size_t>(count.counts[1]);
    }
}

// The weights of the nodes that are counted for the cut; null: 1 each.
template <typename Totals>
const Array<std::uint8_t>* TreeLevels<Totals>::weights() const {
    if (pruning_.mode == KeepMode::gallery_ratio) return &level().weights;
    return level().of_rows ? &level().first : nullptr;
}

// The padding of the last group is no node.
template <typename Totals>
void TreeLevels<Totals>::drop_padding(Value* values) const {
    std::fill(values + level().n_nodes, values + level().n_groups() * kGroup, Totals::kDropped);
}

template <typename Totals>
void TreeLevels<Totals>::settle() {
    if (given_ == nullptr) {
        if (by_level_) {
            // No node is empty, so that as many nodes hold as many entries.
            if (count(Totals::kDropped) < n_needed_) widen_radius();
        } else {
            cuts_[depth_] = find_cut();
        }
    }
    largest_total_ = by_level_ ? layout_.offset(depth_ + 1) * 8 : cuts_[depth_];
    if (depth_ == 0 && tree_.is_coarse()) {
        Array<std::uint32_t> positions(level().n_groups() * kGroup);
        const std::size_t n =
            Totals::find_at_most(totals_.data(), level().n_groups(), largest_total_, positions.data());
        first_kept_.assign(positions.begin(), positions.begin() + n);
    }
    if (is_last()) return;
    n_kept_ += count(largest_total_);
    ++depth_;
    runs_ = groups_at(depth_);
    open_level();
}

template <typename Totals>
template <typename Sum>
std::size_t TreeLevels<Totals>::sum_over_runs(Sum sum) const {
    std::size_t all = 0;
    for (const NumberRange& run : runs_) all += static_cast<std::size_t>(sum(run.begin, run.size()));
    return all;
}

template <typename Totals>
std::size_t TreeLevels<Totals>::count(std::size_t total) const {
    return sum_over_runs([&](std::size_t first, std::size_t n) {
        return Totals::count_at_most(totals_.data() + first * kGroup, n, total);
    });
}

template <typename Totals>
std::size_t TreeLevels<Totals>::counted_in(std::size_t first, std::size_t n, std::size_t largest) const {
    const Value* totals = totals_.data() + first * kGroup;
    const Array<std::uint8_t>* weights = this->weights();
    if (weights == nullptr) return Totals::count_at_most(totals, n, largest);
    return static_cast<std::size_t>(Totals::sum_at_most(totals, weights->data() + first * kGroup, n, largest));
}

// Nodes whose total is at most `largest`, or for gallery_ratio the sum of their weights.
template <typename Totals>
std::size_t TreeLevels<Totals>::counted(std::size_t largest) {
    std::size_t& count = counts_[largest];
    if (count == kUnknown) {
        count = sum_over_runs([&](std::size_t first, std::size_t n) { return counted_in(first, n, largest); });
    }
    return count;
}

// Entries below the nodes whose score is at most `largest`.
template <typename Totals>
std::size_t TreeLevels<Totals>::weighed(std::size_t largest, const Value* scores) {
    const bool counted_so = pruning_.mode == KeepMode::gallery_ratio && scores == totals_.data();
    std::size_t sum = counted_so ? counted(largest) : sum_over_runs([&](std::size_t first, std::size_t n) {
        return Totals::sum_at_most(scores + first * kGroup, level().weights.data() + first * kGroup, n, largest);
    });
    const Array<std::uint32_t>& all = level().heavy;
    const std::uint32_t* heavy = all.begin();
    for (const NumberRange& run : runs_) {
        heavy = std::lower_bound(heavy, all.end(), run.begin * kGroup);
        for (; heavy != all.end() && *heavy < run.end * kGroup; ++heavy) {
            if (scores[*heavy] > largest || scores[*heavy] == Totals::kDropped) continue;
            const NumberRange rows = level().rows(*heavy);
            sum += codes_.n_entries(rows.begin, rows.end) - LevelNodes::kMostWeight;
        }
    }
    return sum;
}

// Smallest score that has the weight needed; the largest if none has. Equal scores are kept or dropped together, so
// that the result does not depend on the order of the nodes. The search starts at a guess: each weighing reads all
// scores.
template <typename Totals>
template <typename Weigh>
std::uint16_t TreeLevels<Totals>::smallest(std::size_t needed, std::uint16_t guess, Weigh weigh) const {
    std::size_t low = 0, high = largest_score(), step = 1;
    std::size_t probe = guess;
    bool above = false, below = false;  // whether a probe had the weight, or had not
    while (low < high) {
        if (probe >= high) probe = high - 1;  // the largest score needs no weighing
        if (weigh(probe) >= needed) {
            high = probe;
            above = true;
        } else {
            low = probe + 1;
            below = true;
        }
        if (above && below) {
            probe = (low + high) / 2;
        } else {
            probe = above ? high - std::min(step, high) : low + step - 1;
            step *= 2;
        }
    }
    return static_cast<std::uint16_t>(low);
}

template <typename Totals>
std::uint16_t TreeLevels<Totals>::find_cut() {
    const auto count_of = [this](std::size_t score) { return counted(score); };
    const auto weight_of = [this](std::size_t score) { return weighed(score, totals_.data()); };
    const auto kept = [this](std::size_t total) {
        return static_cast<std::size_t>(keep_at_least(pruning_.keep, static_cast<double>(total)));
    };
    // In every mode the kept subtrees must hold k entries, so that the search can return k.
    const auto guess = static_cast<std::uint16_t>(guess_);
    if (pruning_.mode == KeepMode::gallery_ratio) {
        return guesses_[depth_] = smallest(std::max(kept(codes_.n_entries()), n_needed_), guess, weight_of);
    }
    const std::uint16_t score = guesses_[depth_] = smallest(kept(counted(largest_score())), guess, count_of);
    if (counted(score) >= n_needed_) return score;  // no node is empty
    return std::max(score, smallest(n_needed_, score, weight_of));
}

// Raises the cut of the level so that enough entries are kept.
template <typename Totals>
void TreeLevels<Totals>::widen_radius() {
    // The distance on this level is the total less that of the levels above.
    std::vector<std::uint16_t> cuts = cuts_;
    cuts[depth_] = Totals::kDropped;
    Array<Value> on_level(level().n_groups() * kGroup);
    for (const NumberRange& run : runs_) {
        Value* totals = totals_.data() + run.begin * kGroup;
        Value* scores = on_level.data() + run.begin * kGroup;
        Totals::scan(scan_of(run.begin, run.size(), cuts.data()), totals);
        LevelScan above = scan_of(run.begin, run.size(), cuts.data());
        above.n_levels = depth_;
        Totals::scan(above, scores);
        for (std::size_t i = 0; i < run.size() * kGroup; ++i) {
            scores[i] = totals[i] == Totals::kDropped ? Totals::kDropped : static_cast<Value>(totals[i] - scores[i]);
        }
    }
    drop_padding(totals_.data());
    drop_padding(on_level.data());
    const auto weight_of = [&](std::size_t score) { return weighed(score, on_level.data()); };
    cuts_[depth_] = std::max(cuts_[depth_], smallest(n_needed_, cuts_[depth_], weight_of));
    for (const NumberRange& run : runs_) {
        for (std::size_t i = run.begin * kGroup; i < run.end * kGroup; ++i) {
            if (on_level[i] > cuts_[depth_]) totals_[i] = Totals::kDropped;
        }
    }
}

template class TreeLevels<NarrowTotals>;
template class TreeLevels<WideTotals>;

}  // namespace fasthash
