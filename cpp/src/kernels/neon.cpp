// NEON kernels, for every 64-bit ARM: count the bits of 16 bytes at once.
#include "kernels/planes.h"
#include "kernels/totals.h"

#if defined(__aarch64__)
#include <arm_neon.h>

namespace fasthash {
namespace {

constexpr std::size_t kVectors = kGroup / 16;

void prepare(const std::uint8_t* query, std::size_t n_bytes, std::uint8_t* prepared) {
    std::memcpy(prepared, query, n_bytes);
}

inline uint8x16_t count(const std::uint8_t* group, const std::uint8_t* query, std::size_t b, std::size_t i) {
    return vcntq_u8(veorq_u8(vld1q_u8(group + b * kGroup + i * 16), vdupq_n_u8(query[b])));
}

// 16-bit distances, updated after each block of bytes. A query leaves a group as soon as none of its codes can come
// within the threshold.
void scan_groups(const GroupScan& scan) {
    constexpr std::size_t kBlock = 31;  // bytes whose counts fit a byte
    for (std::size_t g = 0; g < scan.n_groups; ++g) {
        const std::uint8_t* group = scan.groups + g * kGroup * scan.n_bytes;
        for (std::size_t slot = 0; slot < scan.n_queries; ++slot) {
            const std::size_t q = scan.queries[slot];
            const std::uint8_t* query = scan.prepared + q * scan.n_bytes;
            uint16x8_t sums[2 * kVectors] = {};
            bool within = true;
            for (std::size_t begin = 0; begin < scan.n_bytes && within; begin += kBlock) {
                const std::size_t end = begin + kBlock < scan.n_bytes ? begin + kBlock : scan.n_bytes;
                uint16x8_t least = vdupq_n_u16(UINT16_MAX);
                for (std::size_t i = 0; i < kVectors; ++i) {
                    uint8x16_t bytes = count(group, query, begin, i);
                    for (std::size_t b = begin + 1; b < end; ++b) bytes = vaddq_u8(bytes, count(group, query, b, i));
                    sums[2 * i] = vaddw_u8(sums[2 * i], vget_low_u8(bytes));
                    sums[2 * i + 1] = vaddw_u8(sums[2 * i + 1], vget_high_u8(bytes));
                    least = vminq_u16(least, vminq_u16(sums[2 * i], sums[2 * i + 1]));
                }
                within = vminvq_u16(least) < scan.thresholds[q];
            }
            if (!within) continue;
            std::uint16_t distances[kGroup];
            for (std::size_t i = 0; i < 2 * kVectors; ++i) vst1q_u16(distances + i * 8, sums[i]);
            totals::give(scan, q, g, distances);
        }
    }
}

struct Distances {
    static void of(const std::uint8_t* group, const std::uint8_t* prepared, std::size_t n_bytes,
                   std::uint8_t* distances) {
        for (std::size_t i = 0; i < kVectors; ++i) {
            uint8x16_t sums = vdupq_n_u8(0);
            for (std::size_t b = 0; b < n_bytes; ++b) sums = vaddq_u8(sums, count(group, prepared, b, i));
            vst1q_u8(distances + i * 16, sums);
        }
    }
};

void scan_parts(const PartScan& scan, TotalCount* count) { totals::scan_parts<Distances>(scan, 1, count); }

void scan_three_parts(const ThreePartScan& scan) { totals::scan_three_parts<Distances>(scan, 1); }

using Words = std::uint64_t __attribute__((vector_size(16)));

bool count_shared(const PlaneScan& scan) { return planes::count_shared<Words>(scan); }

FASTHASH_ROW_KERNELS(, rows::Builtin)

}  // namespace

const Kernels* neon_kernels() {
    static constexpr Kernels table = {SimdLevel::neon,
                                      0,
                                      64,
                                      1,
                                      prepare,
                                      scan_groups,
                                      scan_rows,
                                      distances,
                                      scan_parts,
                                      scan_three_parts,
                                      totals::count_at_most,
                                      totals::sum_at_most,
                                      totals::find_between,
                                      count_shared};
    return &table;
}

}  // namespace fasthash

#else

namespace fasthash {
const Kernels* neon_kernels() { return nullptr; }
}  // namespace fasthash

#endif
