#pragma once

#include <cstddef>

namespace fasthash {

/// The numbers begin .. end - 1.
struct NumberRange {
    std::size_t begin;
    std::size_t end;
    std::size_t size() const { return end - begin; }
};

/// The i-th of n nearly equal chunks of 0 .. total.
inline NumberRange chunk_of(std::size_t total, std::size_t n, std::size_t i) {
    return {total * i / n, total * (i + 1) / n};
}

}  // namespace fasthash
