#include "codes/level_tree.h"

#include <algorithm>

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

// Collects the nodes of all levels but the last from the rows, in their order.
class NodeCollector {
 public:
    NodeCollector(const LevelLayout& layout, std::size_t n_first, bool coarse)
        : layout_(layout),
          n_levels_(layout.n_levels() - 1),
          n_first_(n_first),
          coarse_(coarse),
          prefixes(n_levels_),
          below(coarse ? n_levels_ * n_first : 0) {
        for (std::size_t depth = 0; depth < n_levels_; ++depth) {
            levels.emplace_back(layout.offset(depth + 1) - first_byte(depth));
        }
    }

    // first_new: the first level at which the code differs from that of the row before.
    void add(std::size_t row, const std::uint8_t* code, std::size_t first_new) {
        if (coarse_ && first_new == 0) {
            if (row > 0) end_range(row);
            begin_range(row);
        }
        if (coarse_ && n_levels_ > 1 && first_new < n_levels_) whole.append(code, layout_.offset(n_levels_));
        for (std::size_t depth = first_new; depth < n_levels_; ++depth) {
            LevelNodes& level = levels[depth];
            prefixes[depth].append(code + first_byte(depth), level.prefixes.n_bytes());
            level.row_begin.push_back(static_cast<std::uint32_t>(row));
            ++level.n_nodes;
        }
    }
    void finish(std::size_t n_rows) {
        if (coarse_) end_range(n_rows);
        for (LevelNodes& level : levels) {
            level.row_begin.push_back(static_cast<std::uint32_t>(n_rows));
            level.row_begin.shrink_to_fit();
        }
    }

 private:
    std::size_t first_byte(std::size_t depth) const { return coarse_ && depth > 0 ? layout_.offset(1) : 0; }
    RowRange& range_at(std::size_t depth) { return below[(depth - 1) * n_first_ + n_ended_]; }
    void begin_range(std::size_t row) {
        for (std::size_t depth = 1; depth <= n_levels_; ++depth) {
            range_at(depth).begin =
                static_cast<std::uint32_t>(depth == n_levels_ ? row : levels[depth].row_begin.size());
        }
    }
    // Nodes below the next node of the first level begin a new group.
    void end_range(std::size_t end_row) {
        for (std::size_t depth = 1; depth <= n_levels_; ++depth) {
            range_at(depth).end =
                static_cast<std::uint32_t>(depth == n_levels_ ? end_row : levels[depth].row_begin.size());
            if (depth == n_levels_) continue;
            Array<std::uint32_t>& row_begin = levels[depth].row_begin;
            while (row_begin.size() % kGroup != 0) row_begin.push_back(static_cast<std::uint32_t>(end_row));
            while (prefixes[depth].size() < row_begin.size() * levels[depth].prefixes.n_bytes()) {
                prefixes[depth].push_back(0);
            }
        }
        ++n_ended_;
    }

    const LevelLayout& layout_;
    const std::size_t n_levels_, n_first_;
    const bool coarse_;
    std::size_t n_ended_ = 0;  // ranges

 public:
    std::vector<LevelNodes> levels;             // without their prefixes
    std::vector<Array<std::uint8_t>> prefixes;  // of each level, those of one node after the other
    Array<std::uint8_t> whole;                  // of a coarse tree of several levels: whole prefixes of the last one
    Array<RowRange> below;                      // of a coarse tree: see LevelTree::places_below
};

}  // namespace

std::size_t first_new_level(const std::uint8_t* code, const std::uint8_t* before, const LevelLayout& layout) {
    const auto byte = static_cast<std::size_t>(std::mismatch(code, code + layout.n_bytes(), before).first - code);
    if (byte == layout.n_bytes()) return layout.n_levels();
    std::size_t level = 0;
    while (layout.offset(level + 1) <= byte) ++level;
    return level;
}

