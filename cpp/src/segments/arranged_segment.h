// A segment of distinct codes in another order than that of their bytes: by id, to be scanned, or in clusters, searched
// by lower bounds of the distance to their codes.
//
// Used by HierIndex for these two plans. Files hold clusters as they are; merges, and files of codes by id, read the
// entries one by one and sort them again.
#pragma once

#include "codes/arranged_codes.h"
#include "codes/level_tree.h"
#include "search/radius_search.h"
#include "segments/segment.h"

namespace fasthash {

class ArrangedSegment final : public Segment {
 public:
    /// `radius_tables`: whether codes that are scanned may get tables for searches within small radii. `mapped`: keeps
    /// the mapped file open that codes and ids point into; null if they are in memory.
    ArrangedSegment(ArrangedCodes codes, bool radius_tables, std::shared_ptr<const MappedFile> mapped = nullptr)
        : codes_(std::move(codes)), radius_plan_(radius_tables), mapped_(std::move(mapped)) {}

    std::size_t n_entries() const override { return codes_.n_entries(); }
    std::int64_t id(std::size_t entry) const override { return codes_.id(entry); }
    std::int64_t smallest_id() const override { return codes_.smallest_id(); }
    std::int64_t largest_id() const override { return codes_.largest_id(); }
    HeldEntries held() const override { return {codes_, codes_.packed_ids(), &codes_.runs()}; }
    void copy_codes(const std::size_t* entries, std::size_t n, std::uint8_t* rows) const override;
    std::size_t nbytes() const override;
    std::size_t mapped_bytes() const override;

    bool scans(std::size_t n_queries, const Wanted& wanted) const override {
        return codes_.centroids().n == 0 && !radius_plan_.serves(codes_, n_queries, wanted);
    }
    std::size_t scan_bytes() const override { return codes_.n_rows() * codes_.n_bytes(); }
    void scan_chunk(const QueryBlock& block, Visibility visibility, std::size_t chunk, std::size_t n_chunks,
                    Stopper& stopper) const override;
    std::size_t queries_at_once() const override { return 2048; }  // the more queries, the more visit the same cluster
    void search(const QueryBlock& block, Visibility visibility, Stopper& stopper) const override;
    SafeCuts safe_cuts(CodeView queries, const LevelLayout& layout, const Pruning& pruning, std::size_t k,
                       CutKind kind) const override;
    /// The first call sorts a copy of the codes, which is kept.
    void search_pruned(const QueryBlock& block, const LevelLayout& layout, const Pruning& pruning,
                       Stopper& stopper) const override;
    bool ids_ascend() const override { return codes_.ids_ascend(); }
    const ArrangedCodes* clusters() const override { return codes_.centroids().n > 0 ? &codes_ : nullptr; }
    SearchPlan search_plan() const override {
        const std::size_t n_clusters = codes_.centroids().n;
        return {n_clusters == 0 ? Plan::scan : Plan::clusters, 0, 0, n_clusters};
    }

 private:
    // The codes in their sorted order, with the levels as a tree.
    struct Sorted {
        SortedCodes codes;
        LevelTree tree;
    };

    const Sorted& of_levels(const LevelLayout& layout) const;

    ArrangedCodes codes_;
    RadiusPlan radius_plan_;
    std::shared_ptr<const MappedFile> mapped_;
    Lazy<Sorted> sorted_;
};

}  // namespace fasthash
