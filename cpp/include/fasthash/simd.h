// The instruction set of the kernels: chosen once, from those that the processor and the operating system support.
#pragma once

#include <string>
#include <vector>

namespace fasthash {

enum class SimdLevel { scalar, neon, avx2, avx512bw, avx512 };

/// "scalar", "neon", "avx2", "avx512bw", "avx512".
const char* simd_name(SimdLevel level);

/// Levels that this machine supports, slowest first; scalar is always among them.
std::vector<SimdLevel> simd_levels();

/// The level in use: the fastest supported one, or the one named by the environment variable FASTHASH_SIMD. Throws
/// ArgumentError if that name is unknown or not supported.
SimdLevel simd_level();

/// Set the level by name, for tests and comparisons. Throws ArgumentError if it is not supported.
void set_simd_level(const std::string& name);

}  // namespace fasthash
