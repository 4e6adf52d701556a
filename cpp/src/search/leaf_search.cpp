#include "search/leaf_search.h"

#include <algorithm>
#include <numeric>

#include "search/keep_rule.h"
#include "search/smallest_score.h"

namespace fasthash {
namespace {

// Hits after which a query is left to TreeLevels. Of random codes in random order, k * (1 + log(n / k)) are hits.
std::size_t most_hits(std::size_t k) {
    constexpr std::size_t kAnyway = 256, kForEach = 16;
    return kAnyway + kForEach * k;
}

std::size_t groups_of(RowRange places) { return (places.end - places.begin + kGroup - 1) / kGroup; }

}  // namespace

LeafSearch::LeafSearch(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout,
                       const Pruning& pruning, const QueryBlock& block, const std::uint8_t* prepared)
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
      cut_on_level_(static_cast<std::size_t>(keep_at_most(pruning.keep, static_cast<double>(first_bytes_ * 8)))),
      n_needed_(std::min(block.nearest[0].k(), codes.n_entries())),
      most_hits_(most_hits(n_needed_)),
      weights_(pruning.mode == KeepMode::gallery_ratio ? tree.leaf_entries() : tree.leaf_begins()),
      queries_(std::min(kMostQueries, block.queries.n)),
      wanting_(tree.level(0).n_nodes) {}

bool LeafSearch::serves(const LevelTree& tree, const Pruning& pruning) {
    // Where nodes have fewer codes than a group, or few codes are kept, TreeLevels is faster.
    constexpr double kLeastKept = 0.05, kLeastRadius = 0.4;
    if (!tree.has_leaves() || tree.n_levels() != 2 || pruning.cuts != nullptr) return false;
    if (tree.n_rows() < kGroup * tree.n_ranges()) return false;
    switch (pruning.mode) {
        case KeepMode::node_ratio:
            return pruning.keep * pruning.keep >= kLeastKept;
        case KeepMode::gallery_ratio:
            return pruning.keep >= kLeastKept && !tree.leaf_entries().empty();
        default:
            return pruning.keep >= kLeastRadius;
    }
}

std::uint32_t LeafSearch::run(std::size_t first, const std::vector<FirstLevel>& kept, std::uint16_t& likely_cut) {
    std::fill(wanting_.begin(), wanting_.end(), 0);
    for (std::size_t i = 0; i < kept.size(); ++i) {
        const std::uint32_t mask = std::uint32_t{1} << i, nearest = kept[i].nearest();
        begin(queries_[i], kept[i], prepared_ + (first + i) * stride_ + skipped_, likely_cut);
        compare(nearest, mask);  // first: it brings the limit down
        for (const std::uint32_t node : kept[i].nodes) {
            if (node != nearest) wanting_[node] |= mask;
        }
    }
    for (std::size_t node = 0; node < wanting_.size(); ++node) {
        if (wanting_[node] != 0) compare(node, wanting_[node]);
    }
    std::uint32_t answered = 0;
    for (std::size_t i = 0; i < kept.size(); ++i) {
        if (finish(first + i, kept[i], queries_[i], likely_cut)) answered |= std::uint32_t{1} << i;
    }
    return answered;
}

void LeafSearch::begin(Query& query, const FirstLevel& kept, const std::uint8_t* prepared, std::uint16_t guess) {
    std::size_t n_groups = 0;
    for (const std::uint32_t node : kept.nodes) n_groups += groups_of(places_of(node));
    query.all_firsts.resize(n_groups * kGroup);
    query.distances = kept.distances;
    query.prepared = prepared;
    query.limit = kDropped - 1;
    query.certain = static_cast<std::uint8_t>(std::clamp<std::size_t>(guess, 1, largest_first_));
    query.largest = static_cast<std::uint8_t>(query.certain - 1);
    std::fill(query.count, query.count + TwoPartQuery::kLanes, 0);
    query.firsts = query.all_firsts.data();
    query.gave_up = false;
    query.n_within = 0;
    std::fill(query.n_at, query.n_at + kDropped, 0);
    query.hits.clear();
}

// Compares the codes below a node of the first level with the queries that keep it.
void LeafSearch::compare(std::size_t node, std::uint32_t mask) {
    TwoPartQuery* wanting[kMostQueries];
    std::size_t n_wanting = 0;
    for (; mask != 0; mask &= mask - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctz(mask));
        Query& query = queries_[i];
        query.before = query.distances[node];
        if (by_level_) query.certain = static_cast<std::uint8_t>(query.before + cut_on_level_);
        wanting[n_wanting++] = &query;
    }
    const RowRange places = places_of(node);
    const ByteMajorCodes& leaves = tree_.prefixes(tree_.n_levels());
    first_row_ = tree_.range(node, tree_.n_levels()).begin;
    kernels().scan_two_parts({leaves.stored().data() + places.begin * leaves.n_bytes(), places.end - places.begin,
                              leaves.n_bytes(), first_bytes_, weights_.data() + places.begin, wanting, n_wanting,
                              this});
}

