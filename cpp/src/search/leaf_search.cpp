#include "search/leaf_search.h"

#include <algorithm>
#include <cstring>

#include "search/keep_rule.h"
#include "search/level_totals.h"
#include "search/smallest_score.h"

namespace fasthash {
namespace {

// Hits after which a query is left to TreeLevels. The sample leaves few more than k; without one, of n random codes
// k * (1 + log(n / k)) would be hits.
std::size_t most_hits(std::size_t k) {
    constexpr std::size_t kAnyway = 256, kForEach = 16;
    return kAnyway + kForEach * k;
}

}  // namespace

LeafSearch::LeafSearch(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout,
                       const Pruning& pruning, const QueryBlock& block, const std::uint8_t* prepared,
                       std::uint16_t likely_cut)
    : codes_(codes),
      entries_(codes, {}),
      tree_(tree),
      pruning_(pruning),
      block_(block),
      prepared_(prepared),
      stride_(layout.n_bytes() * kernels().prepared_bytes),
      layout_(layout),
      first_bytes_(layout.level_bytes(0)),
      second_bytes_(layout.level_bytes(1)),
      largest_prefix_(layout.offset(2) * 8),
      by_level_(pruning.mode == KeepMode::radius),
      cut_on_level_(static_cast<std::uint16_t>(bits_kept(pruning.keep, second_bytes_ * 8))),
      n_needed_(std::min(block.nearest[0].k(), codes.n_entries())),
      most_hits_(most_hits(n_needed_)),
      leaves_(tree.leaves()),
      weights_(pruning.mode == KeepMode::gallery_ratio ? leaves_.entries : leaves_.begins),
      most_weight_(pruning.mode == KeepMode::gallery_ratio ? leaves_.most_entries : Leaves::kMostBegins),
      queries_(std::min(kMostQueries, block.queries.n)),
      likely_threshold_(static_cast<std::uint16_t>(codes.n_bytes() * 2)),
      likely_cut_(likely_cut),
      n_with_cut_(largest_prefix_ + 1),
      near_(tree.prefixes(0).n_groups() * kGroup) {}

bool LeafSearch::serves(const LevelTree& tree, const Pruning& pruning, std::size_t k) {
    // Where nodes have few codes, or are few, or few codes are kept, or many are hits, TreeLevels is faster.
    constexpr double kLeastKept = 0.05, kLeastRadius = 0.4;
    constexpr std::size_t kLeastNodes = 4, kRowsForEachHit = 1000;
    if (!tree.has_leaves() || tree.n_levels() != 2 || pruning.cuts != nullptr) return false;
    if (tree.n_ranges() < kLeastNodes) return false;
    if (!tree.suits_three_parts()) return false;
    if (k > tree.n_rows() / kRowsForEachHit) return false;
    switch (pruning.mode) {
        case KeepMode::node_ratio:
            return pruning.keep * pruning.keep >= kLeastKept;
        case KeepMode::gallery_ratio:
            return pruning.keep >= kLeastKept && !tree.leaves().entries.empty();
        default:
            return pruning.keep >= kLeastRadius;
    }
}

std::uint32_t LeafSearch::run(std::size_t first, const std::vector<FirstLevel>& kept) {
    constexpr std::size_t kCallBytes = 32 * 1024;  // groups of a scan stay in the first-level cache
    for (std::size_t i = 0; i < kept.size(); ++i) {
        begin(queries_[i], first + i, kept[i]);
        take_sample(queries_[i]);
    }
    const std::size_t n_groups = leaves_.codes.n_groups();
    std::size_t per_call = ThreePartScan::kMostGroups;  // a divisor of 64: the bits of a scan are in one word
    while (per_call > 1 && per_call * kGroup * leaves_.codes.n_bytes() > kCallBytes) per_call /= 2;
    for (std::size_t group = 0; group < n_groups; group += per_call) {
        compare(group, std::min(per_call, n_groups - group), kept.size());
    }
    std::uint32_t answered = 0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (finish(first + i, queries_[i])) answered |= std::uint32_t{1} << i;
    }
    return answered;
}

