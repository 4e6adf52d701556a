// The kernels that count bits, one table of them per instruction set. kernels.cpp decides which table is used.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fasthash/simd.h"

namespace fasthash {

/// Codes of one group of the byte-major layout: byte b of its codes stands together, 64 bytes, then byte b + 1. One
/// vector register then holds the same byte of 64 codes, so that every width runs at full speed.
constexpr std::size_t kGroup = 64;

/// Receives the codes of a group that are nearer than the threshold of a query.
class GroupSink {
 public:
    /// Bit i of `rows` stands for row i of the group; `distances` has one value for each of the 64. Lowers the
    /// threshold of the query in GroupScan::thresholds when it can.
    virtual void take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) = 0;

 protected:
    ~GroupSink() = default;
};

/// A block of queries against a run of groups.
struct GroupScan {
    const std::uint8_t* prepared;  ///< n_queries queries, prepared by Kernels::prepare
    std::size_t n_queries;
    const std::uint16_t* thresholds;  ///< per query: codes nearer than this are wanted, at most n_bits + 1;
                                      ///< read anew for every group
    const std::uint8_t* groups;
    std::size_t n_groups;
    std::size_t n_bytes;
    GroupSink* sink;
};

/// Rows of codes that stand one after the other.
struct RowRange {
    std::uint32_t begin;
    std::uint32_t end;
};

struct RowHit {
    std::uint32_t row;
    std::int32_t distance;
};

/// Most hits that a RowSink gets at once.
constexpr std::size_t kMostHits = 64;

/// Receives rows within the threshold.
class RowSink {
 public:
    /// In the order of the ranges. Returns the threshold from now on; a few rows that are compared already may still
    /// come.
    virtual std::int32_t take(const RowHit* hits, std::size_t n) = 0;

 protected:
    ~RowSink() = default;
};

struct Kernels {
    SimdLevel level;

    /// Bytes that one query byte takes in the form that scan_groups reads.
    std::size_t prepared_bytes;
    void (*prepare)(const std::uint8_t* query, std::size_t n_bytes, std::uint8_t* prepared);
    /// Hand every code nearer than its query's threshold to the sink, for each query in the order of the groups.
    void (*scan_groups)(const GroupScan& scan);

    /// Hand the codes within the threshold in some ranges of rows to the sink. Codes are rows of n_bytes without gaps.
    void (*scan_rows)(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n_bytes, const RowRange* ranges,
                      std::size_t n_ranges, std::int32_t threshold, RowSink& sink);

    /// distances[i] = bits in which the query and row i differ, plus `base`.
    void (*distances)(const std::uint8_t* query, const std::uint8_t* codes, std::size_t n, std::size_t n_bytes,
                      std::uint16_t base, std::uint16_t* distances);

    /// How many values are at most `largest`.
    std::size_t (*count_at_most)(const std::uint16_t* values, std::size_t n, std::uint16_t largest);
    /// Write the positions of the values from `first` to `last`, which is not below it, in order; returns how many.
    /// There is room for n + 1 positions.
    std::size_t (*find_between)(const std::uint16_t* values, std::size_t n, std::uint16_t first, std::uint16_t last,
                                std::uint32_t* positions);
};

/// The table in use.
const Kernels& kernels();

// One per instruction set, null where the compiler's target does not have it.
extern const Kernels kScalarKernels;
const Kernels* neon_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();

}  // namespace fasthash