void LeafSearch::take(TwoPartQuery& of_scan, std::size_t group, std::uint64_t rows, const std::uint8_t* firsts,
                      const std::uint8_t* totals) {
    auto& query = static_cast<Query&>(of_scan);
    if (query.gave_up) return;
    for (std::uint64_t left = rows; left != 0; left &= left - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(left));
        if (firsts[i] > query.certain) continue;
        ++query.n_at[totals[i]];
        ++query.n_within;
    }
    while (query.n_within - query.n_at[query.limit] >= n_needed_) query.n_within -= query.n_at[query.limit--];
    for (; rows != 0; rows &= rows - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
        if (totals[i] > query.limit || (by_level_ && firsts[i] > query.certain)) continue;
        query.hits.push_back({static_cast<std::uint32_t>(first_row_ + group * kGroup + i), firsts[i], totals[i]});
    }
    query.gave_up = query.hits.size() > most_hits_;
    if (query.gave_up) query.limit = 0;
}

// Pushes the hits within the cut of the second level; false if the query must be left to TreeLevels.
bool LeafSearch::finish(std::size_t q, const FirstLevel& kept, const Query& query, std::uint16_t& likely_cut) {
    if (query.gave_up) return false;
    const std::size_t weight_below = std::accumulate(query.count, query.count + TwoPartQuery::kLanes, std::size_t{0});
    const auto is_near = [&query](const Hit& hit) { return hit.total <= query.limit; };
    const bool all_certain = std::all_of(query.hits.begin(), query.hits.end(),
                                         [&](const Hit& hit) { return hit.first <= query.certain || !is_near(hit); });
    // If the cut is the guess or larger, all hits up to the guess are kept. It is computed where hits depend on it.
    std::uint16_t cut = by_level_ ? kDropped : query.certain;
    const bool decides = by_level_ || (all_certain && weight_below < needed(kept));
    if (!decides || (block_.stats != nullptr && !by_level_)) {
        const auto weight_up_to = [&](std::size_t largest) {
            return largest == query.largest ? weight_below : weigh(kept, query, weights_, largest);
        };
        likely_cut = cut = smallest_score(needed(kept), largest_first_, query.certain, weight_up_to);
        // TreeLevels raises a cut within which there may be too few entries.
        if (pruning_.mode == KeepMode::node_ratio && weight_up_to(cut) < n_needed_) return false;
    }
    const auto is_kept = [&](const Hit& hit) { return is_near(hit) && hit.first <= cut; };
    // If k hits are kept, no code beyond the limit is among the k nearest. By level, TreeLevels raises a small cut.
    const auto n_kept = static_cast<std::size_t>(std::count_if(query.hits.begin(), query.hits.end(), is_kept));
    if (n_kept < n_needed_ && (by_level_ || query.limit < kDropped - 1)) return false;
    for (const Hit& hit : query.hits) {
        if (is_kept(hit)) entries_.prefetch(hit.row);
    }
    for (const Hit& hit : query.hits) {
        if (is_kept(hit)) entries_.push(hit.row, hit.total, block_.nearest[q]);
    }
    if (block_.stats != nullptr) note(q, kept, weigh(kept, query, tree_.leaf_begins(), cut));
    return true;
}

void LeafSearch::note(std::size_t q, const FirstLevel& kept, std::size_t n_nodes) const {
    QueryStats work;
    work.nodes_visited = static_cast<std::int64_t>(1 + kept.nodes.size() + n_nodes);  // and the root
    for (const std::uint32_t node : kept.nodes) {
        work.codes_compared += static_cast<std::int64_t>(tree_.range(node, tree_.n_levels()).size());
    }
    block_.note(q, work);
}

// The weight that the nodes kept at the second level must have.
std::size_t LeafSearch::needed(const FirstLevel& kept) const {
    const auto share = [this](std::size_t n) {
        return static_cast<std::size_t>(keep_at_least(pruning_.keep, static_cast<double>(n)));
    };
    if (pruning_.mode == KeepMode::gallery_ratio) return std::max(share(codes_.n_entries()), n_needed_);
    std::size_t n_nodes = 0;
    for (const std::uint32_t node : kept.nodes) n_nodes += tree_.weights()[node].n_below;
    return share(n_nodes);
}

// The weights of the codes whose total over both levels is at most `largest`.
std::size_t LeafSearch::weigh(const FirstLevel& kept, const Query& query, const Array<std::uint8_t>& weights,
                              std::size_t largest) const {
    std::size_t sum = 0;
    const std::uint8_t* firsts = query.all_firsts.data();
    const auto add = [&](std::uint32_t node) {
        const RowRange places = places_of(node);
        const std::size_t n_groups = groups_of(places);
        const std::size_t of_node = by_level_ ? query.distances[node] + cut_on_level_ : largest;
        sum += static_cast<std::size_t>(
            kernels().sum_at_most(firsts, weights.data() + places.begin, n_groups, static_cast<std::uint8_t>(of_node)));
        firsts += n_groups * kGroup;
    };
    const std::uint32_t nearest = kept.nearest();
    add(nearest);
    for (const std::uint32_t node : kept.nodes) {
        if (node != nearest) add(node);
    }
    return sum;
}

}  // namespace fasthash