void LeafSearch::begin(Query& query, std::size_t q, const FirstLevel& kept) {
    query.code = block_.queries.row(q);
    query.prepared = prepared_ + q * stride_;
    query.first_cut = static_cast<std::uint8_t>(std::min<std::uint16_t>(kept.cut, kDropped - 1));
    query.threshold = kDropped - 1;
    query.kept = &kept;
    query.guess = static_cast<std::uint8_t>(std::clamp<std::size_t>(likely_cut_, 1, largest_prefix_));
    query.largest[0] = static_cast<std::uint8_t>(query.guess - 1);
    query.largest[1] = query.guess;
    std::memset(query.counts, 0, sizeof query.counts);
    query.gave_up = false;
    query.n_within = 0;
    std::memset(query.n_at, 0, sizeof query.n_at);
    query.hits.clear();
    query.groups.clear(leaves_.codes.n_groups());
    query.groups.add_each(kept.nodes.begin(), kept.nodes.end(),
                          [this](std::uint32_t node) { return tree_.groups_below(node); });
    query.needed = pruning_.mode == KeepMode::gallery_ratio
                       ? std::max(nodes_kept(pruning_.keep, codes_.n_entries()), n_needed_)
                       : nodes_kept(pruning_.keep, kept.n_below);
}

// Lowers the threshold of a query to the k-th smallest total of a sample: codes in the groups of the nearest nodes.
void LeafSearch::take_sample(Query& query) {
    const FirstLevel& kept = *query.kept;
    constexpr std::size_t kLeastGroups = 16, kShare = 16;  // half and twice the share took as long
    const std::size_t n_wanted = std::max(kLeastGroups, query.groups.size() / kShare);
    const std::uint8_t nearest = *std::min_element(kept.distances, kept.distances + near_.size());
    std::size_t n_taken = 0;
    sampled_.clear(leaves_.codes.n_groups());
    for (std::uint8_t distance = nearest; distance <= std::min<std::size_t>(nearest + 1, kept.cut); ++distance) {
        const std::size_t n =
            kernels().find_between(kept.distances, near_.size() / kGroup, distance, distance, near_.data());
        for (std::size_t i = 0; i < n && n_taken < n_wanted; ++i) {
            NumberRange of_node = tree_.groups_below(near_[i]);
            of_node.end = std::min(of_node.end, of_node.begin + n_wanted - n_taken);
            sampled_.add(of_node);
            n_taken += of_node.size();
        }
    }
    sampled_.list_runs(tree_.n_rows(), runs_);
    const auto cut = by_level_ ? static_cast<std::uint8_t>(cut_on_level_) : query.guess;
    const std::size_t two_parts = first_bytes_ + second_bytes_;
    compare_runs(query, {{0, first_bytes_, query.first_cut},
                         {first_bytes_, second_bytes_, cut},
                         {two_parts, leaves_.codes.n_bytes() - two_parts, kDropped}});
    const std::size_t n_compared = totals_.size() / kGroup;
    const auto count = [&](std::size_t largest) {
        return kernels().count_at_most(totals_.data(), n_compared, static_cast<std::uint8_t>(largest));
    };
    likely_threshold_ = smallest_score(n_needed_, kDropped - 1, likely_threshold_, count);
    query.threshold = static_cast<std::uint8_t>(likely_threshold_);
}

