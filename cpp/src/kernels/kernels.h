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

struct Kernels {
    SimdLevel level;

    /// Bytes per query byte in the prepared form that scan_groups reads.
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

    /// Number of values <= largest.
    std::size_t (*count_at_most)(const std::uint16_t* values, std::size_t n, std::uint16_t largest);
    /// Write the positions of the values in first .. last (first <= last), ascending; returns their number. `positions`
    /// has room for n + 1.
    std::size_t (*find_between)(const std::uint16_t* values, std::size_t n, std::uint16_t first, std::uint16_t last,
                                std::uint32_t* positions);
};

/// The table in use.
const Kernels& kernels();

// One table per instruction set; null if the compiler's target lacks it.
extern const Kernels kScalarKernels;
const Kernels* neon_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

}  // namespace fasthash
