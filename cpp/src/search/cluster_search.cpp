#include "search/cluster_search.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace fasthash {
namespace {

constexpr std::size_t kTogether = 4;  // clusters that each query of a block visits after the nearest one
constexpr std::uint32_t kClusterBits = 16, kClusterMask = (1u << kClusterBits) - 1;

}  // namespace

ClusterSearch::ClusterSearch(const ArrangedCodes& codes, Visibility visibility, const QueryBlock& block)
    : codes_(codes),
      entries_(codes, visibility),
      block_(block),
      centroids_(codes.centroids()),
      scan_(codes, entries_, block),
      distances_(block.queries.n * centroids_.n),
      nearest_(block.queries.n),
      left_(block.queries.n, NumberRange{0, 0}),
      near_(centroids_.n),
      exact_(block.share >= 1),
      most_compared_(static_cast<std::int64_t>(std::ceil(block.share * static_cast<double>(codes.n_rows())))),
      last_visited_(block.queries.n, UINT32_MAX),
      work_(block.queries.n) {
    for (std::uint32_t query = 0; query < block.queries.n; ++query) {
        std::uint16_t* distances = distances_.data() + query * centroids_.n;
        kernels().distances(block.queries.row(query), centroids_.data, centroids_.n, centroids_.n_bytes, 0, distances);
        std::uint16_t least = UINT16_MAX;
        for (std::size_t c = 0; c < centroids_.n; ++c) least = std::min(least, distances[c]);
        while (distances[nearest_[query]] != least) ++nearest_[query];
    }
}

void ClusterSearch::run(Stopper& stopper) {
    visit_nearest(stopper);
    others_.reserve(centroids_.n);
    for (std::uint32_t query = 0; query < block_.queries.n; ++query) list_others(query);
    // All queries take their next few clusters, so that those with a common cluster visit it together. The fewer, the
    // better the thresholds are known; the more, the more queries meet. Thresholds settle early, so rounds grow. Where
    // thresholds leave many clusters, they leave out little: an exact search begins with a quarter of these.
    const std::size_t n_queries = block_.queries.n;
    const bool alone = n_queries == 1;
    std::size_t n_next = alone ? 1 : exact_ ? std::max(kTogether, others_.size() / n_queries / 4) : kTogether;
    for (; !stopper.stopped(); n_next *= alone ? 1 : 2) {
        visits_.clear();
        for (std::uint32_t query = 0; query < block_.queries.n; ++query) {
            for (std::size_t i = 0; i < n_next && visits_next(query); ++i) {
            }
        }
        if (visits_.empty()) break;
        visit_all(stopper);
    }
    scan_.finish();
    for (std::size_t query = 0; query < block_.queries.n; ++query) {
        work_[query].plan = Plan::clusters;
        block_.note(query, work_[query]);
    }
}

// Lists the visit of the next cluster. Returns false if no cluster is left that can hold results or fits the budget.
bool ClusterSearch::visits_next(std::uint32_t query) {
    NumberRange& left = left_[query];
    if (spent(query)) {
        for (; left.begin < left.end; --left.end) {
            const std::uint32_t cluster = others_[left.end - 1] & kClusterMask;
            if (bound(query, cluster, codes_.radii(cluster)) > largest(query)) continue;
            leave_out(query, cluster, codes_.radii(cluster));
        }
    }
    while (left.begin < left.end) {
        std::pop_heap(others_.data() + left.begin, others_.data() + left.end, std::greater<>());
        const std::uint32_t next = others_[--left.end], cluster = next & kClusterMask;
        const std::int32_t least =
            exact_ ? static_cast<std::int32_t>(next >> kClusterBits) : bound(query, cluster, codes_.radii(cluster));
        if (least <= largest(query)) {
            visits_.push_back({cluster, query});
            return true;
        }
        if (exact_) left.end = left.begin;  // the others are farther
    }
    return false;
}

void ClusterSearch::visit_nearest(Stopper& stopper) {
    visits_.clear();
    for (std::uint32_t query = 0; query < block_.queries.n; ++query) visits_.push_back({nearest_[query], query});
    visit_all(stopper);
}

