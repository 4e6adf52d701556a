// Parameters and results of searches: plans, memory budgets, pruning, statistics.
#pragma once

#include <cstdint>
#include <vector>

namespace fasthash {

enum class IndexKind : std::uint8_t { flat = 1, hier = 2 };

enum class Metric : std::uint8_t {
    hamming,  ///< number of bits that differ
    jaccard,  ///< share of the bits set in either code that the two do not share, as sets of bits: 1 - Tanimoto
};

/// Memory budget of an index, everything included. Only tables that make searches faster are built.
enum class Memory : std::uint8_t {
    standard,  ///< up to twice the bytes of the codes
    compact,   ///< as little as possible: prefix bytes implied by the directory are not stored
    fast,      ///< up to six times the bytes of the codes
};

/// The rule by which HDHash's pruned search chooses the nodes kept at a level.
enum class KeepMode {
    node_ratio,     ///< this share of the candidate nodes
    gallery_ratio,  ///< nearest nodes until their subtrees hold this share of the gallery
    radius,         ///< nodes within this share of the level's bits
};

struct Pruning {
    double keep;  ///< in (0, 1]
    KeepMode mode = KeepMode::node_ratio;
    /// Used by shards, whose cuts were chosen over the nodes of the whole gallery: for each query, for each level but
    /// the last, the largest distance kept (on that level alone for `radius`, else up to it). Replaces `keep` and the
    /// list of candidates. Null: the index chooses the cuts.
    const std::uint16_t* cuts = nullptr;
};

/// Plan of an exact search.
enum class Plan : std::uint8_t {
    scan,         ///< compare every code
    prefix,       ///< visit code prefixes in the order of their distance to the query's
    multi_index,  ///< multi-index hashing: look up several substrings, each in a table of all codes
    clusters,     ///< visit clusters of similar codes by lower bounds of their distance to the query
};

/// The work done for one query.
struct QueryStats {
    Plan plan = Plan::scan;
    bool gave_up = false;             ///< the plan cost too much, and the search finished as a scan
    bool pruned = false;              ///< answered by HDHash's pruned search, which has no plan
    std::int64_t nodes_visited = 0;   ///< non-empty buckets visited; in a pruned search, nodes of the levels
    std::int64_t codes_compared = 0;  ///< full codes whose distance to the query was computed
    /// Up to this distance the result is that of the exact search; -1: nothing is proven.
    std::int32_t exact_to = INT32_MAX;
};

/// Result of a range search: query q has the entries offsets[q] .. offsets[q + 1], sorted by (distance, id).
template <typename Distance>
struct RangeResultOf {
    std::vector<std::int64_t> offsets;
    std::vector<Distance> distances;
    std::vector<std::int64_t> ids;
};
using RangeResult = RangeResultOf<std::int32_t>;
using JaccardRangeResult = RangeResultOf<float>;

}  // namespace fasthash
