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
    open_level();
}

template <typename Totals>
void TreeLevels<Totals>::open_level() {
    if (at_leaves()) {
        cuts_[depth_] = Totals::kDropped;
        guess_ = std::min<std::size_t>(guesses_[depth_], largest_score());
        leaves_.start(tree_.leaves().codes.n_groups());
    } else if (!counts()) {
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
    next_ = n_compared_ = 0;
    if (reads_leaves()) return list_leaves();
    listed_.clear();
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
    if (goes_on()) return;  // the same as on the level before
    const std::size_t n_groups = tree_.leaves().codes.n_groups();
    runs_.clear();
    listed_.clear();
    if (!tree_.is_coarse() || reads_all_leaves()) {
        runs_.push_back({0, static_cast<std::uint32_t>(tree_.n_rows()), 0});
        return;
    }
    constexpr std::uint32_t kAnyway = 4;  // groups written for a node without asking whether it has so many
    listed_.resize(n_groups + kAnyway);
    std::uint32_t* end = listed_.begin();
    std::uint32_t next = 0;  // the first group that is not listed
    for (const std::uint32_t node : first_kept()) {
        const NumberRange groups = tree_.groups_below(node);
        const std::uint32_t first = std::max(next, static_cast<std::uint32_t>(groups.begin));
        next = static_cast<std::uint32_t>(groups.end);
        const std::uint32_t n = next - first;
        for (std::uint32_t i = 0; i < kAnyway; ++i) end[i] = first + i;
        for (std::uint32_t i = kAnyway; i < n; ++i) end[i] = first + i;
        end += n;
    }
    listed_.resize(static_cast<std::size_t>(end - listed_.begin()));
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
    if (!tree_.is_coarse() || reads_all_leaves()) return tree_.n_rows();
    std::size_t n = 0;
    for (const std::uint32_t node : first_kept()) n += tree_.range(node, tree_.n_levels()).size();
    return n;
}

template <typename Totals>
LevelScan TreeLevels<Totals>::scan_of(const std::vector<CodeRun>& runs, const std::uint16_t* cuts) const {
    const ByteMajorCodes& prefixes = compared(depth_);
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
    const bool all = groups.begin == 0 && groups.end == compared(depth_).n_groups();
    if (!all) list_runs_in(groups);
    const std::vector<CodeRun>& runs = all ? runs_ : runs_in_chunk_;
    const GroupList list = list_in(groups);
    if (runs.empty() && list.n == 0) return;
    LevelScan scan = scan_of(runs, cuts_.data());
    scan.list = list;
    if (at_leaves()) {
        scan.found = leaves_.found() + n_compared_;
        scan.largest_found = guess_;
    }
    Value* totals = totals_.data() + n_compared_ * kGroup;
    n_compared_ += list.n;
    for (const CodeRun& run : runs) n_compared_ += groups_of(run);
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
    for (; next_ < runs_.size() && runs_[next_].first_group < groups.end; ++next_) {
        CodeRun run = runs_[next_];
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
GroupList TreeLevels<Totals>::list_in(NumberRange groups) {
    const std::uint32_t *const first = listed_.data() + next_, *const all_end = listed_.data() + listed_.size();
    const auto n = static_cast<std::size_t>(std::lower_bound(first, all_end, groups.end) - first);
    next_ += n;
    return {first, n, tree_.n_rows()};
}

template <typename Totals>
void TreeLevels<Totals>::settle() {
    if (at_leaves()) return settle_leaves();
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
        n_first_kept_ = count_up_to(largest_total_);
    }
    if (is_last()) return;
    if (counts_kept_) n_kept_ += count_up_to(largest_total_);
    ++depth_;
    open_level();
}

// The distance of the k-th is counted only where the guess does not do.
template <typename Totals>
void TreeLevels<Totals>::settle_leaves() {
    const std::uint32_t* groups = listed_.empty() ? nullptr : listed_.data();
    if (leaves_.take(n_compared_, totals_.data(), groups, n_needed_)) {
        if (leaves_.took_many(n_needed_) && guess_ > 0) guesses_[depth_] = static_cast<std::uint16_t>(guess_ - 1);
        return;
    }
    const auto count_of = [this](std::size_t distance) { return count(distance); };
    const std::uint16_t last = smallest_score(n_needed_, largest_score(), guess_, count_of);
    guesses_[depth_] = last;
    leaves_.clear();
    each_between(0, last, [this](std::size_t row, Value total) { leaves_.add(row, std::int32_t{total}); });
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
    if (of_place == nullptr) return count = this->count(largest);
    if (listed_.empty()) return count = sum_of(of_place, totals_.data(), largest);
    count_listed(largest);
    return count;
}

// Counts the leaves of listed groups up to this total and the next one on its side of the guess: one more pass may need
// it, and adding up the groups one by one would take longer.
template <typename Totals>
void TreeLevels<Totals>::count_listed(std::size_t largest) {
    const std::size_t next =
        largest < guess_ ? largest - (largest > 0 ? 1 : 0) : std::min(largest + 1, largest_score());
    LevelScan scan = scan_of(runs_, cuts_.data());
    scan.list = {listed_.data(), listed_.size(), tree_.n_rows()};
    scan.first_level = scan.end_level;  // goes on with no further level
    scan.goes_on = true;
    const PlaceWeights weights = this->weights();
    TotalCount count{
        weights.of_place, weights.most, {static_cast<std::uint8_t>(largest), static_cast<std::uint8_t>(next)}, {0, 0}};
    Totals::scan(scan, totals_.data(), &count);
    counts_[largest] = static_cast<std::size_t>(count.counts[0]);
    counts_[next] = static_cast<std::size_t>(count.counts[1]);
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
