// Which instruction set the kernels use: decided once, from what the processor and the operating system offer.
#pragma once

#include <string>
#include <vector>

namespace fasthash {

enum class SimdLevel { scalar, neon, avx2, avx512 };

/// "scalar", "neon", "avx2", "avx512".
const char* simd_name(SimdLevel level);

/// Levels that this machine offers, the slowest first; scalar always.
std::vector<SimdLevel> simd_levels();

/// The level in use: the fastest offered, or the one that the environment variable FASTHASH_SIMD names. Throws
/// ArgumentError if that names no level or one that this machine does not offer.
SimdLevel simd_level();

/// Use the level of this name from now on, for tests and comparisons. Throws ArgumentError if it is not offered.
void set_simd_level(const std::string& name);

}  // namespace fasthash
