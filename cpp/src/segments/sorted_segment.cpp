#include "segments/sorted_segment.h"

#include <algorithm>

#include "platform/files.h"
#include "search/pruned_search.h"
#include "search/safe_cuts.h"

namespace fasthash {

SortedSegment::SortedSegment(SortedCodes codes, PlanChoice choice, Memory memory, bool radius_tables, Stopper& stopper)
    : choice_(std::move(choice)),
      index_(carry_out(choice_, std::move(codes), memory, stopper)),
      radius_plan_(radius_tables) {}

SortedSegment::SortedSegment(SortedCodes codes, bool radius_tables, std::shared_ptr<const MappedFile> mapped)
    : choice_{Plan::scan, 0, 0, 0, {}},
      index_(std::make_unique<SubstringIndex>(std::move(codes))),
      mapped_(std::move(mapped)),
      radius_plan_(radius_tables) {}

SortedSegment::SortedSegment(SortedCodes codes, std::shared_ptr<const MappedFile> mapped)
    : choice_(plan_of_mapped(codes.n_rows(), codes.n_bytes())), mapped_(std::move(mapped)), radius_plan_(false) {
    Stopper stopper;
    index_ = carry_out(choice_, std::move(codes), Memory::standard, stopper);
}

SortedSegment::SortedSegment(SortedCodes codes, std::vector<SubstringTable> tables, double cost,
                             std::shared_ptr<const MappedFile> mapped)
    : choice_{tables.empty() ? Plan::prefix : Plan::multi_index, tables.size() + 1, codes.directory().n_bits, cost, {}},
      mapped_(std::move(mapped)),
      radius_plan_(false) {
    auto index = std::make_unique<SubstringIndex>(std::move(codes));
    index->tables = std::move(tables);
    index_ = std::move(index);
}

void SortedSegment::copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const {
    const std::size_t n_bytes = codes().n_bytes();
    Array<std::uint8_t> scratch;
    std::size_t row = 0;     // row copied last
    NumberRange held{0, 0};  // entries of that row
    for (std::size_t i = 0; i < n; ++i) {
        std::uint8_t* to = rows + i * n_bytes;
        if (entries[i] >= held.begin && entries[i] < held.end) {
            std::memcpy(to, to - n_bytes, n_bytes);
            continue;
        }
        row = codes().row_of(entries[i], row);
        held = codes().entries(row);
        std::memcpy(to, codes().codes(row, row + 1, scratch).data, n_bytes);
    }
}

std::size_t SortedSegment::nbytes() const {
    const LevelTree* tree = level_tree_.get_if_made();
    return Segment::nbytes() + index_->nbytes() + radius_plan_.nbytes() + (tree == nullptr ? 0 : tree->nbytes());
}

std::size_t SortedSegment::mapped_bytes() const { return mapped_ ? static_cast<std::size_t>(mapped_->size()) : 0; }

bool SortedSegment::scans(std::size_t n_queries, const Wanted& wanted) const {
    if (choice_.plan == Plan::scan) return !radius_plan_.serves(codes(), n_queries, wanted);
    if (scan_pays(codes().n_rows(), codes().n_bytes(), n_queries, choice_.cost)) return true;
    return wanted.k == kAll && radius_needs_scan(choice_, wanted.radius, codes().n_rows(), codes().n_bytes());
}

void SortedSegment::scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk, std::size_t n_chunks,
                               Stopper& stopper) const {
    const NumberRange groups = chunk_of(codes().n_groups(), n_chunks, chunk);
    scan(codes(), DistinctEntries(codes(), visibility), block, groups, stopper);
}

void SortedSegment::search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const {
    if (choice_.plan == Plan::scan) {
        return search_radius(radius_plan_.tables(), codes(), DistinctEntries(codes(), visibility), block, stopper);
    }
    SubstringSearch search(*index_, visibility);
    for (std::size_t q = 0; q < block.queries.n && !stopper.stopped(); ++q) {
        if (block.safe_cuts != nullptr) block.nearest[q].limit(block.safe_cuts->radius(q));
        QueryStats work = search.run(block.queries.row(q), block.nearest[q]);
        work.plan = choice_.plan;
        block.note(q, work);
    }
}

const LevelTree& SortedSegment::level_tree(const LevelLayout& layout) const {
    return level_tree_.get([&] {
        LevelTree tree(codes(), layout);
        if (choice_.plan == Plan::scan && tree.suits_leaves(codes())) tree.add_leaves(codes(), layout);
        return std::make_unique<const LevelTree>(std::move(tree));
    });
}

SafeCuts SortedSegment::safe_cuts(CodeView queries, const LevelLayout& layout, const Pruning& pruning, std::size_t k,
                                  CutKind kind) const {
    if (kind == CutKind::exact || codes().n_dropped() > 0) return {};
    return SafeCuts::bounds(level_tree(layout), layout, pruning, queries, k, choice_.plan == Plan::scan);
}

void SortedSegment::search_pruned(const QueryBlock& block, const LevelLayout& layout, const Pruning& pruning,
                                  Stopper& stopper) const {
    search_tree(codes(), level_tree(layout), layout, pruning, block, stopper);
}

}  // namespace fasthash
