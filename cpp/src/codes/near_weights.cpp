#include "codes/near_weights.h"

#include "codes/code_bits.h"

namespace fasthash {

NearWeights::NearWeights(const ByteMajorCodes& nodes, const Array<Weights>& weights) {
    sums_.assign(kValues * kDistances, Weights{});
    for (std::size_t node = 0; node < weights.size(); ++node) {
        std::uint8_t value;
        nodes.copy_rows(node, 1, &value);
        for (std::size_t byte = 0; byte < kValues; ++byte) {
            sums_[byte * kDistances + kByteCounts.of[byte ^ value]].add(weights[node]);
        }
    }
    for (std::size_t byte = 0; byte < kValues; ++byte) {
        Weights* sums = sums_.data() + byte * kDistances;
        for (std::size_t d = 1; d < kDistances; ++d) sums[d].add(sums[d - 1]);
    }
}

}  // namespace fasthash
