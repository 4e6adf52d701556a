// Exact search by substrings of the code: one prefix, or several substrings (multi-index hashing).
//
// Called by SortedSegment. Finds the k nearest rows of one segment, or all rows within a radius; falls back to a scan
// when the lookups cost more than they save.
#pragma once

#include <vector>

#include "codes/sorted_codes.h"
#include "fasthash/search.h"
#include "platform/stopper.h"
#include "search/row_entries.h"
#include "search/search_cost.h"

namespace fasthash {

/// Lookup table for one substring: all distinct codes, grouped by the value of that substring.
///
/// The codes are stored in the table itself, so that reading a bucket touches contiguous memory.
struct SubstringTable {
    std::size_t first_bit;
    Array<std::uint32_t> begin;  // bucket v holds the slots begin[v] .. begin[v + 1]
    Array<std::uint8_t> codes;
    PackedNumbers rows;  // row of each slot in the sorted codes

    std::size_t nbytes() const { return begin.nbytes() + codes.nbytes() + rows.nbytes(); }
};

SubstringTable make_substring_table(const SortedCodes& sorted, std::size_t first_bit, std::size_t n_bits,
                                    Stopper& stopper);

/// The codes of one segment and the lookup tables of their substrings.
///
/// Substring 0 is the leading bits: the sorted codes and their directory are its table. Table i - 1 belongs to
/// substring i. All substrings have as many bits as the directory.
class SubstringIndex {
 public:
    explicit SubstringIndex(SortedCodes codes) : sorted(std::move(codes)) {}

    SortedCodes sorted;
    std::vector<SubstringTable> tables;

    std::size_t n_substrings() const { return tables.size() + 1; }
    std::size_t n_bits() const { return sorted.directory().n_bits; }
    std::size_t nbytes() const;
};

/// Searches one query at a time.
///
/// A code at distance d differs from the query by at most d / m bits in at least one of m substrings (Norouzi, Punjani
/// and Fleet, arXiv:1307.2982). So after all m substrings have been searched up to s bits, and the first j + 1 of them
/// up to s + 1 bits, every code within m * s + m + j has been found. The substrings need not cover the code: bits
/// outside them can only increase the distance.
///
/// Invariant: after each visit, every pair (distance, id) that precedes the threshold and lies within the searched
/// radius is in `nearest`.
class SubstringSearch final : private RowSink {
 public:
    SubstringSearch(const SubstringIndex& index, Visibility visibility);

    /// Runs one query and returns the work done. Scans all codes instead once the lookups cost more than that.
    QueryStats run(const std::uint8_t* query, TopK& nearest);

 private:
    static constexpr std::size_t kRanges = 64;  // buckets looked up and prefetched before the first one is read

    void visit(std::size_t substring, unsigned distance);
    bool too_dear(double more) const;
    void read_ranges();
    void scan_all();
    std::int32_t take(const RowHit* hits, std::size_t n) override;
    std::int32_t row_threshold() const;
    std::int32_t kth_distance(const RowHit* hits, std::size_t n) const;
    bool seen_before(const std::uint8_t* code) const;

    const SubstringIndex& index_;
    const DistinctEntries entries_;
    const ReadingCosts costs_;
    double most_cost_ = 0;  // at which the search is given up
    std::vector<std::uint32_t> query_substrings_;
    std::vector<unsigned> n_visited_;  // per substring: all buckets at smaller distances have been visited
    const std::uint8_t* query_ = nullptr;
    TopK* nearest_ = nullptr;
    QueryStats stats_;
    double cost_ = 0;

    std::size_t substring_ = 0;          // substring being visited
    std::int32_t prefix_distance_ = 0;   // distance of the prefix bytes that rows do not store
    std::int32_t farthest_ = INT32_MAX;  // largest distance that scan_all reads now, below the threshold or at it
    RowRange ranges_[kRanges];
    std::size_t n_ranges_ = 0;
};

}  // namespace fasthash
