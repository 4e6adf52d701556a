// The distances of a query to a sample of codes, which lower its threshold before the search.
//
// Used by scans: of the pairs pushed until a threshold falls by itself, nearly all fall out again.
#pragma once

#include <algorithm>

#include "kernels/kernels.h"
#include "platform/array.h"

namespace fasthash {

/// Write the distances of a query to all codes of n groups. `prepared`: by Kernels::prepare.
inline void sample_distances(const std::uint8_t* prepared, const std::uint8_t* groups, std::size_t n,
                             std::size_t n_bytes, std::uint16_t* distances) {
    struct Collector final : GroupSink {
        explicit Collector(std::uint16_t* to) : distances(to) {}
        void take(std::size_t, std::size_t group, std::uint64_t, const std::uint16_t* of_group) override {
            std::copy(of_group, of_group + kGroup, distances + group * kGroup);
        }
        std::uint16_t* distances;
    };
    Collector collector(distances);
    constexpr std::uint32_t kFirst = 0;
    const auto beyond_all = static_cast<std::uint16_t>(n_bytes * 8 + 1);
    kernels().scan_groups({prepared, &kFirst, 1, &beyond_all, groups, n, n_bytes, &collector});
}

/// The k-th smallest of some distances, whole groups of them; `most` if it is larger.
inline std::int32_t kth_smallest(const Array<std::uint16_t>& distances, std::size_t k, std::int32_t most) {
    const auto count_at_most = [&](std::int32_t largest) {
        std::size_t count = 0;
        for (std::size_t first = 0; first < distances.size(); first += kGroup) {
            std::uint16_t in_group = 0;  // compilers turn this loop into vectors
            for (std::size_t i = first; i < first + kGroup; ++i) {
                in_group = static_cast<std::uint16_t>(in_group + (distances[i] <= static_cast<std::uint16_t>(largest)));
            }
            count += in_group;
        }
        return count;
    };
    std::int32_t low = 0, high = most;
    while (low < high) {
        const std::int32_t middle = (low + high) / 2;
        if (count_at_most(middle) >= k) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

}  // namespace fasthash
