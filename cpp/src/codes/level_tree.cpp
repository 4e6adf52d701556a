#include "codes/level_tree.h"

#include <algorithm>
#include <cstring>

namespace fasthash {
namespace {

// Calls visit(row, code, first new level) for every row.
template <typename Visit>
void for_each_row(const SortedCodes& codes, const LevelLayout& layout, Visit visit) {
    constexpr std::size_t kPiece = 4096;
    Array<std::uint8_t> scratch;
    std::vector<std::uint8_t> last;
    for (std::size_t begin = 0; begin < codes.n_rows(); begin += kPiece) {
        const CodeView piece = codes.codes(begin, std::min(begin + kPiece, codes.n_rows()), scratch);
        for (std::size_t i = 0; i < piece.n; ++i) {
            const std::uint8_t* before = i > 0 ? piece.row(i - 1) : last.data();
            visit(begin + i, piece.row(i), begin + i == 0 ? 0 : first_new_level(piece.row(i), before, layout));
        }
        last.assign(piece.row(piece.n - 1), piece.row(piece.n - 1) + piece.n_bytes);
    }
}

}  // namespace

std::size_t first_new_level(const std::uint8_t* code, const std::uint8_t* before, const LevelLayout& layout) {
    const auto byte = static_cast<std::size_t>(std::mismatch(code, code + layout.n_bytes(), before).first - code);
    if (byte == layout.n_bytes()) return layout.n_levels();
    std::size_t level = 0;
    while (layout.offset(level + 1) <= byte) ++level;
    return level;
}

LevelTree::LevelTree(const SortedCodes& codes, const LevelLayout& layout) : n_rows_(codes.n_rows()) {
    const std::size_t n_levels = layout.n_levels() - 1;
    if (n_levels == 0) return;
    std::vector<Array<std::uint8_t>> prefixes(n_levels);
    for (std::size_t depth = 0; depth < n_levels; ++depth) {
        levels_.push_back({ByteMajorCodes(layout.offset(depth + 1)), {}, {}, {}, {}, {}});
    }
    for_each_row(codes, layout, [&](std::size_t row, const std::uint8_t* code, std::size_t first_new) {
        for (std::size_t depth = first_new; depth < n_levels; ++depth) {
            LevelNodes& level = levels_[depth];
            prefixes[depth].append(code, layout.offset(depth + 1));
            level.row_begin.push_back(static_cast<std::uint32_t>(row));
            if (depth + 1 == n_levels) continue;
            level.child_begin.push_back(static_cast<std::uint32_t>(levels_[depth + 1].row_begin.size()));
        }
    });
    for (std::size_t depth = 0; depth < n_levels; ++depth) {
        LevelNodes& level = levels_[depth];
        level.n_nodes = level.row_begin.size();
        if (depth + 1 < n_levels) {
            level.child_begin.push_back(static_cast<std::uint32_t>(levels_[depth + 1].row_begin.size()));
            level.child_begin.shrink_to_fit();
        }
        level.row_begin.push_back(static_cast<std::uint32_t>(n_rows_));
        level.row_begin.shrink_to_fit();
        prefixes[depth].shrink_to_fit();
        level.prefixes = ByteMajorCodes::from_rows(std::move(prefixes[depth]), layout.offset(depth + 1));
        weigh(codes, level);
    }
    find_below();
    if (is_spread() && codes.tails() == nullptr) use_rows(codes);
}

void LevelTree::weigh(const SortedCodes& codes, LevelNodes& level) const {
    level.weights.assign(level.n_groups() * kGroup, 0);
    level.heavy.clear();
    for (std::size_t node = 0; node < level.n_nodes; ++node) {
        const NumberRange rows = level.rows(node);
        const std::size_t n_entries = codes.n_entries(rows.begin, rows.end);
        level.weights[node] = static_cast<std::uint8_t>(std::min(n_entries, LevelNodes::kMostWeight));
        if (n_entries > LevelNodes::kMostWeight) level.heavy.push_back(static_cast<std::uint32_t>(node));
    }
    level.heavy.shrink_to_fit();
}

bool LevelTree::is_spread() const {
    constexpr std::size_t kFewRows = 2;  // of a node
    return n_rows_ < kFewRows * last().n_nodes;
}

bool LevelTree::fits_cache() const {
    constexpr std::size_t kMostRows = 256 * 1024;  // larger trees are read faster with their prefixes by themselves
    return n_rows_ <= kMostRows;
}

void LevelTree::use_rows(const SortedCodes& codes) {
    LevelNodes& level = levels_.back();
    if (level.of_rows || !fits_cache()) return;
    LevelNodes of_rows{ByteMajorCodes(level.prefixes.n_bytes()), {}, {}, {}, {}, {}};
    of_rows.n_nodes = n_rows_;
    of_rows.of_rows = true;
    of_rows.first.assign(of_rows.n_groups() * kGroup, 0);
    for (std::size_t node = 0; node < level.n_nodes; ++node) of_rows.first[level.row_begin[node]] = 1;
    weigh(codes, of_rows);
    level = std::move(of_rows);
    if (n_levels() > 1) levels_[n_levels() - 2].child_begin = {};
    find_below();
}

void LevelTree::find_below() {
    constexpr std::size_t kRowsOfCoarseNode = 16;
    below_.clear();
    const std::size_t n_first = levels_[0].n_nodes;
    if (n_first * kRowsOfCoarseNode > n_rows_) return;
    for (std::size_t depth = 0; depth <= n_levels(); ++depth) {
        for (std::size_t node = 0; node <= n_first; ++node) {
            NumberRange nodes{node, node};
            for (std::size_t d = 0; d < depth; ++d) nodes = levels_[d].children(nodes);
            below_.push_back(static_cast<std::uint32_t>(nodes.begin));
        }
    }
    below_.shrink_to_fit();
}

std::size_t LevelNodes::nbytes() const {
    return prefixes.nbytes() + child_begin.nbytes() + row_begin.nbytes() + weights.nbytes() + heavy.nbytes() +
           first.nbytes();
}

std::size_t LevelTree::nbytes() const {
    std::size_t bytes = levels_.capacity() * sizeof(LevelNodes) + below_.nbytes();
    for (const LevelNodes& level : levels_) bytes += level.nbytes();
    return bytes;
}

}  // namespace fasthash
