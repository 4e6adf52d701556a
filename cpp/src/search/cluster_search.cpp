#include "search/cluster_search.h"

#include <algorithm>

namespace fasthash {
namespace {

// Rows between two looks at the thresholds: one kernel call.
constexpr std::size_t kRowBytes = 16 * 1024;

constexpr std::size_t kTogether = 4;  // clusters that each query of a block visits next
constexpr std::uint32_t kClusterBits = 16;

}  // namespace

ClusterSearch::ClusterSearch(const ArrangedCodes& codes, Visibility visibility, const QueryBlock& block)
    : codes_(codes),
      entries_(codes, visibility),
      block_(block),
      centroids_(codes.centroids()),
      scan_(codes, entries_, block),
      distances_(block.queries.n * centroids_.n),
      nearest_(block.queries.n),
      others_(block.queries.n),
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
    for (std::uint32_t query = 0; query < block_.queries.n; ++query) list_others(query);
    // All queries take their next few clusters, so that those with a common cluster visit it together. The fewer, the
    // better the thresholds are known; the more, the more queries meet.
    const std::size_t n_next = block_.queries.n == 1 ? 1 : kTogether;
    while (!stopper.stopped()) {
        visits_.clear();
        for (std::uint32_t query = 0; query < block_.queries.n; ++query) {
            std::vector<std::uint32_t>& others = others_[query];
            for (std::size_t i = 0; i < n_next && !others.empty(); ++i) {
                if (static_cast<std::int32_t>(others.back() >> kClusterBits) > largest(query)) {
                    others.clear();
                    break;
                }
                visits_.push_back({others.back() & ((1u << kClusterBits) - 1), query});
                others.pop_back();
            }
        }
        if (visits_.empty()) break;
        visit_all(stopper);
    }
    for (std::size_t query = 0; query < block_.queries.n; ++query) {
        work_[query].plan = Plan::clusters;
        block_.note(query, work_[query]);
    }
}

void ClusterSearch::visit_nearest(Stopper& stopper) {
    visits_.clear();
    for (std::uint32_t query = 0; query < block_.queries.n; ++query) visits_.push_back({nearest_[query], query});
    visit_all(stopper);
}

// The other clusters that can hold results, from the threshold after the nearest one.
void ClusterSearch::list_others(std::uint32_t query) {
    const std::int32_t most = largest(query), least = distance(query, nearest_[query]);
    for (std::uint32_t c = 0; c < centroids_.n; ++c) {
        const Annulus radii = codes_.radii(c);
        const std::int32_t d = distance(query, c);
        const std::int32_t bound = std::max({d - radii.last, radii.first - d, (d - least + 1) / 2});
        if (bound > most || c == nearest_[query] || radii.empty()) continue;
        others_[query].push_back(static_cast<std::uint32_t>(bound) << kClusterBits | c);
    }
    std::sort(others_[query].begin(), others_[query].end(), std::greater<>());
}

void ClusterSearch::visit_all(Stopper& stopper) {
    std::sort(visits_.begin(), visits_.end(), [](const Visit& a, const Visit& b) {
        return a.cluster < b.cluster || (a.cluster == b.cluster && a.query < b.query);
    });
    for (std::size_t begin = 0, end = 0; begin < visits_.size() && !stopper.stopped(); begin = end) {
        while (end < visits_.size() && visits_[end].cluster == visits_[begin].cluster) ++end;
        visit(visits_[begin].cluster, visits_.data() + begin, end - begin, stopper);
    }
}

Annulus ClusterSearch::wanted(std::uint32_t query, std::uint32_t cluster) const {
    const Annulus radii = codes_.radii(cluster);
    const std::int32_t d = distance(query, cluster), most = largest(query);
    if (most < 0) return {1, 0};
    return {std::max(radii.first, d - most), std::min(radii.last, d + most)};
}

void ClusterSearch::visit(std::uint32_t cluster, const Visit* visits, std::size_t n, Stopper& stopper) {
    Annulus all{INT32_MAX, -1};
    for (std::size_t i = 0; i < n; ++i) {
        const Annulus annulus = wanted(visits[i].query, cluster);
        if (annulus.empty()) continue;
        all = {std::min(all.first, annulus.first), std::max(all.last, annulus.last)};
    }
    if (all.empty()) return;
    const NumberRange rows = codes_.rows(cluster, all);
    const std::size_t n_together = std::max<std::size_t>(1, kRowBytes / (kGroup * codes_.n_bytes())) * kGroup;
    std::int32_t radius = all.first;
    for (std::size_t begin = rows.begin; begin < rows.end;) {
        const std::size_t end = std::min(rows.end, (begin / n_together + 1) * n_together);
        while (codes_.rows(cluster, {radius, radius}).end <= begin) ++radius;
        std::int32_t last = radius;
        while (codes_.rows(cluster, {last, last}).end < end) ++last;
        active_.clear();
        for (std::size_t i = 0; i < n; ++i) {
            const std::uint32_t query = visits[i].query;
            const Annulus annulus = wanted(query, cluster);
            if (annulus.empty() || annulus.last < radius || annulus.first > last) continue;
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
