// The scan on the GPU: compares a batch of queries with codes in device or host memory.
//
// Called by Gallery. Chooses the kernel, and streams codes that are on the host.
#pragma once

#include "gpu/planes.h"

namespace fasthash::gpu {

struct QueryBatch;
struct ScanTask;
struct SegmentView;
struct Selection;

/// The hardware unit that compares codes: popcount instructions or the tensor cores' bit products. `best`: the faster
/// one for the width and number of queries.
enum class Unit { best, popcount, tensor };

/// The plan of exact searches of segments in clusters. `best`: the faster one for the number of codes and queries.
enum class GpuPlan { best, scan, clusters };

/// Settings of searches of a gallery.
struct ScanSettings {
    Unit unit;
    GpuPlan plan;
    std::size_t block_bytes;  ///< block of streamed codes; two blocks are on the device at a time
};

/// The choices of the environment variables FASTHASH_GPU_SCAN and FASTHASH_GPU_PLAN. Throws ArgumentError for unknown
/// names.
Unit wanted_unit();
GpuPlan wanted_plan();

/// Whether products compare these queries. `n_before`: rows that their thresholds are known from.
bool takes_products(Unit unit, unsigned n_words, std::size_t n_queries, std::size_t n_before, std::size_t k);

/// Compare rows of a segment (the first is a multiple of kQuad) with queries of a batch, and add the entries before
/// their thresholds to the candidates. `n_before`: as in takes_products. Throws Interrupted.
void scan(const Planes& codes, const ScanSettings& settings, const QueryBatch& batch, const SegmentView& segment,
          NumberRange rows, const Selection& queries, std::size_t n_before);

/// As scan, by Jaccard distance, of the last of each `every` quads of rows. Codes in host memory are read where they
/// are.
void scan_sample(const QueryBatch& batch, const SegmentView& segment, std::size_t n_rows, const Selection& queries,
                 std::size_t every);

}  // namespace fasthash::gpu