// Compares groups with the queries that keep their nodes.
void LeafSearch::compare(std::size_t first_group, std::size_t n_groups, std::size_t n_queries) {
    ThreePartQuery* wanting[kMostQueries];
    std::size_t n_wanting = 0;
    for (std::size_t i = 0; i < n_queries; ++i) {
        Query& query = queries_[i];
        query.wanted = query.groups.from(first_group);
        if (n_groups < 64) query.wanted &= (std::uint64_t{1} << n_groups) - 1;
        if (query.wanted != 0) wanting[n_wanting++] = &query;
    }
    if (n_wanting == 0) return;
    first_group_ = first_group;
    const ByteMajorCodes& codes = leaves_.codes;
    kernels().scan_three_parts({codes.stored().data() + first_group * kGroup * codes.n_bytes(), n_groups,
                                codes.n_bytes(), first_bytes_, second_bytes_, weights_.data() + first_group * kGroup,
                                most_weight_, n_counted(), wanting, n_wanting, this});
}

void LeafSearch::take(ThreePartQuery& of_scan, std::size_t group, std::uint64_t rows, const std::uint8_t* prefix_totals,
                      const std::uint8_t* totals) {
    auto& query = static_cast<Query&>(of_scan);
    if (query.gave_up) return;
    const std::size_t first_row = (first_group_ + group) * kGroup;
    rows &= rows_of_group({0, tree_.n_rows()}, first_row);
    for (; rows != 0; rows &= rows - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
        if (totals[i] > query.threshold || (by_level_ && !is_within_levels(query, first_row + i))) continue;
        const bool certain = by_level_ || prefix_totals[i] <= query.guess;
        query.hits.push_back({static_cast<std::uint32_t>(first_row + i), prefix_totals[i], totals[i]});
        query.n_at[totals[i]] += certain;
        query.n_within += certain;
    }
    while (query.n_within - query.n_at[query.threshold] >= n_needed_) {
        query.n_within -= query.n_at[query.threshold--];
    }
    query.gave_up = query.hits.size() > most_hits_;
    if (query.gave_up) query.groups.clear(leaves_.codes.n_groups());
}

// Pushes the hits within the cut of the second level; false if the query must be left to TreeLevels.
bool LeafSearch::finish(std::size_t q, const Query& query) {
    if (query.gave_up) return false;
    const std::uint16_t cut = cut_of(query);
    const auto is_kept = [&](const Hit& hit) { return (hit.total <= query.threshold) & (hit.prefix <= cut); };
    // If k hits are kept, no code beyond the threshold is among the k nearest. If not, TreeLevels may raise the cut.
    // Which hits are kept can hardly be predicted, so that there are no branches.
    kept_.resize(query.hits.size());
    std::size_t n_kept = 0;
    for (const Hit& hit : query.hits) {
        kept_[n_kept] = hit;
        n_kept += is_kept(hit) ? 1 : 0;
    }
    if (n_kept < n_needed_) return false;
    for (std::size_t i = 0; i < n_kept; ++i) entries_.prefetch(kept_[i].row);
    for (std::size_t i = 0; i < n_kept; ++i) entries_.push(kept_[i].row, kept_[i].total, block_.nearest[q]);
    if (block_.stats != nullptr) note(q, query, cut);
    return true;
}

// The cut of the second level, or one that keeps the same hits where the cut would cost time.
std::uint16_t LeafSearch::cut_of(const Query& query) {
    if (by_level_) return kDropped;  // only hits within the cut were taken
    // A guess no larger than the cut keeps the same hits, if none that matters is beyond it.
    const auto is_certain = [&query](const Hit& hit) {
        return hit.prefix <= query.guess || hit.total > query.threshold;
    };
    const bool decides =
        query.weight_up_to(0) < query.needed && std::all_of(query.hits.begin(), query.hits.end(), is_certain);
    if (!decides || block_.stats != nullptr) return find_cut(query);
    if (n_counted() == 2) note_cut(static_cast<std::uint16_t>(query.guess + (query.weight_up_to(1) < query.needed)));
    return query.guess;
}

