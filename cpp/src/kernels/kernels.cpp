#include "kernels/kernels.h"

#include <atomic>
#include <cstdlib>
#include <string>

#include "fasthash/error.h"

namespace fasthash {
namespace {

// The table of a level; null if this machine cannot run it. __builtin_cpu_supports also checks that the operating
// system saves the registers.
const Kernels* table_of(SimdLevel level) {
    switch (level) {
        case SimdLevel::scalar:
            return &kScalarKernels;
        case SimdLevel::neon:
            return neon_kernels();
#if defined(__x86_64__)
        case SimdLevel::avx2:
            __builtin_cpu_init();
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                           __builtin_cpu_supports("popcnt")
                       ? avx2_kernels()
                       : nullptr;
        case SimdLevel::avx512bw:
            __builtin_cpu_init();
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                           table_of(SimdLevel::avx2) != nullptr
                       ? avx512bw_kernels()
                       : nullptr;
        case SimdLevel::avx512:
            return __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bitalg") &&
                           table_of(SimdLevel::avx512bw) != nullptr
                       ? avx512_kernels()
                       : nullptr;
#endif
        default:
            return nullptr;
    }
}

constexpr SimdLevel kAllLevels[] = {SimdLevel::scalar, SimdLevel::neon, SimdLevel::avx2, SimdLevel::avx512bw,
                                    SimdLevel::avx512};

const Kernels* offered(const std::string& name, const char* source) {
    std::string names;
    for (const SimdLevel level : simd_levels()) {
        if (name == simd_name(level)) return table_of(level);
        names += (names.empty() ? "" : ", ") + std::string(simd_name(level));
    }
    throw ArgumentError(std::string(source) + " must be one of the levels that this machine offers (" + names +
                        "), got '" + name + "'");
}

const Kernels* choose() {
    const char* forced = std::getenv("FASTHASH_SIMD");
    if (forced != nullptr && *forced != '\0') return offered(forced, "FASTHASH_SIMD");
    return table_of(simd_levels().back());
}

std::atomic<const Kernels*> in_use{nullptr};

}  // namespace

const Kernels& kernels() {
    const Kernels* table = in_use.load(std::memory_order_acquire);
    if (table == nullptr) {
        table = choose();
        in_use.store(table, std::memory_order_release);
    }
    return *table;
}

const char* simd_name(SimdLevel level) {
    switch (level) {
        case SimdLevel::neon:
            return "neon";
        case SimdLevel::avx2:
            return "avx2";
        case SimdLevel::avx512bw:
            return "avx512bw";
        case SimdLevel::avx512:
            return "avx512";
        default:
            return "scalar";
    }
}

std::vector<SimdLevel> simd_levels() {
    std::vector<SimdLevel> levels;
    for (const SimdLevel level : kAllLevels) {
        if (table_of(level) != nullptr) levels.push_back(level);
    }
    return levels;
}

SimdLevel simd_level() { return kernels().level; }

void set_simd_level(const std::string& name) { in_use.store(offered(name, "name"), std::memory_order_release); }

}  // namespace fasthash
