#include "search/tree_levels.h"

#include <algorithm>

#include "search/keep_rule.h"
#include "search/smallest_score.h"

namespace fasthash {

template <typename Totals>
TreeLevels<Totals>::TreeLevels(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout,
                               const Pruning& pruning, std::vector<std::uint16_t>& guesses, bool counts_kept)
    : codes_(codes),
      tree_(tree),
      layout_(layout),
      pruning_(pruning),
      by_level_(pruning.mode == KeepMode::radius),
      guesses_(guesses),
      counts_kept_(counts_kept),
      cuts_(tree.n_depths()) {
    std::size_t most_groups = 0;
    for (std::size_t depth = 0; depth < tree.n_depths(); ++depth) {
        most_groups = std::max(most_groups, tree.prefixes(depth).n_groups());
    }
    totals_.resize(most_groups * kGroup);
}

template <typename Totals>
void TreeLevels<Totals>::start(const std::uint8_t* query, const std::uint8_t* prepared, const std::uint16_t* given,
                               std::size_t k) {
    prepared_ = prepared;
    given_ = given;
    sums_ = tree_.near_weights().empty() ? nullptr : tree_.near_weights().at(query[0]);
    n_needed_ = std::min(k, codes_.n_entries());
    depth_ = n_kept_ = 0;
    reads_dense_ = totals_of_leaves_ = false;
    open_level();
}

template <typename Totals>
void TreeLevels<Totals>::open_level() {
    if (!counts()) {
        const std::size_t n_bits = layout_.level_bytes(depth_) * 8;
        cuts_[depth_] =
            given_ != nullptr ? given_[depth_] : static_cast<std::uint16_t>(bits_kept(pruning_.keep, n_bits));
    } else {
        cuts_[depth_] = Totals::kDropped;
        // Scores are counted at the guess and one below it while they are in the cache.
        counts_.assign(largest_score() + 1, kUnknown);
        guess_ = std::clamp<std::size_t>(guesses_[depth_], 1, std::min<std::size_t>(largest_score(), kDropped - 1));
        counts_[guess_] = counts_[guess_ - 1] = 0;
    }
}

template <typename Totals>
std::size_t TreeLevels<Totals>::largest_score() const {
    return (by_level_ && !at_leaves() ? layout_.level_bytes(depth_) : layout_.offset(depth_ + 1)) * 8;
}

// The places of the level under way that are below kept nodes of the first level.
template <typename Totals>
void TreeLevels<Totals>::list_runs() {
    next_run_ = n_compared_ = 0;
    if (reads_leaves()) return list_leaves();
    if (!starts_below_first()) {
        runs_.assign(1, {0, static_cast<std::uint32_t>(tree_.prefixes(depth_).size()), 0});
        return;
    }
    const RowRange* places_below = tree_.places_below(depth_);
    const Array<std::uint32_t>& kept = first_kept();
    runs_.resize(kept.size());
    for (std::size_t i = 0; i < runs_.size(); ++i) {
        const RowRange places = places_below[kept[i]];
        runs_[i] = {static_cast<std::uint32_t>(places.begin / kGroup), places.end - places.begin,
                    first_totals_[kept[i]]};
    }
}

// The groups that hold leaves below kept nodes of the first level. The cuts of all levels drop the other leaves there.
template <typename Totals>
void TreeLevels<Totals>::list_leaves() {
    if (!tree_.is_coarse() || reads_dense_) {
        runs_.assign(1, {0, static_cast<std::uint32_t>(tree_.n_rows()), 0});
        return;
    }
    groups_.clear(tree_.leaves().codes.n_groups());
    const Array<std::uint32_t>& kept = first_kept();
    groups_.add_each(kept.begin(), kept.end(), [this](std::uint32_t node) { return tree_.groups_below(node); });
    groups_.list_runs(tree_.n_rows(), runs_);
}

template <typename Totals>
std::vector<std::uint32_t> TreeLevels<Totals>::ranges() {
    if (!tree_.is_coarse()) return {0};
    std::vector<std::uint32_t> ranges(first_kept().begin(), first_kept().end());
    const auto is_nearer = [this](std::uint32_t a, std::uint32_t b) { return first_totals_[a] < first_totals_[b]; };
    const auto nearest = std::min_element(ranges.begin(), ranges.end(), is_nearer);
    if (!ranges.empty()) std::rotate(ranges.begin(), nearest, nearest + 1);
    return ranges;
}

template <typename Totals>
const Array<std::uint32_t>& TreeLevels<Totals>::first_kept() {
    if (first_listed_) return first_kept_;
    first_listed_ = true;
    const std::size_t n_groups = tree_.level(0).n_groups();
    first_kept_.resize(n_groups * kGroup);
    const std::size_t largest = by_level_ ? Totals::kDropped : cuts_[0];
    first_kept_.resize(Totals::find(first_totals_.data(), n_groups, 0, largest, first_kept_.data()));
    return first_kept_;
}

template <typename Totals>
std::size_t TreeLevels<Totals>::n_below() {
    if (sums_ != nullptr && !by_level_) return sums_[cuts_[0]].n_below;
    std::size_t n = 0;
    for (const std::uint32_t node : first_kept()) n += tree_.weights()[node].n_below;
    return n;
}

template <typename Totals>
std::size_t TreeLevels<Totals>::n_rows() {
    if (!tree_.is_coarse() || reads_dense_) return tree_.n_rows();
    std::size_t n = 0;
    for (const std::uint32_t node : first_kept()) n += tree_.range(node, tree_.n_levels()).size();
    return n;
}

template <typename Totals>
LevelScan TreeLevels<Totals>::scan_of(const std::vector<CodeRun>& runs, const std::uint16_t* cuts) const {
    const ByteMajorCodes& prefixes = reads_leaves() ? tree_.leaves().codes : tree_.prefixes(depth_);
    const std::size_t first_level = goes_on() ? depth_ : starts_below_first() ? 1 : 0;
    const std::size_t first_byte = reads_leaves() ? layout_.offset(first_level) : 0;
    return {prepared_,
            prefixes.stored().data() + first_byte * kGroup,
            prefixes.n_bytes(),
            runs.data(),
            runs.size(),
            layout_,
            first_level,
            depth_ + 1,
            cuts,
            by_level_,
            goes_on()};
}

template <typename Totals>
void TreeLevels<Totals>::compare(NumberRange groups) {
    if (groups.begin == 0) list_runs();
    const bool replaced = reads_leaves() && !at_leaves();  // the groups are not those of the level: all at once
    if (replaced && groups.begin > 0) return;
    const bool all = replaced || (groups.begin == 0 && groups.end == tree_.prefixes(depth_).n_groups());
    if (!all) list_runs_in(groups);
    const std::vector<CodeRun>& runs = all ? runs_ : runs_in_chunk_;
    if (runs.empty()) return;
    Value* totals = totals_.data() + n_compared_ * kGroup;
    for (const CodeRun& run : runs) n_compared_ += groups_of(run);
    const LevelScan scan = scan_of(runs, cuts_.data());
    if (!counts() || knows_sums()) return Totals::scan(scan, totals);
    const PlaceWeights weights = this->weights();
    TotalCount count{weights.of_place,
                     weights.most,
                     {static_cast<std::uint8_t>(guess_), static_cast<std::uint8_t>(guess_ - 1)},
                     {0, 0}};
    Totals::scan(scan, totals, &count);
    counts_[guess_] += static_cast<std::size_t>(count.counts[0]);
    counts_[guess_ - 1] += static_cast<std::size_t>(count.counts[1]);
}

template <typename Totals>
void TreeLevels<Totals>::list_runs_in(NumberRange groups) {
    runs_in_chunk_.clear();
    for (; next_run_ < runs_.size() && runs_[next_run_].first_group < groups.end; ++next_run_) {
        CodeRun run = runs_[next_run_];
        const std::size_t end = run.first_group + groups_of(run);
        if (run.first_group < groups.begin) {
            run.n_codes -= static_cast<std::uint32_t>((groups.begin - run.first_group) * kGroup);
            run.first_group = static_cast<std::uint32_t>(groups.begin);
        }
        if (end > groups.end) run.n_codes = static_cast<std::uint32_t>((groups.end - run.first_group) * kGroup);
        runs_in_chunk_.push_back(run);
        if (end > groups.end) break;
    }
}

template <typename Totals>
void TreeLevels<Totals>::settle() {
    if (at_leaves()) {
        const auto count_of = [this](std::size_t distance) { return counted(distance); };
        largest_total_ = guesses_[depth_] = smallest_score(n_needed_, largest_score(), guess_, count_of);
        return;
    }
    if (given_ == nullptr) {
        if (by_level_) {
            // No node is empty, so that as many nodes hold as many entries.
            if (count(Totals::kDropped) < n_needed_) widen_radius();
        } else {
            cuts_[depth_] = find_cut();
        }
    }
    // A given cut may be larger than all totals.
    largest_total_ = layout_.offset(depth_ + 1) * 8;
    if (!by_level_) largest_total_ = std::min<std::size_t>(largest_total_, cuts_[depth_]);
    if (depth_ == 0 && tree_.is_coarse()) {
        first_totals_.clear();
        first_totals_.append(totals_.data(), level().n_groups() * kGroup);
        first_listed_ = false;
        const auto n_kept = static_cast<double>(count_up_to(largest_total_));
        reads_dense_ = tree_.reads_all_leaves(n_kept / static_cast<double>(tree_.n_ranges()));
    }
    if (is_last()) return;
    if (counts_kept_) n_kept_ += count_up_to(largest_total_);
    totals_of_leaves_ = reads_leaves();
    ++depth_;
    open_level();
}

template <typename Totals>
std::size_t TreeLevels<Totals>::count(std::size_t total) const {
    return Totals::count_at_most(totals_.data(), n_compared_, total);
}

template <typename Totals>
std::size_t TreeLevels<Totals>::sum_of(const std::uint8_t* weights, const Value* scores, std::size_t largest) const {
    std::size_t sum = 0;
    each_run([&](const CodeRun& run, std::size_t first) {
        sum += static_cast<std::size_t>(
            Totals::sum_at_most(scores + first, weights + run.first_group * kGroup, groups_of(run), largest));
    });
    return sum;
}

// Also for the level under way, before it is settled.
template <typename Totals>
std::size_t TreeLevels<Totals>::count_up_to(std::size_t total) {
    if (counts() && pruning_.mode == KeepMode::node_ratio) return counted(total);
    return reads_leaves() ? sum_of(tree_.leaves().begins.data(), totals_.data(), total) : count(total);
}

// Nodes whose total is at most `largest`, or for gallery_ratio the sum of their weights.
template <typename Totals>
std::size_t TreeLevels<Totals>::counted(std::size_t largest) {
    if (knows_sums()) return by_entries() ? sums_[largest].n_entries : sums_[largest].n_nodes;
    std::size_t& count = counts_[largest];
    if (count != kUnknown) return count;
    const std::uint8_t* of_place = weights().of_place;
    return count = of_place != nullptr ? sum_of(of_place, totals_.data(), largest) : this->count(largest);
}

// Nodes of the level under way below kept nodes. Only for node_ratio.
template <typename Totals>
std::size_t TreeLevels<Totals>::count_candidates() {
    if (depth_ == 1 && (sums_ != nullptr || reads_leaves())) return n_below();
    if (depth_ > (tree_.is_coarse() ? 1u : 0u)) return counted(largest_score());  // nodes above were dropped
    std::size_t n = 0;
    for (const CodeRun& run : runs_) n += run.n_codes;
    return n;
}

// Entries below the nodes whose score is at most `largest`.
template <typename Totals>
std::size_t TreeLevels<Totals>::weighed(std::size_t largest, const Value* scores) {
    if (knows_sums() && scores == totals_.data()) return sums_[largest].n_entries;
    if (reads_leaves()) return by_entries() ? counted(largest) : sum_of(tree_.leaves().entries.data(), scores, largest);
    const Array<std::uint32_t>& all = level().heavy;
    constexpr std::size_t kFewHeavy = 32;  // if more than one node in as many is heavy, summing all takes less time
    if (all.size() > level().n_nodes / kFewHeavy && tree_.is_coarse() && depth_ == 0) {
        const Weights* of_node = tree_.weights().data();
        std::size_t entries = 0;
        for (std::size_t i = 0; i < level().n_nodes; ++i) entries += scores[i] <= largest ? of_node[i].n_entries : 0;
        return entries;
    }
    const bool counted_so = pruning_.mode == KeepMode::gallery_ratio && scores == totals_.data();
    std::size_t sum = counted_so ? counted(largest) : sum_of(level().weights.data(), scores, largest);
    if (all.empty()) return sum;
    const std::uint32_t* heavy = all.begin();
    each_run([&](const CodeRun& run, std::size_t first) {
        const std::size_t first_place = run.first_group * kGroup;
        heavy = std::lower_bound(heavy, all.end(), first_place);
        for (; heavy != all.end() && *heavy < first_place + run.n_codes; ++heavy) {
            const Value score = scores[first + *heavy - first_place];
            if (score > largest || score == Totals::kDropped) continue;
            const NumberRange rows = level().rows(*heavy);
            sum += codes_.n_entries(rows.begin, rows.end) - LevelNodes::kMostWeight;
        }
    });
    return sum;
}

template <typename Totals>
std::uint16_t TreeLevels<Totals>::find_cut() {
    const auto count_of = [this](std::size_t score) { return counted(score); };
    const auto weight_of = [this](std::size_t score) { return weighed(score, totals_.data()); };
    const auto kept = [this](std::size_t total) { return nodes_kept(pruning_.keep, total); };
    // In every mode the kept subtrees must hold k entries, so that the search can return k.
    if (pruning_.mode == KeepMode::gallery_ratio) {
        return guesses_[depth_] =
                   smallest_score(std::max(kept(codes_.n_entries()), n_needed_), largest_score(), guess_, weight_of);
    }
    const std::uint16_t score = guesses_[depth_] =
        smallest_score(kept(count_candidates()), largest_score(), guess_, count_of);
    if (counted(score) >= n_needed_) return score;  // no node is empty
    return std::max(score, smallest_score(n_needed_, largest_score(), score, weight_of));
}

// Raises the cut of the level so that enough entries are kept.
template <typename Totals>
void TreeLevels<Totals>::widen_radius() {
    // The distance on this level is the total less that of the levels above.
    std::vector<std::uint16_t> cuts = cuts_;
    cuts[depth_] = Totals::kDropped;
    Array<Value> on_level(n_compared_ * kGroup);
    LevelScan scan = scan_of(runs_, cuts.data());
    Totals::scan(scan, totals_.data());
    --scan.end_level;
    Totals::scan(scan, on_level.data());  // the totals without this level
    const std::size_t n_totals = n_compared_ * kGroup;
    for (std::size_t i = 0; i < n_totals; ++i) {
        const bool dropped = totals_[i] == Totals::kDropped;
        on_level[i] = dropped ? Totals::kDropped : static_cast<Value>(totals_[i] - on_level[i]);
    }
    const auto weight_of = [&](std::size_t score) { return weighed(score, on_level.data()); };
    cuts_[depth_] = std::max(cuts_[depth_], smallest_score(n_needed_, largest_score(), cuts_[depth_], weight_of));
    for (std::size_t i = 0; i < n_totals; ++i) {
        if (on_level[i] > cuts_[depth_]) totals_[i] = Totals::kDropped;
    }
}

template class TreeLevels<NarrowTotals>;
template class TreeLevels<WideTotals>;

}  // namespace fasthash
