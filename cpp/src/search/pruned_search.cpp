#include "search/pruned_search.h"

#include <algorithm>
#include <optional>
#include <type_traits>
#include <utility>

#include "platform/prefetch.h"
#include "search/kept_scan.h"
#include "search/leaf_search.h"
#include "search/tree_levels.h"

namespace fasthash {
namespace {

// Costs of the ways to compare the codes below kept nodes. Only their ratios matter.
constexpr double kCostOfNode = 3;              // reading the rows of a node
constexpr double kCostOfRowByte = .06;         // comparing a byte of a row
constexpr double kCostOfGatheredByte = .7;     // the same, of a byte-major row
constexpr double kCostOfScannedByte = .015;    // comparing a byte of a group in the cache
constexpr double kCostOfTransposedByte = .15;  // converting a byte to byte-major, once per block

// Unlike HDHash, compares the candidates in the order of their nodes' distance and stops once none can be among the k;
// the result is the same. Where many candidates are left after the nearest ones, they are compared in a scan.
template <typename Totals>
class TreeSearch final : private RowSink {
 public:
    TreeSearch(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
               const QueryBlock& block)
        : codes_(codes),
          entries_(codes, {}),
          tree_(tree),
          pruning_(pruning),
          block_(block),
          guesses_(tree.likely_cuts()),
          scan_(codes, tree, layout, pruning.mode == KeepMode::radius, block) {
        if (LeafSearch::serves(tree, pruning, block.nearest[0].k())) {
            leaf_search_.emplace(codes, tree, layout, pruning, block, scan_.prepared(0), guesses_[1]);
        }
        const std::size_t n_together = leaf_search_ ? kTogether : queries_together();
        levels_.reserve(n_together);
        while (levels_.size() < std::min(n_together, block.queries.n)) {
            levels_.emplace_back(codes, tree, layout, pruning, guesses_, block.stats != nullptr);
        }
    }

    void run(Stopper& stopper) {
        const std::size_t n = block_.queries.n;
        for (std::size_t q = 0; q < n; q += levels_.size()) {
            if (q % kTogether == 0 && stopper.stopped()) break;  // asking takes a while
            search({q, std::min(q + levels_.size(), n)});
        }
        if (leaf_search_) guesses_[1] = leaf_search_->likely_cut();
        tree_.note_cuts(guesses_);
        scan_.run(std::move(waiting_), stopper);
    }

 private:
    // Queries that share a chunk of groups, as long as the chunk and their totals stay in the second-level cache.
    static constexpr std::size_t kTogether = 16, kTotalBytes = 256 * 1024, kChunkBytes = 512 * 1024;
    static_assert(kTogether <= LeafSearch::kMostQueries);

    std::size_t queries_together() const;
    void search(NumberRange queries);
    std::uint32_t search_leaves(NumberRange queries);
    void take_leaves(std::size_t q, TreeLevels<Totals>& levels);
    void read_nearest(std::size_t q, TreeLevels<Totals>& levels);
    bool scan_pays(std::size_t n_nodes, std::size_t n_scanned) const;
    void read(NumberRange rows);
    void read_ranges();
    std::int32_t take(const RowHit* hits, std::size_t n) override;

    const SortedCodes& codes_;
    const DistinctEntries entries_;
    const LevelTree& tree_;
    const Pruning pruning_;
    const QueryBlock& block_;
    std::vector<std::uint16_t> guesses_;
    std::vector<TreeLevels<Totals>> levels_;
    KeptScan<Totals> scan_;
    std::optional<LeafSearch> leaf_search_;
    std::vector<FirstLevel> kept_;  // by the queries of a leaf search
    std::vector<KeptRows> waiting_;

