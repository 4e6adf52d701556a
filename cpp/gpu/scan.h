// The comparison of all codes with the queries of a batch, wherever the codes are.
#pragma once

#include "gpu/planes.h"

namespace fasthash::gpu {

struct QueryBatch;

/// What compares codes: the cores' popcounts, or the tensor cores' products of bits; `best` is the faster one for the
/// number of queries and the width.
enum class Unit { best, popcount, tensor };

/// How a gallery is compared.
struct ScanSettings {
    Unit unit;
    std::size_t
        block_bytes;  ///< of codes that are on the host: as many are on the device at once, and as many on their way
};

/// What FASTHASH_GPU_SCAN in the environment asks for. Throws ArgumentError if that is nothing known.
Unit wanted_unit();

/// Compares rows first .. end, of which the first is a multiple of kQuad, with n queries of a batch from `query` on,
/// and keeps what comes before their thresholds. Throws Interrupted.
void scan(const Planes& codes, const ScanSettings& settings, const QueryBatch& batch, std::size_t first,
          std::size_t end, std::size_t query, std::size_t n);

}  // namespace fasthash::gpu
