#include "codes/near_nodes.h"

#include <algorithm>
#include <vector>

namespace fasthash {

NearNodes::NearNodes(const ByteMajorCodes& nodes, const RowRange* below, std::size_t n_first)
    : n_first_(n_first), counts_(n_first * kValues * kDistances) {
    struct Counts {
        std::uint32_t at[kDistances];
    };
    std::vector<Counts> near(kValues), wider(kValues);
    std::vector<std::uint8_t> row(nodes.n_bytes());
    for (std::size_t first = 0; first < n_first; ++first) {
        std::fill(near.begin(), near.end(), Counts{});
        for (std::size_t node = below[first].begin; node < below[first].end; ++node) {
            nodes.copy_rows(node, 1, row.data());
            ++near[row[0]].at[0];
        }
        // Bit by bit: a byte differs from a value by t bits if it does so on the bits before, or by t - 1 bits there
        // and on this bit.
        for (std::size_t bit = 1; bit < kValues; bit *= 2) {
            for (std::size_t value = 0; value < kValues; ++value) {
                wider[value] = near[value];
                for (std::size_t t = 1; t < kDistances; ++t) wider[value].at[t] += near[value ^ bit].at[t - 1];
            }
            near.swap(wider);
        }
        for (std::size_t value = 0; value < kValues; ++value) {
            std::copy_n(near[value].at, kDistances, counts_.data() + (value * n_first + first) * kDistances);
        }
    }
}

}  // namespace fasthash