LevelTree::LevelTree(const SortedCodes& codes, const LevelLayout& layout)
    : n_rows_(codes.n_rows()), n_entries_(codes.n_entries()) {
    constexpr std::size_t kRowsOfCoarseNode = 32;
    const std::size_t n_levels = layout.n_levels() - 1;
    likely_cuts_ = std::make_unique<std::atomic<std::uint16_t>[]>(n_levels + 1);
    for (std::size_t depth = 0; depth <= n_levels; ++depth) {
        likely_cuts_[depth] = static_cast<std::uint16_t>(layout.offset(depth + 1) * 8 / 3);  // before the first search
    }
    if (n_levels == 0) return;
    std::size_t n_first = 0;
    for_each_row(codes, layout, [&](std::size_t, const std::uint8_t*, std::size_t level) { n_first += level == 0; });
    const bool coarse = n_first > 0 && n_first * kRowsOfCoarseNode <= n_rows_;
    NodeCollector nodes(layout, n_first, coarse);
    for_each_row(codes, layout, [&nodes](std::size_t row, const std::uint8_t* code, std::size_t first_new) {
        nodes.add(row, code, first_new);
    });
    nodes.finish(n_rows_);
    levels_ = std::move(nodes.levels);
    below_ = std::move(nodes.below);
    if (!nodes.whole.empty()) moments_ = PrefixMoments({nodes.whole.data(), last().n_nodes, layout.offset(n_levels)});
    for (std::size_t depth = 0; depth < n_levels; ++depth) {
        LevelNodes& level = levels_[depth];
        nodes.prefixes[depth].shrink_to_fit();
        level.prefixes = ByteMajorCodes::from_rows(std::move(nodes.prefixes[depth]), level.prefixes.n_bytes());
        weigh(codes, level);
    }
    for (std::size_t number = 0; coarse && number < n_first; ++number) {
        const NumberRange rows = range(number, n_levels);
        const std::size_t n_below = n_levels > 1 ? range(number, 1).size() : 0;
        weights_.push_back({1, static_cast<std::uint32_t>(codes.n_entries(rows.begin, rows.end)),
                            static_cast<std::uint32_t>(n_below), 0});
    }
    constexpr std::size_t kMostBytes = 8;  // of sums, for each row; of counts, for each node
    if (coarse && layout.offset(1) == 1 && NearWeights::bytes() <= kMostBytes * n_rows_) {
        near_weights_ = NearWeights(levels_[0].prefixes, weights_);
    }
    if (coarse && n_levels > 1 && NearNodes::bytes(n_first) <= kMostBytes * levels_[1].n_nodes) {
        near_nodes_ = NearNodes(levels_[1].prefixes, below_.data(), n_first);
    }
}

std::vector<std::uint16_t> LevelTree::likely_cuts() const {
    return {likely_cuts_.get(), likely_cuts_.get() + n_depths()};
}

void LevelTree::note_cuts(const std::vector<std::uint16_t>& cuts) const {
    std::copy(cuts.begin(), cuts.end(), likely_cuts_.get());
}

bool LevelTree::suits_leaves(const SortedCodes& codes) const {
    // Their distances stay in the cache. Where the tree is not coarse, all of them are compared.
    const std::size_t most_leaves = is_coarse() ? 1 << 17 : 1 << 16;
    return is_spread() && n_rows_ <= most_leaves && codes.n_bytes() <= kMostPartBytes;
}

void LevelTree::add_leaves(const SortedCodes& codes, const LevelLayout& layout) {
    const std::size_t n_bytes = codes.n_bytes(), n_places = codes.n_groups() * kGroup;
    Array<std::uint8_t> none;  // byte-major codes need no scratch memory
    auto groups = Array<std::uint8_t>::view(codes.groups(0, codes.n_groups(), none), n_places * n_bytes);
    auto leaves = std::make_unique<Leaves>(Leaves{ByteMajorCodes(n_bytes, n_rows_, std::move(groups)), {}, {}});
    leaves->begins.assign(n_places, 0);
    leaves->entries.assign(n_places, 0);
    bool counts_fit = true;
    for_each_row(codes, layout, [&](std::size_t row, const std::uint8_t*, std::size_t first_new) {
        leaves->begins[row] = first_new < n_levels() ? 1 : 0;
        const std::size_t n_entries = codes.n_entries(row, row + 1);
        counts_fit = counts_fit && n_entries <= UINT8_MAX;
        leaves->entries[row] = static_cast<std::uint8_t>(n_entries);
        leaves->most_entries = std::max(leaves->most_entries, leaves->entries[row]);
    });
    if (!counts_fit) leaves->entries = {};
    leaves_ = std::move(leaves);
}

void LevelTree::weigh(const SortedCodes& codes, LevelNodes& level) {
    level.weights.assign(level.n_groups() * kGroup, 0);
    for (std::size_t place = 0; place < level.n_places(); ++place) {
        const NumberRange rows = level.rows(place);
        const std::size_t n_entries = codes.n_entries(rows.begin, rows.end);
        level.weights[place] = static_cast<std::uint8_t>(std::min(n_entries, LevelNodes::kMostWeight));
        if (n_entries > LevelNodes::kMostWeight) level.heavy.push_back(static_cast<std::uint32_t>(place));
    }
    level.heavy.shrink_to_fit();
}

bool LevelTree::is_spread() const {
    constexpr std::size_t kFewRows = 4;  // of a node
    return n_rows_ < kFewRows * last().n_nodes;
}

std::size_t LevelNodes::nbytes() const {
    return prefixes.nbytes() + row_begin.nbytes() + weights.nbytes() + heavy.nbytes();
}

std::size_t LevelTree::nbytes() const {
    std::size_t bytes = levels_.capacity() * sizeof(LevelNodes) + below_.nbytes() + weights_.nbytes() +
                        near_weights_.nbytes() + near_nodes_.nbytes() + moments_.nbytes() +
                        (has_leaves() ? leaves_->nbytes() : 0);
    for (const LevelNodes& level : levels_) bytes += level.nbytes();
    return bytes;
}

}  // namespace fasthash