    // Of the query under way:
    const std::uint8_t* query_ = nullptr;
    TopK* nearest_ = nullptr;
    QueryStats stats_;
    std::vector<RowRange> ranges_;
    std::size_t first_row_ = 0;  // added to the row numbers of hits
    Array<std::uint8_t> scratch_;
};

// 1 in a small tree with leaves: they stay in the cache anyway, and the totals of one query stay nearer.
template <typename Totals>
std::size_t TreeSearch<Totals>::queries_together() const {
    if (tree_.has_leaves() && codes_.n_rows() * codes_.n_bytes() <= kChunkBytes) return 1;
    std::size_t most_places = 1;
    for (std::size_t depth = 0; depth < tree_.n_depths(); ++depth) {
        most_places = std::max(most_places, tree_.prefixes(depth).size());
    }
    return std::clamp<std::size_t>(kTotalBytes / (most_places * sizeof(typename Totals::Value)), 1, kTogether);
}

template <typename Totals>
void TreeSearch<Totals>::search(NumberRange queries) {
    for (std::size_t i = 0; i < queries.size(); ++i) {
        const std::size_t q = queries.begin + i;
        const std::uint16_t* given = pruning_.cuts == nullptr ? nullptr : pruning_.cuts + q * tree_.n_levels();
        levels_[i].start(block_.queries.row(q), scan_.prepared(q), given, block_.nearest[q].k());
    }
    std::uint32_t answered = 0;  // a mask
    const auto is_open = [&](std::size_t i) { return (answered >> i & 1) == 0; };
    for (std::size_t depth = 0; depth < tree_.n_depths(); ++depth) {
        if (depth == 1 && leaf_search_) answered = search_leaves(queries);
        const ByteMajorCodes& level = levels_[0].compared(depth);
        const std::size_t per_chunk = std::max<std::size_t>(1, kChunkBytes / (kGroup * level.n_bytes()));
        for (std::size_t first = 0; first < level.n_groups(); first += per_chunk) {
            const NumberRange chunk{first, std::min(first + per_chunk, level.n_groups())};
            for (std::size_t i = 0; i < queries.size(); ++i) {
                if (is_open(i)) levels_[i].compare(chunk);
            }
        }
        for (std::size_t i = 0; i < queries.size(); ++i) {
            if (!is_open(i)) continue;
            levels_[i].settle();
            if (depth == 1 && leaf_search_) leaf_search_->note_cut(levels_[i].cuts()[1]);
        }
    }
    for (std::size_t i = 0; i < queries.size(); ++i) {
        if (!is_open(i)) continue;
        if (tree_.has_leaves()) {
            take_leaves(queries.begin + i, levels_[i]);
        } else {
            read_nearest(queries.begin + i, levels_[i]);
        }
    }
}

// Returns a mask of the queries that are answered.
template <typename Totals>
std::uint32_t TreeSearch<Totals>::search_leaves(NumberRange queries) {
    kept_.clear();
    if constexpr (std::is_same_v<Totals, NarrowTotals>) {
        for (std::size_t i = 0; i < queries.size(); ++i) {
            kept_.push_back({levels_[i].first_kept(), levels_[i].totals(), levels_[i].cuts()[0], levels_[i].n_below()});
        }
    }
    return leaf_search_->run(queries.begin, kept_);
}

template <typename Totals>
void TreeSearch<Totals>::take_leaves(std::size_t q, TreeLevels<Totals>& levels) {
    for (const RowHit& hit : levels.nearest_leaves()) entries_.prefetch(hit.row);
    for (const RowHit& hit : levels.nearest_leaves()) entries_.push(hit.row, hit.distance, block_.nearest[q]);
    if (block_.stats == nullptr) return;
    QueryStats work;
    work.nodes_visited = static_cast<std::int64_t>(levels.n_kept()) + 1;  // and the root
    work.codes_compared = static_cast<std::int64_t>(levels.n_rows());
    block_.note(q, work);
}

// Compares the rows of the nearest nodes, one node after the other; the rest may be left to a scan.
template <typename Totals>
void TreeSearch<Totals>::read_nearest(std::size_t q, TreeLevels<Totals>& levels) {
    query_ = block_.queries.row(q);
    nearest_ = &block_.nearest[q];
    stats_ = {};
    stats_.nodes_visited = static_cast<std::int64_t>(levels.n_kept()) + 1;  // and the root
    // Rows compared in the order of their nodes before a scan: they bring the threshold down.
    const std::size_t n_first = 64 + std::min(2 * std::min(nearest_->k(), codes_.n_rows()), codes_.n_rows());
    std::vector<std::uint32_t> ranges = levels.ranges();
    std::size_t n_scanned = 0, n_nodes = 0;
    for (const std::uint32_t range : ranges) n_scanned += scan_.rows_of(range).size();
    bool scans = false;
    const auto largest = [&] {
        return std::min(static_cast<std::int32_t>(levels.largest()), nearest_->largest_distance());
    };
    for (std::int32_t total = 0; total <= largest() && !scans; ++total) {
        if ((total == 0 && tree_.is_spread()) || static_cast<std::size_t>(stats_.codes_compared) >= n_first) {
            const std::size_t n_left = levels.count_up_to(static_cast<std::size_t>(largest())) - n_nodes;
            scans = scan_pays(n_left, n_scanned);
            if (scans) {
                stats_.nodes_visited += static_cast<std::int64_t>(n_left);
                stats_.codes_compared = static_cast<std::int64_t>(n_scanned);  // among them those compared already
                waiting_.push_back(
                    {static_cast<std::uint32_t>(q), levels.cuts(), static_cast<std::size_t>(total), std::move(ranges)});
                continue;
            }
        }
        levels.each(static_cast<std::size_t>(total), [&](std::size_t place) {
            ++n_nodes;
            read(tree_.last().rows(place));
        });
        read_ranges();
    }
    stats_.nodes_visited += static_cast<std::int64_t>(n_nodes);
    block_.note(q, stats_);
}

template <typename Totals>
bool TreeSearch<Totals>::scan_pays(std::size_t n_nodes, std::size_t n_scanned) const {
    const auto n_bytes = static_cast<double>(codes_.n_bytes());
    const bool in_groups = codes_.tails() == nullptr;
    const double rows_per_node = static_cast<double>(codes_.n_rows()) / static_cast<double>(tree_.last().n_nodes);
    const double node = kCostOfNode + rows_per_node * n_bytes * (in_groups ? kCostOfGatheredByte : kCostOfRowByte);
    const double transposed = in_groups ? 0 : kCostOfTransposedByte / static_cast<double>(block_.queries.n);
    return static_cast<double>(n_nodes) * node >
           static_cast<double>(n_scanned) * n_bytes * (kCostOfScannedByte + transposed);
}

template <typename Totals>
void TreeSearch<Totals>::read(NumberRange rows) {
    constexpr std::size_t kRanges = 64;
    stats_.codes_compared += static_cast<std::int64_t>(rows.size());
    if (codes_.tails() != nullptr && codes_.n_dropped() == 0) {
        prefetch_line(codes_.tails() + rows.begin * codes_.n_bytes());
        ranges_.push_back({static_cast<std::uint32_t>(rows.begin), static_cast<std::uint32_t>(rows.end)});
        if (ranges_.size() == kRanges) read_ranges();
        return;
    }
    const CodeView codes = codes_.codes(rows.begin, rows.end, scratch_);
    const RowRange all{0, static_cast<std::uint32_t>(codes.n)};
    first_row_ = rows.begin;
    kernels().scan_rows(query_, codes.data, codes.n_bytes, &all, 1, nearest_->largest_distance(), *this);
    first_row_ = 0;
}

template <typename Totals>
void TreeSearch<Totals>::read_ranges() {
    if (ranges_.empty()) return;
    kernels().scan_rows(query_, codes_.tails(), codes_.n_bytes(), ranges_.data(), ranges_.size(),
                        nearest_->largest_distance(), *this);
    ranges_.clear();
}

template <typename Totals>
std::int32_t TreeSearch<Totals>::take(const RowHit* hits, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) entries_.push(first_row_ + hits[i].row, hits[i].distance, *nearest_);
    return nearest_->largest_distance();
}

}  // namespace

void search_tree(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, const Pruning& pruning,
                 const QueryBlock& block, Stopper& stopper) {
    // Totals count the first level too, which a coarse tree does not store below its nodes.
    if (layout.offset(tree.n_levels()) <= kMostPartBytes) {
        TreeSearch<NarrowTotals>(codes, tree, layout, pruning, block).run(stopper);
    } else {
        TreeSearch<WideTotals>(codes, tree, layout, pruning, block).run(stopper);
    }
}

}  // namespace fasthash