// The other clusters that can hold results, from the threshold after the nearest one.
void ClusterSearch::list_others(std::uint32_t query) {
    const std::int32_t most = largest(query);
    const std::int32_t farthest = distance(query, nearest_[query]) + 2 * most;  // half of the difference is a bound
    const std::uint16_t* distances = distances_.data() + query * centroids_.n;
    left_[query].begin = others_.size();
    // Which clusters are near can hardly be predicted, so that this loop has no branches.
    std::size_t n_near = 0;
    for (std::uint32_t c = 0; c < centroids_.n; ++c) {
        near_[n_near] = c;
        n_near += distances[c] <= farthest ? 1 : 0;
    }
    for (std::size_t i = 0; i < n_near; ++i) {
        const std::uint32_t c = near_[i];
        const Annulus radii = codes_.radii(c);
        const std::int32_t least = bound(query, c, radii);
        if (least > most || c == nearest_[query] || radii.empty()) continue;
        others_.push_back(static_cast<std::uint32_t>(exact_ ? least : distance(query, c)) << kClusterBits | c);
    }
    left_[query].end = others_.size();
    // A heap: of many clusters, mostly few are visited.
    std::make_heap(others_.begin() + static_cast<std::ptrdiff_t>(left_[query].begin), others_.end(), std::greater<>());
}

void ClusterSearch::visit_all(Stopper& stopper) {
    if (visits_.size() == 1) return visit(visits_[0].cluster, &visits_[0].query, 1, stopper);
    // A counting sort by cluster.
    visiting_.resize(visits_.size());
    visiting_end_.assign(centroids_.n + 1, 0);
    for (const Visit& each : visits_) ++visiting_end_[each.cluster + 1];
    std::partial_sum(visiting_end_.begin(), visiting_end_.end(), visiting_end_.begin());
    for (const Visit& each : visits_) visiting_[visiting_end_[each.cluster]++] = each.query;
    std::size_t begin = 0;
    for (std::uint32_t c = 0; c < centroids_.n; begin = visiting_end_[c++]) {
        if (visiting_end_[c] == begin) continue;
        if (stopper.stopped()) return;
        visit(c, visiting_.data() + begin, visiting_end_[c] - begin, stopper);
    }
}

std::int32_t ClusterSearch::bound(std::uint32_t query, std::uint32_t cluster, Annulus radii) const {
    const std::int32_t d = distance(query, cluster), least = distance(query, nearest_[query]);
    return std::max({d - radii.last, radii.first - d, (d - least + 1) / 2});
}

void ClusterSearch::leave_out(std::uint32_t query, std::uint32_t cluster, Annulus radii) {
    std::int32_t& exact_to = work_[query].exact_to;
    exact_to = std::min(exact_to, bound(query, cluster, radii) - 1);
}

Annulus ClusterSearch::wanted(std::uint32_t query, std::uint32_t cluster) const {
    const Annulus radii = codes_.radii(cluster);
    const std::int32_t d = distance(query, cluster), least = distance(query, nearest_[query]), most = largest(query);
    if ((d - least + 1) / 2 > most) return {1, 0};
    return {std::max(radii.first, d - most), std::min(radii.last, d + most)};
}

void ClusterSearch::visit(std::uint32_t cluster, const std::uint32_t* queries, std::size_t n, Stopper& stopper) {
    Annulus all{INT32_MAX, -1};
    for (std::size_t i = 0; i < n; ++i) {
        const Annulus annulus = wanted(queries[i], cluster);
        if (annulus.empty()) continue;
        all = {std::min(all.first, annulus.first), std::max(all.last, annulus.last)};
    }
    if (all.empty()) return;
    const NumberRange rows = codes_.rows(cluster, all);
    const std::size_t n_together = groups_of_call(centroids_.n_bytes) * kGroup;
    std::int32_t radius = all.first;
    for (std::size_t begin = rows.begin; begin < rows.end;) {
        const std::size_t end = std::min(rows.end, (begin / n_together + 1) * n_together);
        while (codes_.rows(cluster, {radius, radius}).end <= begin) ++radius;
        std::int32_t last = radius;
        while (codes_.rows(cluster, {last, last}).end < end) ++last;
        active_.clear();
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint32_t query = queries[i];
            const Annulus annulus = wanted(query, cluster);
            if (annulus.empty() || annulus.last < radius || annulus.first > last) continue;
            if (spent(query)) {
                leave_out(query, cluster, {std::max(annulus.first, radius), annulus.last});
                continue;
            }
            active_.push_back(query);
            QueryStats& work = work_[query];
            work.nodes_visited += last_visited_[query] != cluster;
            last_visited_[query] = cluster;
            work.codes_compared += static_cast<std::int64_t>(end - begin);
        }
        if (!active_.empty()) scan_.run({begin, end}, active_, stopper);
        begin = end;
    }
}

}  // namespace fasthash
