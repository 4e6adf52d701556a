// The cut of a level: the smallest score up to which nodes have the weight needed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>

namespace fasthash {

/// The smallest score whose weight, weigh(score), is at least `needed`; `largest` if there is none. Nodes of equal
/// score are kept or dropped together, so that their order does not matter. The search begins at a guess, because each
/// weighing reads all scores.
template <typename Weigh>
std::uint16_t smallest_score(std::size_t needed, std::size_t largest, std::size_t guess, Weigh weigh) {
    std::size_t low = 0, high = largest, step = 1, step_before = 0;
    std::size_t probe = guess;
    bool above = false, below = false;  // whether a probe had the weight, or had not
    while (low < high) {
        if (probe >= high) probe = high - 1;  // the largest score needs no weighing
        if (weigh(probe) >= needed) {
            high = probe;
            above = true;
        } else {
            low = probe + 1;
            below = true;
        }
        if (above && below) {
            probe = (low + high) / 2;
        } else {
            // 1, 1, 2, 3, 5, ...: most guesses are off by one or two.
            probe = above ? high - std::min(step, high) : low + step - 1;
            step_before = std::exchange(step, step + step_before);
        }
    }
    return static_cast<std::uint16_t>(low);
}

}  // namespace fasthash
