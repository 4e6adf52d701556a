// Kernels that compute Hamming distances: one table of functions per instruction set.
//
// Called by all searches of the core through kernels(), which picks the table once. All tables give the same results.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fasthash/simd.h"

namespace fasthash {

/// Codes of one byte-major group: byte b of all 64 codes, then byte b + 1. A vector register holds the same byte of
/// many codes, so that every width runs at full speed.
constexpr std::size_t kGroup = 64;

/// Receives the codes of a group below the threshold of a query.
class GroupSink {
 public:
    /// Bit i of `rows` is set if row i is below the threshold; `distances` has all 64 distances. May lower the query's
    /// threshold in GroupScan::thresholds.
    virtual void take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) = 0;

 protected:
    ~GroupSink() = default;
};

/// A scan of consecutive groups by some queries of a block.
struct GroupScan {
    const std::uint8_t* prepared;  ///< the queries of the block, prepared by Kernels::prepare
    const std::uint32_t* queries;  ///< numbers of the queries that scan
    std::size_t n_queries;
    const std::uint16_t* thresholds;  ///< of each query of the block, exclusive: codes below it are hits; at most
                                      ///< n_bits + 1; re-read for every group
    const std::uint8_t* groups;
    std::size_t n_groups;
    std::size_t n_bytes;
    GroupSink* sink;
};

/// The total of a code that was dropped, larger than all distances over kMostPartBytes. These are the most bytes over
/// which totals can be added up.
constexpr std::uint8_t kDropped = 255;
constexpr std::size_t kMostPartBytes = 31;

/// Some bytes of a code.
struct CodePart {
    std::size_t first_byte;
    std::size_t n_bytes;
    std::uint8_t cut;  ///< codes farther than this are dropped
};

/// Codes whose distances over their earlier bytes are known.
struct CodeRun {
    std::uint32_t first_group;
    std::uint32_t n_codes;  ///< from the first of that group on; the others of the last group are dropped
    std::uint16_t before;   ///< distance of the query to each of them over earlier bytes
};

inline std::size_t groups_of(const CodeRun& run) { return (run.n_codes + kGroup - 1) / kGroup; }

/// Groups that are compared one by one. Where few of them follow each other, this takes less time than runs, whose ends
/// can hardly be predicted.
struct GroupList {
    const std::uint32_t* groups;  ///< ascending
    std::size_t n;
    std::size_t n_codes;  ///< of all groups: the last one may have fewer than kGroup

    CodeRun run(std::size_t i) const {
        const std::size_t n_left = n_codes - groups[i] * kGroup;
        return {groups[i], static_cast<std::uint32_t>(n_left < kGroup ? n_left : kGroup), 0};
    }
};

/// A comparison of a query with parts of the codes of some groups, one part after the other.
struct PartScan {
    const std::uint8_t* prepared;  ///< the bytes of the query that the groups hold, prepared by Kernels::prepare
    const std::uint8_t* groups;
    std::size_t n_bytes;  ///< of each code in the groups
    const CodeRun* runs;
    std::size_t n_runs;
    const CodePart* parts;
    std::size_t n_parts;
    bool by_part;          ///< whether cuts apply to the distance over one part, else to the total so far
    std::uint8_t* totals;  ///< kGroup for each group of the runs in turn: set to the distance before plus that over all
                           ///< parts, or kDropped
    bool goes_on = false;  ///< whether `totals` hold the distances before, in place of the runs
    std::uint8_t cut_before = kDropped;  ///< if so, codes farther than this before are dropped
    GroupList list = {nullptr, 0, 0};    ///< if not empty, taken in place of the runs; the distances before are 0
    std::uint64_t* found = nullptr;      ///< if not null, set for each group: bit i if total i is at most largest_found
    std::uint8_t largest_found = 0;      ///< below kDropped
};

/// Totals to be counted during a PartScan.
struct TotalCount {
    const std::uint8_t* weights;  ///< of each code, also of the groups of no run; null: each total counts as 1
    std::uint8_t most_weight;     ///< the largest weight, or more
    std::uint8_t largest[2];
    std::uint64_t counts[2];  ///< raised by the weights of the totals up to each of `largest`
};

struct ThreePartQuery;

/// Receives the codes that are near on the first part and within the threshold of a query.
class ThreePartSink {
 public:
    /// Bit i of `rows` is set if place i of the group is one, whether it has a code or not. There `prefix_totals[i]` is
    /// the total over the first two parts, `totals[i]` that over all. May lower the threshold of the query; codes
    /// compared before may still arrive.
    virtual void take(ThreePartQuery& query, std::size_t group, std::uint64_t rows, const std::uint8_t* prefix_totals,
                      const std::uint8_t* totals) = 0;

 protected:
    ~ThreePartSink() = default;
};

/// A query of a ThreePartScan.
struct ThreePartQuery {
    static constexpr std::size_t kLanes = 8;

    const std::uint8_t* prepared;  ///< prepared by Kernels::prepare
    std::uint64_t wanted;          ///< bit g: whether group g of the scan is compared; 0 from n_groups on
    std::uint8_t first_cut;        ///< codes farther than this over the first part are left out
    std::uint8_t threshold;        ///< of the total over all parts, inclusive; at most kDropped - 1
    std::uint8_t largest[2];       ///< totals over the first two parts up to each of these are counted
    /// The sum of counts[i] is raised by the weights of the totals up to largest[i].
    std::uint64_t counts[2][kLanes];
};

