// The ids of codes: given by the user or counted, always distinct, never -1 (which pads short results).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace fasthash {

constexpr std::int64_t kNoId = -1;

/// Ids that an index holds already.
struct HeldIds {
    std::size_t n = 0;
    std::function<std::int64_t(std::size_t)> id;
};

/// A copy of the ids `given` for `n` codes to be added. All held ids are below `next`.
/// Throws ArgumentError for -1, for a value that comes twice, and for one that is held.
std::vector<std::int64_t> given_ids(const std::int64_t* given, std::size_t n, std::uint64_t next, const HeldIds& held);

/// Throws ArgumentError if ids cannot be counted from `next` on for `n` codes.
void check_room_to_count(std::size_t n, std::uint64_t next);

/// Where counting goes on after `ids` joined: one past the largest so far, at least `next`.
std::uint64_t next_after(std::uint64_t next, const std::vector<std::int64_t>& ids);

/// The ids first .. first + n - 1.
std::vector<std::int64_t> counted_ids(std::size_t n, std::uint64_t first = 0);

}  // namespace fasthash
