// Exact search over clusters, by the triangle inequality.
//
// Called by ArrangedSegment. For a query q, a centroid c and a code x of its cluster, the distance of q and x is at
// least |d(q, c) - d(x, c)|; and, since c is the nearest centroid of x, at least half of d(q, c) - d(q, c') for every
// other centroid c'. A search visits clusters by these lower bounds and ends when they pass the threshold.
//
// With a budget (a share of the codes), a search visits the nearest clusters first and ends when the budget is spent.
// The lower bounds of the clusters that it has not visited then say up to which distance its result is exact.
#pragma once

#include <vector>

#include "codes/arranged_codes.h"
#include "search/scan.h"

namespace fasthash {

/// Searches a block of queries. Queries that visit the same cluster are compared with its codes together.
///
/// Invariant: when run() returns, every pair (distance, id) of a code that no query was compared with comes after the
/// threshold of that query, or its distance is larger than the QueryStats::exact_to of that query.
class ClusterSearch {
 public:
    ClusterSearch(const ArrangedCodes& codes, Visibility visibility, const QueryBlock& block);

    void run(Stopper& stopper);

 private:
    // A query that has to visit a cluster.
    struct Visit {
        std::uint32_t cluster;
        std::uint32_t query;
    };

    void visit_nearest(Stopper& stopper);
    void list_others(std::uint32_t query);
    bool visits_next(std::uint32_t query);
    void visit_all(Stopper& stopper);
    void visit(std::uint32_t cluster, const std::uint32_t* queries, std::size_t n, Stopper& stopper);
    std::int32_t distance(std::uint32_t query, std::uint32_t cluster) const {
        return distances_[query * centroids_.n + cluster];
    }
    // The largest distance that can still enter the results.
    std::int32_t largest(std::uint32_t query) const { return block_.nearest[query].largest_distance(); }
    // The radii at which codes of the cluster can enter the results of the query.
    Annulus wanted(std::uint32_t query, std::uint32_t cluster) const;
    // A lower bound of the distance of the query to codes of the cluster with these radii.
    std::int32_t bound(std::uint32_t query, std::uint32_t cluster, Annulus radii) const;
    // Whether the query may compare no more codes.
    bool spent(std::uint32_t query) const {
        return !exact_ && work_[query].codes_compared >= most_compared_ && block_.nearest[query].has_k();
    }
    // Note that these codes are not compared.
    void leave_out(std::uint32_t query, std::uint32_t cluster, Annulus radii);

    const ArrangedCodes& codes_;
    const DistinctEntries entries_;
    const QueryBlock& block_;
    const CodeView centroids_;
    BlockScan scan_;
    Array<std::uint16_t> distances_;      // of each query to each centroid
    std::vector<std::uint32_t> nearest_;  // the nearest cluster of each query
    // Of one query after the other: a heap of clusters, each below its lower bound, or below its distance if only a
    // share of the codes may be compared.
    std::vector<std::uint32_t> others_;
    std::vector<NumberRange> left_;  // of each query: its part of others_ that is still to be visited
    Array<std::uint32_t> near_;      // of one query: clusters that may be visited
    const bool exact_;
    const std::int64_t most_compared_;
    std::vector<Visit> visits_;
    std::vector<std::uint32_t> visiting_, visiting_end_;  // the queries of the visits by cluster; the end of each
    std::vector<std::uint32_t> active_;
    std::vector<std::uint32_t> last_visited_;
    std::vector<QueryStats> work_;
};

}  // namespace fasthash
