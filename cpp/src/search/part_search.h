// The exact search by parts of the code: a prefix (one part) or multi-index hashing (several).
#pragma once

#include <vector>

#include "fasthash/search.h"
#include "platform/stopper.h"
#include "search/row_entries.h"
#include "search/search_cost.h"

namespace fasthash {

/// All distinct codes once more, ordered by the bits of one part, so that equal parts stand together.
struct PartTable {
    std::size_t first_bit;
    Array<std::uint32_t> begin;  // first entry of each value of the part, and the number of entries at the end
    Array<std::uint8_t> codes;
    PackedNumbers rows;  // of the sorted codes

    std::size_t nbytes() const { return begin.nbytes() + codes.nbytes() + rows.nbytes(); }
};

PartTable make_part_table(const SortedCodes& sorted, std::size_t first_bit, std::size_t n_bits, Stopper& stopper);

/// Codes, and tables by which parts of them are looked up. Part 0 are the first bits, for which the sorted codes and
/// their directory serve; part i has table i - 1. All parts have as many bits as the directory.
class PartIndex {
 public:
    explicit PartIndex(SortedCodes codes) : sorted(std::move(codes)) {}

    SortedCodes sorted;
    std::vector<PartTable> tables;

    std::size_t n_parts() const { return tables.size() + 1; }
    std::size_t n_bits() const { return sorted.directory().n_bits; }
    std::size_t nbytes() const;
};

/// Visits the values of the parts in the order of their distance to the query's. A code at distance d differs in at
/// most d / n_parts bits in one of the parts at least (Norouzi, Punjani, Fleet, arXiv:1307.2982): once every part has
/// been searched up to s bits, and the first j + 1 of them one bit farther, all codes within n_parts * s + j + n_parts
/// have been found. Parts need not cover the code: what they leave out can only add to the distance.
class PartSearch final : private RowSink {
 public:
    PartSearch(const PartIndex& index, Admission admission);

    /// Scans what is left where the parts turn out to be no help.
    QueryStats run(const std::uint8_t* query, TopK& nearest);

 private:
    static constexpr std::size_t kRanges = 64;  // looked up, and asked of memory, before the first one is read

    void visit(std::size_t part, unsigned distance);
    bool too_dear(double more) const;
    void read_ranges();
    void scan_all();
    std::int32_t take(const RowHit* hits, std::size_t n) override;
    std::int32_t limit() const;
    std::int32_t limit_of(const RowHit* hits, std::size_t n) const;
    bool seen_before(const std::uint8_t* code) const;

    const PartIndex& index_;
    const SortedEntries entries_;
    const double scan_cost_;
    std::vector<std::uint32_t> query_parts_;
    std::vector<unsigned> n_visited_;  // per part: all values at smaller distances have been visited
    const std::uint8_t* query_ = nullptr;
    TopK* nearest_ = nullptr;
    QueryStats stats_;
    double cost_ = 0;

    std::size_t part_ = 0;               // what is being visited
    std::int32_t bound_ = 0;             // distance of the bits that the rows do not hold
    std::int32_t farthest_ = INT32_MAX;  // rows farther than this are not wanted, whatever the threshold is
    RowRange ranges_[kRanges];
    std::size_t n_ranges_ = 0;
};

}  // namespace fasthash
