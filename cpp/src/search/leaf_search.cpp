#include "search/leaf_search.h"

#include <algorithm>
#include <cstring>

#include "search/keep_rule.h"
#include "search/smallest_score.h"

namespace fasthash {
namespace {

// Hits after which a query is left to TreeLevels. The sample leaves few more than k; without one, of n random codes
// k * (1 + log(n / k)) would be hits.
std::size_t most_hits(std::size_t k) {
    constexpr std::size_t kAnyway = 256, kForEach = 16;
    return kAnyway + kForEach * k;
}

// Sets bits begin .. end - 1.
void set_bits(std::uint64_t* words, std::size_t begin, std::size_t end) {
    while (begin < end) {
        const std::size_t n = std::min(end - begin, 64 - begin % 64);
        words[begin / 64] |= ~std::uint64_t{0} >> (64 - n) << begin % 64;
        begin += n;
    }
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
      skipped_(layout.offset(1) * kernels().prepared_bytes),
      first_bytes_(layout.level_bytes(1)),
      largest_first_(layout.offset(2) * 8),
      by_level_(pruning.mode == KeepMode::radius),
      cut_on_level_(bits_kept(pruning.keep, first_bytes_ * 8)),
      n_needed_(std::min(block.nearest[0].k(), codes.n_entries())),
      most_hits_(most_hits(n_needed_)),
      leaves_(tree.leaves()),
      weights_(pruning.mode == KeepMode::gallery_ratio ? leaves_.entries : leaves_.begins),
      most_weight_(pruning.mode == KeepMode::gallery_ratio ? leaves_.most_entries : std::uint8_t{1}),
      queries_(std::min(kMostQueries, block.queries.n)),
      likely_threshold_(static_cast<std::uint16_t>(codes.n_bytes() * 2)),
      likely_cut_(likely_cut),
      n_with_cut_(largest_first_ + 1),
      sampled_(tree.prefixes(0).n_groups() * kGroup) {}

bool LeafSearch::serves(const LevelTree& tree, const Pruning& pruning, std::size_t k) {
    // Where nodes have fewer codes than a group, or are few, or few codes are kept, or many are hits, TreeLevels is
    // faster.
    constexpr double kLeastKept = 0.05, kLeastRadius = 0.4;
    constexpr std::size_t kLeastNodes = 4, kRowsForEachHit = 1024;
    if (!tree.has_leaves() || tree.n_levels() != 2 || pruning.cuts != nullptr) return false;
    if (tree.n_ranges() < kLeastNodes || tree.n_rows() < kGroup * tree.n_ranges()) return false;
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
        begin(queries_[i], kept[i], prepared_ + (first + i) * stride_ + skipped_);
        take_sample(queries_[i]);
    }
    const std::size_t n_groups = leaves_.codes.n_groups();
    std::size_t per_call = TwoPartScan::kMostGroups;  // a divisor of 64: the bits of a scan are in one word
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

void LeafSearch::begin(Query& query, const FirstLevel& kept, const std::uint8_t* prepared) {
    query.prepared = prepared;
    query.before = kept.distances;
    query.threshold = kDropped - 1;
    query.kept = &kept;
    query.guess = static_cast<std::uint8_t>(std::clamp<std::size_t>(likely_cut_, 1, largest_first_));
    query.largest[0] = query.guess;
    query.largest[1] = static_cast<std::uint8_t>(query.guess - 1);
    std::memset(query.counts, 0, sizeof query.counts);
    query.gave_up = false;
    query.n_within = 0;
    std::memset(query.n_at, 0, sizeof query.n_at);
    query.hits.clear();
    query.groups.assign(leaves_.codes.n_groups() / 64 + 1, 0);
    std::uint64_t* groups = query.groups.data();
    std::size_t n_nodes = 0, n_groups = 0;
    for (const std::uint32_t node : kept.nodes) {
        const RowRange places = places_of(node);
        const std::size_t first = places.begin / kGroup, end = (places.end + kGroup - 1) / kGroup;
        set_bits(groups, first, end);
        n_groups += end - first;
        n_nodes += tree_.weights()[node].n_below;
    }
    query.n_groups = n_groups;
    query.needed = pruning_.mode == KeepMode::gallery_ratio
                       ? std::max(nodes_kept(pruning_.keep, codes_.n_entries()), n_needed_)
                       : nodes_kept(pruning_.keep, n_nodes);
}

// Lowers the threshold of a query to the k-th smallest total of a sample: codes below the nearest nodes.
void LeafSearch::take_sample(Query& query) {
    const FirstLevel& kept = *query.kept;
    constexpr std::size_t kLeastGroups = 16, kShare = 16;  // half and twice the share took as long
    const std::size_t n_wanted = std::max(kLeastGroups, query.n_groups / kShare);
    const std::uint8_t nearest = *std::min_element(kept.distances, kept.distances + sampled_.size());
    std::size_t n_groups = 0;
    runs_.clear();
    for (std::uint8_t distance = nearest; distance <= std::min<std::size_t>(nearest + 1, kept.largest); ++distance) {
        const std::size_t n =
            kernels().find_between(kept.distances, sampled_.size() / kGroup, distance, distance, sampled_.data());
        for (std::size_t i = 0; i < n && n_groups < n_wanted; ++i) {
            CodeRun run = run_of(query, sampled_[i]);
            run.n_codes =
                static_cast<std::uint32_t>(std::min(std::size_t{run.n_codes}, (n_wanted - n_groups) * kGroup));
            n_groups += groups_of(run);
            runs_.push_back(run);
        }
    }
    const auto cut = by_level_ ? static_cast<std::uint8_t>(cut_on_level_) : query.guess;
    compare_runs(query, {{0, first_bytes_, cut}, {first_bytes_, leaves_.codes.n_bytes() - first_bytes_, kDropped}});
    const auto count = [&](std::size_t largest) {
        return kernels().count_at_most(totals_.data(), n_groups, static_cast<std::uint8_t>(largest));
    };
    likely_threshold_ = smallest_score(n_needed_, kDropped - 1, likely_threshold_, count);
    query.threshold = static_cast<std::uint8_t>(likely_threshold_);
}

// Compares groups with the queries that keep their nodes.
void LeafSearch::compare(std::size_t first_group, std::size_t n_groups, std::size_t n_queries) {
    TwoPartQuery* wanting[kMostQueries];
    std::size_t n_wanting = 0;
    for (std::size_t i = 0; i < n_queries; ++i) {
        Query& query = queries_[i];
        query.wanted = query.groups[first_group / 64] >> first_group % 64;
        if (n_groups < 64) query.wanted &= (std::uint64_t{1} << n_groups) - 1;
        if (query.wanted != 0) wanting[n_wanting++] = &query;
    }
    if (n_wanting == 0) return;
    first_group_ = first_group;
    const ByteMajorCodes& codes = leaves_.codes;
    kernels().scan_two_parts({codes.stored().data() + first_group * kGroup * codes.n_bytes(), n_groups, codes.n_bytes(),
                              first_bytes_, leaves_.nodes.data() + first_group, weights_.data() + first_group * kGroup,
                              most_weight_, wanting, n_wanting, this});
}

void LeafSearch::take(TwoPartQuery& of_scan, std::size_t group, std::uint64_t rows, const std::uint8_t* firsts,
                      const std::uint8_t* totals) {
    auto& query = static_cast<Query&>(of_scan);
    if (query.gave_up) return;
    const std::size_t number = first_group_ + group, node = leaves_.nodes[number];
    const RowRange places = places_of(node);
    const std::size_t n_left = places.end - number * kGroup;
    if (n_left < kGroup) rows &= (std::uint64_t{1} << n_left) - 1;
    const std::size_t first_row = tree_.range(node, tree_.n_levels()).begin + (number * kGroup - places.begin);
    const std::uint8_t largest = largest_certain(query, node);
    for (; rows != 0; rows &= rows - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
        const bool certain = firsts[i] <= largest;
        if (by_level_ && !certain) continue;
        query.hits.push_back({static_cast<std::uint32_t>(first_row + i), firsts[i], totals[i]});
        query.n_at[totals[i]] += certain;
        query.n_within += certain;
    }
    while (query.n_within - query.n_at[query.threshold] >= n_needed_) {
        query.n_within -= query.n_at[query.threshold--];
    }
    query.gave_up = query.hits.size() > most_hits_;
    if (query.gave_up) std::fill(query.groups.begin(), query.groups.end(), 0);
}

// Pushes the hits within the cut of the second level; false if the query must be left to TreeLevels.
bool LeafSearch::finish(std::size_t q, const Query& query) {
    if (query.gave_up) return false;
    const std::optional<std::uint16_t> cut = cut_of(query);
    if (!cut) return false;
    const auto is_kept = [&](const Hit& hit) { return hit.total <= query.threshold && hit.first <= *cut; };
    // If k hits are kept, no code beyond the threshold is among the k nearest. By level, TreeLevels raises a small cut.
    const auto n_kept = static_cast<std::size_t>(std::count_if(query.hits.begin(), query.hits.end(), is_kept));
    if (n_kept < n_needed_ && (by_level_ || query.threshold < kDropped - 1)) return false;
    for (const Hit& hit : query.hits) {
        if (is_kept(hit)) entries_.prefetch(hit.row);
    }
    for (const Hit& hit : query.hits) {
        if (is_kept(hit)) entries_.push(hit.row, hit.total, block_.nearest[q]);
    }
    note_cut(*cut);
    if (block_.stats != nullptr) note(q, query, *cut);
    return true;
}

// The cut of the second level, or one that keeps the same hits where the cut would cost time; none if the query must be
// left to TreeLevels.
std::optional<std::uint16_t> LeafSearch::cut_of(const Query& query) {
    if (by_level_) return kDropped;  // only hits within the cut were taken
    // A guess no larger than the cut keeps the same hits, if none that matters is beyond it.
    const auto is_certain = [&query](const Hit& hit) {
        return hit.first <= query.guess || hit.total > query.threshold;
    };
    const bool decides =
        query.weight_up_to(1) < query.needed && std::all_of(query.hits.begin(), query.hits.end(), is_certain);
    if (!decides || block_.stats != nullptr) return find_cut(query);
    const bool is_larger = query.guess < largest_first_ && query.weight_up_to(0) < query.needed;
    return static_cast<std::uint16_t>(query.guess + is_larger);
}

// The cut of the second level; none if there may be too few entries within it: TreeLevels raises it then.
std::optional<std::uint16_t> LeafSearch::find_cut(const Query& query) {
    std::vector<std::size_t> weights(largest_first_ + 2, SIZE_MAX);  // up to each total; SIZE_MAX if not known
    for (std::size_t i = 0; i < 2; ++i) weights[query.largest[i]] = query.weight_up_to(i);
    bool compared = false;
    const auto weight_up_to = [&](std::size_t largest) {
        if (weights[largest] != SIZE_MAX) return weights[largest];
        if (!compared) {
            // The cut is near the guess: count on that side of it.
            const auto on_side =
                static_cast<std::uint8_t>(largest < query.guess ? largest - (largest > 0) : largest + 1);
            TotalCount count{weights_.data(), {static_cast<std::uint8_t>(largest), on_side}, {0, 0}};
            compare_firsts(query, &count);
            for (std::size_t i = 0; i < 2; ++i) {
                weights[count.largest[i]] = static_cast<std::size_t>(count.counts[i]);
            }
            compared = true;
        } else {
            weights[largest] = weigh(weights_, largest);
        }
        return weights[largest];
    };
    const std::uint16_t cut = smallest_score(query.needed, largest_first_, query.guess, weight_up_to);
    if (pruning_.mode == KeepMode::node_ratio && weight_up_to(cut) < n_needed_) return std::nullopt;
    return cut;
}

void LeafSearch::note(std::size_t q, const Query& query, std::size_t cut) {
    compare_firsts(query);
    const std::size_t n_nodes = weigh(leaves_.begins, std::min<std::size_t>(cut, kDropped - 1));
    const Array<std::uint32_t>& kept = query.kept->nodes;
    QueryStats work;
    work.nodes_visited = static_cast<std::int64_t>(1 + kept.size() + n_nodes);  // and the root
    for (const std::uint32_t node : kept) {
        work.codes_compared += static_cast<std::int64_t>(tree_.range(node, tree_.n_levels()).size());
    }
    block_.note(q, work);
}

CodeRun LeafSearch::run_of(const Query& query, std::uint32_t node) const {
    const RowRange places = places_of(node);
    return {static_cast<std::uint32_t>(places.begin / kGroup), places.end - places.begin, query.before[node]};
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
void LeafSearch::compare_firsts(const Query& query, TotalCount* count) {
    runs_.clear();
    for (const std::uint32_t node : query.kept->nodes) runs_.push_back(run_of(query, node));
    compare_runs(query, {{0, first_bytes_, by_level_ ? static_cast<std::uint8_t>(cut_on_level_) : kDropped}}, count);
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
