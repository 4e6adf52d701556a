// The exact search by substrings of the code: a prefix (one substring) or multi-index hashing (several).
#pragma once

#include <vector>

#include "fasthash/search.h"
#include "platform/stopper.h"
#include "search/row_entries.h"
#include "search/search_cost.h"

namespace fasthash {

/// All distinct codes once more, ordered by the bits of one substring, so that equal substrings stand together.
struct SubstringTable {
    std::size_t first_bit;
    Array<std::uint32_t> begin;  // first entry of each value of the substring, and the number of entries at the end
    Array<std::uint8_t> codes;
    PackedNumbers rows;  // of the sorted codes

    std::size_t nbytes() const { return begin.nbytes() + codes.nbytes() + rows.nbytes(); }
};

SubstringTable make_substring_table(const SortedCodes& sorted, std::size_t first_bit, std::size_t n_bits,
                                    Stopper& stopper);

/// Codes, and tables by which substrings of them are looked up. Substring 0 are the first bits, for which the sorted
/// codes and their directory serve; substring i has table i - 1. All substrings have as many bits as the directory.
class SubstringIndex {
 public:
    explicit SubstringIndex(SortedCodes codes) : sorted(std::move(codes)) {}

    SortedCodes sorted;
    std::vector<SubstringTable> tables;

    std::size_t n_substrings() const { return tables.size() + 1; }
    std::size_t n_bits() const { return sorted.directory().n_bits; }
    std::size_t nbytes() const;
};

/// Visits the values of the substrings in the order of their distance to the query's. A code at distance d differs in
/// at most d / n_substrings bits in one of the substrings at least (Norouzi, Punjani, Fleet, arXiv:1307.2982): once
/// every substring has been searched up to s bits, and the first j + 1 of them one bit farther, all codes within
/// n_substrings * s + j + n_substrings have been found. Substrings need not cover the code: what they leave out can
/// only add to the distance.
class SubstringSearch final : private RowSink {
 public:
    SubstringSearch(const SubstringIndex& index, Visibility visibility);

    /// Scans what is left where the substrings turn out to be no help.
    QueryStats run(const std::uint8_t* query, TopK& nearest);

 private:
    static constexpr std::size_t kRanges = 64;  // looked up, and asked of memory, before the first one is read

    void visit(std::size_t substring, unsigned distance);
    bool too_dear(double more) const;
    void read_ranges();
    void scan_all();
    std::int32_t take(const RowHit* hits, std::size_t n) override;
    std::int32_t row_threshold() const;
    std::int32_t kth_distance(const RowHit* hits, std::size_t n) const;
    bool seen_before(const std::uint8_t* code) const;

    const SubstringIndex& index_;
    const SortedEntries entries_;
    const double scan_cost_;
    std::vector<std::uint32_t> query_substrings_;
    std::vector<unsigned> n_visited_;  // per substring: all values at smaller distances have been visited
    const std::uint8_t* query_ = nullptr;
    TopK* nearest_ = nullptr;
    QueryStats stats_;
    double cost_ = 0;

    std::size_t substring_ = 0;          // what is being visited
    std::int32_t prefix_distance_ = 0;   // distance of the bits that the rows do not hold
    std::int32_t farthest_ = INT32_MAX;  // rows farther than this are not wanted, whatever the threshold is
    RowRange ranges_[kRanges];
    std::size_t n_ranges_ = 0;
};

}  // namespace fasthash
