// The levels of HDHash as a tree over sorted codes: one node per distinct prefix of whole levels.
//
// Built by segments on their first pruned search. Nodes are ordered by prefix, so the rows of a node are a range.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "codes/byte_major_codes.h"
#include "codes/near_nodes.h"
#include "codes/near_weights.h"
#include "codes/prefix_moments.h"
#include "codes/sorted_codes.h"
#include "fasthash/codes.h"
#include "kernels/kernels.h"
#include "platform/number_range.h"

namespace fasthash {

/// The first level at which a code differs from the previous one; the number of levels if they are equal.
std::size_t first_new_level(const std::uint8_t* code, const std::uint8_t* before, const LevelLayout& layout);

/// The nodes of one level, in the order of their prefixes. A node has a place; in a coarse tree, the nodes below each
/// node of the first level begin a new group of places, and places up to there are empty.
struct LevelNodes {
    static constexpr std::size_t kMostWeight = 255;

    explicit LevelNodes(std::size_t n_bytes) : prefixes(n_bytes) {}

    ByteMajorCodes prefixes;         // of each place; in a coarse tree without the bytes of the first level
    Array<std::uint32_t> row_begin;  // first row of each place; last, the number of rows
    Array<std::uint8_t> weights;     // entries of each place, at most kMostWeight; zeros up to a whole group
    Array<std::uint32_t> heavy;      // places of more entries, ascending
    std::size_t n_nodes = 0;

    std::size_t n_places() const { return prefixes.size(); }
    std::size_t n_groups() const { return prefixes.n_groups(); }
    NumberRange rows(std::size_t place) const { return {row_begin[place], row_begin[place + 1]}; }
    std::size_t nbytes() const;
};

/// The codes themselves, as one more level; the place of a leaf is its row.
struct Leaves {
    static constexpr std::uint8_t kMostBegins = 1;

    ByteMajorCodes codes;           // a view of those of the segment
    Array<std::uint8_t> begins;     // 1 for the first leaf below a node of the last level, else 0; zeros up to a group
    Array<std::uint8_t> entries;    // of each leaf, zeros up to a group; empty if one has more than a byte can tell
    std::uint8_t most_entries = 0;  // of a leaf, if a byte can tell

    std::size_t nbytes() const { return sizeof(Leaves) + begins.nbytes() + entries.nbytes(); }
};

/// All levels but the last, whose nodes are the distinct codes themselves.
///
/// A tree is coarse if nodes of its first level have many rows on average. Then only what is below kept nodes of the
/// first level is compared, and the distance of a query to a first-level node is computed once for all nodes below it.
class LevelTree {
 public:
    LevelTree(const SortedCodes& codes, const LevelLayout& layout);
    /// Whether leaves save time: of few codes, if nodes of the last level have few rows on average.
    bool suits_leaves(const SortedCodes& codes) const;
    /// Have the codes themselves as leaves, below the last level. They are byte-major, and outlive the tree.
    void add_leaves(const SortedCodes& codes, const LevelLayout& layout);

    std::size_t n_rows() const { return n_rows_; }
    std::size_t n_entries() const { return n_entries_; }
    std::size_t n_levels() const { return levels_.size(); }
    bool has_leaves() const { return leaves_ != nullptr; }
    const Leaves& leaves() const { return *leaves_; }
    /// Whether first-level nodes have so many rows on average that bounds of cuts may save time.
    bool suits_bounds() const { return !has_leaves() || n_rows_ >= kernels().codes_for_bounds * n_ranges(); }
    /// Whether they have so many that scan_three_parts saves time.
    bool suits_three_parts() const { return n_rows_ >= kernels().codes_for_three_parts * n_ranges(); }
    /// The levels, and the leaves if there are any.
    std::size_t n_depths() const { return n_levels() + (has_leaves() ? 1 : 0); }
    /// The nodes of a level, or at depth n_levels() the leaves.
    const ByteMajorCodes& prefixes(std::size_t depth) const {
        return depth == n_levels() ? leaves_->codes : levels_[depth].prefixes;
    }
    const LevelNodes& level(std::size_t depth) const { return levels_[depth]; }
    const LevelNodes& last() const { return levels_.back(); }
    /// Whether nodes of the last level have few rows on average.
    bool is_spread() const;
    bool is_coarse() const { return !below_.empty(); }

    /// Number of ranges into which places and rows are divided: one for each node of the first level of a coarse tree,
    /// else 1.
    std::size_t n_ranges() const { return is_coarse() ? levels_[0].n_nodes : 1; }
    /// The places of a level in a range; for a coarse tree the level is not the first one. At depth n_levels(), the
    /// rows.
    NumberRange range(std::size_t number, std::size_t depth) const {
        if (!is_coarse()) return {0, depth == n_levels() ? n_rows_ : levels_[depth].n_places()};
        const RowRange& places = places_below(depth)[number];
        return {places.begin, places.end};
    }
    /// In a coarse tree, the places of a level but the first, or the rows, below each node of the first level.
    const RowRange* places_below(std::size_t depth) const { return below_.data() + (depth - 1) * levels_[0].n_nodes; }
    /// In a coarse tree with leaves, the groups that hold those below a node of the first level.
    NumberRange groups_below(std::size_t node) const {
        const RowRange& rows = places_below(n_levels())[node];
        return {rows.begin / kGroup, (rows.end + kGroup - 1) / kGroup};
    }
    /// In a coarse tree, the numbers below each node of the first level.
    const Array<Weights>& weights() const { return weights_; }
    /// Of the first level of a coarse tree, if that is one byte; empty if they would take much memory beside the codes.
    const NearWeights& near_weights() const { return near_weights_; }
    /// Of the second level of a coarse tree; empty if they would take much memory beside the nodes.
    const NearNodes& near_nodes() const { return near_nodes_; }
    /// Of the prefixes of the last level, if the tree is coarse and has several levels; else empty.
    const PrefixMoments& moments() const { return moments_; }
    /// Likely cuts at each depth, from earlier searches. A search that begins with them has less to count; its result
    /// does not depend on them.
    std::vector<std::uint16_t> likely_cuts() const;
    void note_cuts(const std::vector<std::uint16_t>& cuts) const;
    std::size_t nbytes() const;

 private:
    static void weigh(const SortedCodes& codes, LevelNodes& level);

    std::vector<LevelNodes> levels_;
    std::size_t n_rows_, n_entries_;
    std::unique_ptr<std::atomic<std::uint16_t>[]> likely_cuts_;
    // Of a coarse tree:
    Array<RowRange> below_;   // for each depth from 1 to n_levels(): the range of each first-level node
    Array<Weights> weights_;  // of each first-level node
    NearWeights near_weights_;
    NearNodes near_nodes_;
    PrefixMoments moments_;
    std::unique_ptr<const Leaves> leaves_;
};

}  // namespace fasthash
