// Exact search over clusters, by the triangle inequality.
//
// Called by ArrangedSegment. For a query q, a centroid c and a code x of its cluster, the distance of q and x is at
// least |d(q, c) - d(x, c)|; and, since c is the nearest centroid of x, at least half of d(q, c) - d(q, c') for every
// other centroid c'. A search visits clusters by these lower bounds and ends when they pass the threshold.
#pragma once

#include <vector>

#include "codes/arranged_codes.h"
#include "search/scan.h"

namespace fasthash {

/// Searches a block of queries. Queries that visit the same cluster are compared with its codes together.
///
/// Invariant: when run() returns, every pair (distance, id) of a code that no query was compared with comes after the
/// threshold of that query.
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
    void visit_all(Stopper& stopper);
    void visit(std::uint32_t cluster, const Visit* visits, std::size_t n, Stopper& stopper);
    std::int32_t distance(std::uint32_t query, std::uint32_t cluster) const {
        return distances_[query * centroids_.n + cluster];
    }
    // The largest distance that can still enter the results.
    std::int32_t largest(std::uint32_t query) const { return block_.nearest[query].largest_distance(); }
    // The radii at which codes of the cluster can enter the results of the query.
    Annulus wanted(std::uint32_t query, std::uint32_t cluster) const;

    const ArrangedCodes& codes_;
    const DistinctEntries entries_;
    const QueryBlock& block_;
    const CodeView centroids_;
    BlockScan scan_;
    Array<std::uint16_t> distances_;                  // of each query to each centroid
    std::vector<std::uint32_t> nearest_;              // the nearest cluster of each query
    std::vector<std::vector<std::uint32_t>> others_;  // of each query: lower bound and cluster, descending
    std::vector<Visit> visits_;
    std::vector<std::uint32_t> active_;
    std::vector<std::uint32_t> last_visited_;
    std::vector<QueryStats> work_;
};

}  // namespace fasthash
