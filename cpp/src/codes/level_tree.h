// The levels of HDHash as a tree over sorted codes: one node per distinct prefix of whole levels.
//
// Built by segments on their first pruned search. Nodes are ordered by prefix, so the children and the rows of a node
// are ranges.
#pragma once

#include <vector>

#include "codes/byte_major_codes.h"
#include "codes/sorted_codes.h"
#include "fasthash/codes.h"
#include "platform/number_range.h"

namespace fasthash {

/// The first level at which a code differs from the previous one; the number of levels if they are equal.
std::size_t first_new_level(const std::uint8_t* code, const std::uint8_t* before, const LevelLayout& layout);

/// The nodes of one level, in the order of their prefixes.
///
/// Where most nodes of the last level have one row, its nodes are the rows themselves (`of_rows`): their prefixes are
/// not stored beside the codes, and `first` says which rows begin a distinct prefix.
struct LevelNodes {
    static constexpr std::size_t kMostWeight = 255;

    ByteMajorCodes prefixes;           // the bytes of the code up to and including this level, per node
    Array<std::uint32_t> child_begin;  // first child of each node; last, the number of nodes of the next level; empty
                                       // if the children are rows
    Array<std::uint32_t> row_begin;    // first row of each node; last, the number of rows; empty if nodes are rows
    Array<std::uint8_t> weights;       // entries of each node, at most kMostWeight; zeros up to a whole group
    Array<std::uint32_t> heavy;        // nodes of more entries, ascending
    Array<std::uint8_t> first;         // with of_rows: 1 for each row that begins a prefix; zeros up to a whole group
    std::size_t n_nodes = 0;
    bool of_rows = false;

    std::size_t n_groups() const { return (n_nodes + kGroup - 1) / kGroup; }
    NumberRange children(NumberRange nodes) const {
        return child_begin.empty() ? rows(nodes) : NumberRange{child_begin[nodes.begin], child_begin[nodes.end]};
    }
    NumberRange rows(NumberRange nodes) const {
        return of_rows ? nodes : NumberRange{row_begin[nodes.begin], row_begin[nodes.end]};
    }
    NumberRange rows(std::size_t node) const { return rows(NumberRange{node, node + 1}); }
    std::size_t nbytes() const;
};

/// All levels but the last, whose nodes are the distinct codes themselves.
class LevelTree {
 public:
    /// The last level is `of_rows` if that pays and the codes are byte-major.
    LevelTree(const SortedCodes& codes, const LevelLayout& layout);

    std::size_t n_levels() const { return levels_.size(); }
    const LevelNodes& level(std::size_t depth) const { return levels_[depth]; }
    const LevelNodes& last() const { return levels_.back(); }
    /// Whether most nodes of the last level have one row.
    bool is_spread() const;
    /// Make the last level `of_rows` if they are few enough. The codes must be those of the tree, and byte-major.
    void use_rows(const SortedCodes& codes);

    /// Whether nodes of the first level have so many rows that it pays to leave out what is below the others.
    bool is_coarse() const { return !below_.empty(); }
    /// For a coarse tree: the nodes of a level below a node of the first one; at depth n_levels(), the rows.
    NumberRange below(std::size_t node, std::size_t depth) const {
        const std::uint32_t* begin = below_.data() + depth * (levels_[0].n_nodes + 1) + node;
        return {begin[0], begin[1]};
    }
    std::size_t nbytes() const;

 private:
    bool fits_cache() const;
    void weigh(const SortedCodes& codes, LevelNodes& level) const;
    void find_below();

    std::vector<LevelNodes> levels_;
    std::size_t n_rows_;
    Array<std::uint32_t>
        below_;  // for each depth up to n_levels(): of each node of the first level, the first below it
};

}  // namespace fasthash
