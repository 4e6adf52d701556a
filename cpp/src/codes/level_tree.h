// The levels of HDHash as a tree over sorted codes: one node per distinct prefix of whole levels.
//
// Built by SortedSegment on its first pruned search. Nodes are ordered by prefix, so the children and the rows of a
// node are ranges.
#pragma once

#include <vector>

#include "codes/sorted_codes.h"
#include "fasthash/codes.h"
#include "platform/number_range.h"

namespace fasthash {

/// The first level at which a code differs from the previous one; the number of levels if they are equal.
std::size_t first_new_level(const std::uint8_t* code, const std::uint8_t* before, const LevelLayout& layout);

/// The nodes of one level, in the order of their prefixes.
struct LevelNodes {
    std::size_t n_bytes;               // width of one key
    Array<std::uint8_t> keys;          // the level's bytes of the code, per node
    Array<std::uint32_t> child_begin;  // first child of each node; last, the number of nodes of the next level
    Array<std::uint32_t> row_begin;    // first row of each node; last, the number of rows

    std::size_t n_nodes() const { return child_begin.size() - 1; }
    const std::uint8_t* key(std::size_t node) const { return keys.data() + node * n_bytes; }
    NumberRange children(std::size_t node) const { return {child_begin[node], child_begin[node + 1]}; }
    NumberRange rows(std::size_t node) const { return {row_begin[node], row_begin[node + 1]}; }
};

/// All levels but the last, whose nodes are the distinct codes themselves.
class LevelTree {
 public:
    LevelTree(const SortedCodes& codes, const LevelLayout& layout);

    std::size_t n_levels() const { return levels_.size(); }
    const LevelNodes& level(std::size_t depth) const { return levels_[depth]; }
    std::size_t nbytes() const;

 private:
    std::vector<LevelNodes> levels_;
};

}  // namespace fasthash