// The cut of the second level, unless there are too few entries within it.
std::uint16_t LeafSearch::find_cut(const Query& query) {
    std::vector<std::size_t> weights(largest_prefix_ + 2, SIZE_MAX);  // up to each total; SIZE_MAX if not known
    for (std::size_t i = 0; i < n_counted(); ++i) weights[query.largest[i]] = query.weight_up_to(i);
    bool compared = false;
    const auto weight_up_to = [&](std::size_t largest) {
        if (weights[largest] != SIZE_MAX) return weights[largest];
        if (!compared) {
            // The cut is near the guess: count on that side of it.
            const auto on_side =
                static_cast<std::uint8_t>(largest < query.guess ? largest - (largest > 0) : largest + 1);
            TotalCount count{weights_.data(), most_weight_, {static_cast<std::uint8_t>(largest), on_side}, {0, 0}};
            compare_two_levels(query, &count);
            for (std::size_t i = 0; i < 2; ++i) {
                weights[count.largest[i]] = static_cast<std::size_t>(count.counts[i]);
            }
            compared = true;
        } else {
            weights[largest] = weigh(weights_, largest);
        }
        return weights[largest];
    };
    const std::uint16_t cut = smallest_score(query.needed, largest_prefix_, query.guess, weight_up_to);
    note_cut(cut);
    return cut;
}

void LeafSearch::note(std::size_t q, const Query& query, std::size_t cut) {
    compare_two_levels(query);
    const std::size_t n_nodes = weigh(leaves_.begins, std::min<std::size_t>(cut, kDropped - 1));
    const Array<std::uint32_t>& kept = query.kept->nodes;
    QueryStats work;
    work.nodes_visited = static_cast<std::int64_t>(1 + kept.size() + n_nodes);  // and the root
    for (const std::uint32_t node : kept) {
        work.codes_compared += static_cast<std::int64_t>(tree_.range(node, tree_.n_levels()).size());
    }
    block_.note(q, work);
}

// Whether a code that is near on the first level is within the cut on the second one alone.
bool LeafSearch::is_within_levels(const Query& query, std::size_t row) const {
    const std::uint16_t cuts[] = {query.first_cut, cut_on_level_};
    const std::uint8_t* group = leaves_.codes.stored().data() + row / kGroup * kGroup * leaves_.codes.n_bytes();
    unsigned total;
    return LevelCuts{layout_, cuts, 2, true}.first_beyond(query.code, group, row % kGroup, total) == 2;
}

// Sets totals_ to those of the codes of runs_ over some of their bytes.
void LeafSearch::compare_runs(const Query& query, std::initializer_list<CodePart> parts, TotalCount* count) {
    std::size_t n_groups = 0;
    for (const CodeRun& run : runs_) n_groups += groups_of(run);
    totals_.resize(n_groups * kGroup);
    kernels().scan_parts({query.prepared, leaves_.codes.stored().data(), leaves_.codes.n_bytes(), runs_.data(),
                          runs_.size(), parts.begin(), parts.size(), by_level_, totals_.data()},
                         count);
}

// The totals over both levels of all codes below kept nodes of the first.
void LeafSearch::compare_two_levels(const Query& query, TotalCount* count) {
    query.groups.list_runs(tree_.n_rows(), runs_);
    const auto cut = by_level_ ? static_cast<std::uint8_t>(cut_on_level_) : kDropped;
    compare_runs(query, {{0, first_bytes_, query.first_cut}, {first_bytes_, second_bytes_, cut}}, count);
}

// The weights of the codes of runs_ whose total is at most `largest`.
std::size_t LeafSearch::weigh(const Array<std::uint8_t>& weights, std::size_t largest) const {
    std::size_t sum = 0;
    const std::uint8_t* totals = totals_.data();
    for (const CodeRun& run : runs_) {
        sum += static_cast<std::size_t>(kernels().sum_at_most(totals, weights.data() + run.first_group * kGroup,
                                                              groups_of(run), static_cast<std::uint8_t>(largest)));
        totals += groups_of(run) * kGroup;
    }
    return sum;
}

}  // namespace fasthash
