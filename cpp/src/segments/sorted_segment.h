// A segment of sorted distinct codes, searched by the plan chosen for them, or pruned over their levels.
//
// Used by HierIndex. The plan and its tables are built once, in the constructor; the level tree on the first pruned
// search.
#pragma once

#include "codes/level_tree.h"
#include "search/planner.h"
#include "search/radius_search.h"
#include "segments/segment.h"

namespace fasthash {

class SortedSegment final : public Segment {
 public:
    /// `choice`: any plan but clusters. `radius_tables`: as in ArrangedSegment. Throws Interrupted when `stopper` ends
    /// the work.
    SortedSegment(SortedCodes codes, PlanChoice choice, Memory memory, bool radius_tables, Stopper& stopper);
    /// Byte-major codes in a mapped file, which are scanned.
    SortedSegment(SortedCodes codes, bool radius_tables, std::shared_ptr<const MappedFile> mapped);
    /// Rows in a mapped file: only a prefix directory is built, unless the file has one.
    SortedSegment(SortedCodes codes, std::shared_ptr<const MappedFile> mapped);
    /// Codes and tables in a mapped file. `cost`: of a query.
    SortedSegment(SortedCodes codes, std::vector<SubstringTable> tables, double cost,
                  std::shared_ptr<const MappedFile> mapped);

    const SortedCodes& codes() const { return index_->sorted; }

    std::size_t n_entries() const override { return codes().n_entries(); }
    std::int64_t id(std::size_t entry) const override { return codes().id(entry); }
    std::int64_t smallest_id() const override { return codes().smallest_id(); }
    std::int64_t largest_id() const override { return codes().largest_id(); }
    HeldEntries held() const override { return {codes(), codes().packed_ids(), &codes().runs()}; }
    void copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const override;
    std::size_t nbytes() const override;
    std::size_t mapped_bytes() const override;

    bool scans(std::size_t n_queries, const Wanted& wanted) const override;
    std::size_t scan_bytes() const override { return codes().n_rows() * codes().n_bytes(); }
    void scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk, std::size_t n_chunks,
                    Stopper& stopper) const override;
    void search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const override;
    SafeCuts safe_cuts(CodeView queries, const LevelLayout& layout, const Pruning& pruning, std::size_t k,
                       CutKind kind) const override;
    void search_pruned(const QueryBlock& block, const LevelLayout& layout, const Pruning& pruning,
                       Stopper& stopper) const override;
    const SortedCodes* sorted_codes() const override { return &codes(); }
    PlannedTables planned_tables() const override {
        if (choice_.plan == Plan::scan || codes().n_dropped() > 0) return {};
        return {index_.get(), choice_.cost};
    }
    SearchPlan search_plan() const override { return {choice_.plan, choice_.n_substrings, choice_.substring_bits, 0}; }

 private:
    const LevelTree& level_tree(const LevelLayout& layout) const;

    PlanChoice choice_;
    std::unique_ptr<const SubstringIndex> index_;
    std::shared_ptr<const MappedFile> mapped_;
    RadiusPlan radius_plan_;
    Lazy<LevelTree> level_tree_;
};

}  // namespace fasthash
