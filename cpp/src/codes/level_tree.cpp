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

LevelTree::LevelTree(const SortedCodes& codes, const LevelLayout& layout) {
    for (std::size_t depth = 0; depth + 1 < layout.n_levels(); ++depth) {
        levels_.push_back({layout.level_bytes(depth), {}, {}, {}});
    }
    for_each_row(codes, layout, [&](std::size_t row, const std::uint8_t* code, std::size_t first_new) {
        for (std::size_t depth = first_new; depth < n_levels(); ++depth) {
            LevelNodes& level = levels_[depth];
            const bool last = depth + 1 == n_levels();
            level.keys.append(code + layout.offset(depth), level.n_bytes);
            level.row_begin.push_back(static_cast<std::uint32_t>(row));
            level.child_begin.push_back(static_cast<std::uint32_t>(last ? row : levels_[depth + 1].row_begin.size()));
        }
    });
    for (std::size_t depth = 0; depth < n_levels(); ++depth) {
        LevelNodes& level = levels_[depth];
        const bool last = depth + 1 == n_levels();
        level.child_begin.push_back(
            static_cast<std::uint32_t>(last ? codes.n_rows() : levels_[depth + 1].row_begin.size()));
        level.row_begin.push_back(static_cast<std::uint32_t>(codes.n_rows()));
        level.keys.shrink_to_fit();
        level.child_begin.shrink_to_fit();
    }
    for (LevelNodes& level : levels_) level.row_begin.shrink_to_fit();
}

std::size_t LevelTree::nbytes() const {
    std::size_t bytes = levels_.capacity() * sizeof(LevelNodes);
    for (const LevelNodes& level : levels_) {
        bytes += level.keys.nbytes() + level.child_begin.nbytes() + level.row_begin.nbytes();
    }
    return bytes;
}

}  // namespace fasthash
