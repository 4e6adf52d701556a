// The scan on the GPU: compares a batch of queries with codes in device or host memory.
//
// Called by Gallery. Chooses the kernel, and streams codes that are on the host.
#pragma once

#include "gpu/planes.h"

namespace fasthash::gpu {

struct QueryBatch;
struct SegmentView;

/// The hardware unit that compares codes: popcount instructions or the tensor cores' bit products. `best`: the faster
/// one for the width and number of queries.
enum class Unit { best, popcount, tensor };

/// Settings of scans of a gallery.
struct ScanSettings {
    Unit unit;
    std::size_t block_bytes;  ///< block of streamed codes; two blocks are on the device at a time
};

/// The unit named by the environment variable FASTHASH_GPU_SCAN. Throws ArgumentError if the name is unknown.
Unit wanted_unit();

/// Compare rows of a segment (the first is a multiple of kQuad) with n queries of a batch, starting at `query`, and add
/// the entries before their thresholds to the candidates. Throws Interrupted.
void scan(const Planes& codes, const ScanSettings& settings, const QueryBatch& batch, const SegmentView& segment,
          NumberRange rows, std::size_t query, std::size_t n);

}  // namespace fasthash::gpu
