// The ids of codes: given by the user or counted, always distinct, never -1 (which pads short results).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

constexpr std::int64_t kNoId = -1;

/// A copy of ids that a caller gave. Throws ArgumentError for -1 and for a value that comes twice.
std::vector<std::int64_t> given_ids(const std::int64_t* ids, std::size_t n);

/// Throws ArgumentError if ids cannot be counted from `next` on for `n` codes.
void check_room_to_count(std::size_t n, std::uint64_t next);

/// Where counting goes on after some ids joined: one past the largest so far, at least `next`.
std::uint64_t next_after(std::uint64_t next, const std::int64_t* ids, std::size_t n);

}  // namespace fasthash
