// How much lies below the first-level nodes near a query, held for all values of a first level of one byte.
//
// Built by LevelTree where these numbers are small beside the codes. Read by searches that find cuts.
#pragma once

#include <cstdint>

#include "codes/byte_major_codes.h"
#include "platform/array.h"

namespace fasthash {

/// Numbers of nodes and entries below nodes of the first level. A segment has fewer than 2^32 of each.
struct Weights {
    std::uint32_t n_nodes;  ///< these nodes themselves
    std::uint32_t n_entries;
    std::uint32_t n_below;  ///< nodes of the second level
    std::uint32_t unused;   ///< four numbers make a vector

    void add(const Weights& other) {
        n_nodes += other.n_nodes;
        n_entries += other.n_entries;
        n_below += other.n_below;
        unused += other.unused;
    }
};

class NearWeights {
 public:
    static constexpr std::size_t kValues = 256, kDistances = 9;

    NearWeights() = default;
    /// `nodes`: the first level, of one byte; `weights`: of each of them.
    NearWeights(const ByteMajorCodes& nodes, const Array<Weights>& weights);

    static constexpr std::size_t bytes() { return kValues * kDistances * sizeof(Weights); }
    bool empty() const { return sums_.empty(); }
    /// For each distance from `byte`, 0 to 8: the sum of the weights of the nodes up to it.
    const Weights* at(std::uint8_t byte) const { return sums_.data() + byte * kDistances; }
    std::size_t nbytes() const { return sums_.nbytes(); }

 private:
    Array<Weights> sums_;  // [byte][distance]
};

}  // namespace fasthash
