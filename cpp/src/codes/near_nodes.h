// How many second-level nodes of a coarse tree are near a query, counted by their first byte.
//
// Built by LevelTree where these counts are small beside the nodes. Read by SafeCuts.
#pragma once

#include "codes/byte_major_codes.h"
#include "platform/array.h"

namespace fasthash {

class NearNodes {
 public:
    /// Distances on one byte: 0 .. kDistances - 1. Larger ones are not counted.
    static constexpr std::size_t kDistances = 8;

    NearNodes() = default;
    /// `nodes`: the second level without the bytes of the first one; `below[i]`: the nodes below first-level node i.
    NearNodes(const ByteMajorCodes& nodes, const RowRange* below, std::size_t n_first);

    static constexpr std::size_t bytes(std::size_t n_first) {
        return n_first * kValues * kDistances * sizeof(std::uint32_t);
    }
    bool empty() const { return counts_.empty(); }
    /// For each first-level node in turn: how many nodes below it have a first byte at each distance from `byte`.
    const std::uint32_t* at(std::uint8_t byte) const { return counts_.data() + byte * n_first_ * kDistances; }
    std::size_t nbytes() const { return counts_.nbytes(); }

 private:
    static constexpr std::size_t kValues = 256;

    std::size_t n_first_ = 0;
    Array<std::uint32_t> counts_;  // [byte][first-level node][distance]
};

}  // namespace fasthash