/// A comparison of several queries with groups of codes, in three parts. A query takes the groups in their order.
struct ThreePartScan {
    static constexpr std::size_t kMostGroups = 64, kMostQueries = 16;

    const std::uint8_t* groups;
    std::size_t n_groups;                   ///< at most kMostGroups
    std::size_t n_bytes;                    ///< of each code, at most kMostPartBytes
    std::size_t first_bytes, second_bytes;  ///< of them in these parts; the third has at least one
    const std::uint8_t* weights;            ///< of each place; 0 where a group has no code
    std::uint8_t most_weight;               ///< the largest weight, or more
    std::size_t n_counted;                  ///< 1 or 2: so many of ThreePartQuery::counts are raised
    ThreePartQuery* const* queries;
    std::size_t n_queries;  ///< at most kMostQueries
    ThreePartSink* sink;
};

/// Consecutive rows: begin .. end - 1.
struct RowRange {
    std::uint32_t begin;
    std::uint32_t end;
};

struct RowHit {
    std::uint32_t row;
    std::int32_t distance;
};

/// Most hits handed to a RowSink in one call.
constexpr std::size_t kMostHits = 64;

/// Receives the rows within the threshold, which is inclusive here.
class RowSink {
 public:
    /// Hits arrive in the order of the ranges. Returns the new threshold; a few rows compared before may still arrive.
    virtual std::int32_t take(const RowHit* hits, std::size_t n) = 0;

 protected:
    ~RowSink() = default;
};

/// Most words of a bit plane that a scan reads: a cache line, for 512 codes.
constexpr std::size_t kPlaneWords = 8;
/// Binary digits of a number of shared bits: up to 4096.
constexpr std::size_t kSumDigits = 13;

/// A comparison of a query with codes in bit planes (codes/bit_major_codes.h).
struct PlaneScan {
    const std::uint64_t* planes;  ///< of bit 0, bit 1, ...: n_words words each; bit i of a word is that of code i
    std::size_t n_words;          ///< at most kPlaneWords
    const std::uint16_t* bits;    ///< the bits that the query sets
    std::size_t n_set;            ///< number of them
    std::size_t least;            ///< shared bits wanted, at most n_set
    std::uint64_t* found;         ///< set: for each word the codes that share at least that many bits
    std::uint64_t* sums;          ///< set where a code was found: digit d of the numbers of shared bits is the plane
                                  ///< sums + d * kPlaneWords, for as many digits as n_set has
};

struct Kernels {
    SimdLevel level;
    /// Codes below a first-level node, on average, from which bounds of cuts (search/safe_cuts.h) may save time in a
    /// tree with leaves, as measured.
    std::size_t codes_for_bounds;
    /// Codes below a first-level node, on average, from which scan_three_parts for several queries takes less time than
    /// scan_parts for one after the other, as measured.
    std::size_t codes_for_three_parts;

    /// Bytes per query byte in the prepared form, which the scans of groups read.
    std::size_t prepared_bytes;
    void (*prepare)(const std::uint8_t* query, std::size_t n_bytes, std::uint8_t* prepared);
    /// Hand every code below its query's threshold to the sink; for each query in the order of the groups.
    void (*scan_groups)(const GroupScan& scan);

    /// Hand the codes within the threshold in these ranges to the sink. Codes are rows of n_bytes without gaps.
    void (*scan_rows)(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n_bytes, const RowRange* ranges,
                      std::size_t n_ranges, std::int32_t threshold, RowSink& sink);

    /// distances[i] = base + Hamming distance of the query and row i.
    void (*distances)(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::size_t n_bytes,
                      std::uint16_t base, std::uint16_t* distances);

    /// Set the totals, and count them unless `count` is null. With `count`, PartScan::found is not set.
    void (*scan_parts)(const PartScan& scan, TotalCount* count);

    /// Hand the codes that are near on the first part and within the threshold of each query to the sink, and count
    /// totals over the first two parts.
    void (*scan_three_parts)(const ThreePartScan& scan);

    // Over the totals of groups, kGroup for each:
    /// Number of totals <= largest.
    std::size_t (*count_at_most)(const std::uint8_t* totals, std::size_t n_groups, std::uint8_t largest);
    /// Sum of the weights of the totals <= largest.
    std::uint64_t (*sum_at_most)(const std::uint8_t* totals, const std::uint8_t* weights, std::size_t n_groups,
                                 std::uint8_t largest);
    /// Write the positions of the totals in first .. last (first <= last), ascending; returns their number.
    std::size_t (*find_between)(const std::uint8_t* totals, std::size_t n_groups, std::uint8_t first, std::uint8_t last,
                                std::uint32_t* positions);

    /// Find the codes in planes that share enough bits with a query; false if there are none.
    bool (*count_shared)(const PlaneScan& scan);
};

/// The table in use.
const Kernels& kernels();

// One table per instruction set; null if the compiler's target lacks it.
extern const Kernels kScalarKernels;
const Kernels* neon_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512bw_kernels();
const Kernels* avx512_kernels();

}  // namespace fasthash
