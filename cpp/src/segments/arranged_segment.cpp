#include "segments/arranged_segment.h"

#include "codes/sort_rows.h"
#include "platform/files.h"
#include "search/cluster_search.h"
#include "search/pruned_search.h"
#include "search/safe_cuts.h"

namespace fasthash {
namespace {

SortedCodes sorted(const ArrangedCodes& arranged) {
    const std::size_t n = arranged.n_rows(), n_bytes = arranged.n_bytes();
    Array<std::uint8_t> rows(n * n_bytes);
    arranged.copy_rows(0, n, rows.data());
    SortedCodesBuilder builder(n_bytes, arranged.n_entries(), arranged.smallest_id(), arranged.largest_id());
    Stopper stopper;
    SortedRanges ranges({rows.data(), n, n_bytes}, nullptr, stopper);
    while (ranges.next()) {
        for (std::size_t i = 0; i < ranges.n(); ++i) {
            const NumberRange entries = arranged.entries(ranges.row(i));
            for (std::size_t entry = entries.begin; entry < entries.end; ++entry) {
                builder.append(ranges.code(i), arranged.id(entry));
            }
        }
    }
    return builder.finish();
}

}  // namespace

void ArrangedSegment::copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const {
    std::size_t row = 0;
    for (std::size_t i = 0; i < n; ++i) {
        row = codes_.row_of(entries[i], row);
        codes_.copy_rows(row, 1, rows + i * codes_.n_bytes());
    }
}

std::size_t ArrangedSegment::nbytes() const {
    const Sorted* of_levels = sorted_.get_if_made();
    const std::size_t more = of_levels == nullptr ? 0 : of_levels->codes.nbytes() + of_levels->tree.nbytes();
    return Segment::nbytes() + codes_.nbytes() + radius_plan_.nbytes() + more;
}

std::size_t ArrangedSegment::mapped_bytes() const { return mapped_ ? static_cast<std::size_t>(mapped_->size()) : 0; }

void ArrangedSegment::scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk,
                                 std::size_t n_chunks, Stopper& stopper) const {
    const NumberRange groups = chunk_of(codes_.n_groups(), n_chunks, chunk);
    scan(codes_, DistinctEntries(codes_, visibility), block, groups, stopper);
}

void ArrangedSegment::search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const {
    if (codes_.centroids().n > 0) return ClusterSearch(codes_, visibility, block).run(stopper);
    search_radius(radius_plan_.tables(), codes_, DistinctEntries(codes_, visibility), block, stopper);
}

const ArrangedSegment::Sorted& ArrangedSegment::of_levels(const LevelLayout& layout) const {
    return sorted_.get([&] {
        SortedCodes codes = sorted(codes_);
        LevelTree tree(codes, layout);
        if (tree.is_spread()) codes.hold_byte_major();
        auto sorted = std::make_unique<Sorted>(Sorted{std::move(codes), std::move(tree)});
        if (sorted->tree.suits_leaves(sorted->codes)) sorted->tree.add_leaves(sorted->codes, layout);
        return std::unique_ptr<const Sorted>(std::move(sorted));
    });
}

SafeCuts ArrangedSegment::safe_cuts(CodeView queries, const LevelLayout& layout, const Pruning& pruning, std::size_t k,
                                    CutKind kind) const {
    const bool scans = codes_.centroids().n == 0;
    if (kind == CutKind::exact && scans) return {};
    const Sorted& sorted = of_levels(layout);
    if (kind == CutKind::bounds) return SafeCuts::bounds(sorted.tree, layout, pruning, queries, k, scans);
    // By radius, bounds are the cuts. Below a small share of the nodes, the tree has few codes to compare, and where
    // nodes have many rows, it reads few nodes.
    constexpr double kLeast = 0.125;
    if (pruning.mode == KeepMode::radius || pruning.keep < kLeast || !sorted.tree.is_spread()) return {};
    return SafeCuts::exact(sorted.codes, sorted.tree, layout, pruning, queries, k);
}

void ArrangedSegment::search_pruned(const QueryBlock& block, const LevelLayout& layout, const Pruning& pruning,
                                    Stopper& stopper) const {
    const Sorted& sorted = of_levels(layout);
    search_tree(sorted.codes, sorted.tree, layout, pruning, block, stopper);
}

}  // namespace fasthash
