// What searches take and what they tell: plans, memory budgets, pruning, statistics.
#pragma once

#include <cstdint>
#include <vector>

namespace fasthash {

enum class IndexKind : std::uint8_t { flat = 1, hier = 2 };

/// What the index may spend for speed, all included. Beyond a plain copy of the codes only what pays is taken.
enum class Memory : std::uint8_t {
    standard,  ///< up to twice the bytes of the codes
    compact,   ///< as little as possible: codes lose the bytes that their place tells
    fast,      ///< up to six times the bytes of the codes
};

/// How HDHash's coarse-to-fine search chooses the nodes of a level that stay in the race.
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

/// How an exact search goes about it.
enum class Plan : std::uint8_t {
    scan,         ///< compare all codes
    prefix,       ///< open the prefixes of the codes in the order of their distance to the query's
    multi_index,  ///< the same with several substrings of the codes, for each of which there is a table of all codes
};

/// The work one query took.
struct QueryStats {
    Plan plan = Plan::scan;
    bool gave_up = false;  ///< the plan did not pay, and the codes were scanned after all
    std::int64_t nodes_visited =
        0;  ///< prefixes (substrings) opened that hold codes; nodes of the levels in a pruned search
    std::int64_t codes_compared = 0;  ///< full codes whose distance to the query was computed
};

/// What a search by radius found: the entries of query q are offsets[q] .. offsets[q + 1], by (distance, id).
struct RangeResult {
    std::vector<std::int64_t> offsets;
    std::vector<std::int32_t> distances;
    std::vector<std::int64_t> ids;
};

}  // namespace fasthash
