// The ids of codes: given by the user or counted, always distinct, never -1 (which pads short results).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

constexpr std::int64_t kNoId = -1;

/// The ids of `n` codes to be added: `given`, or counted from `next` where `given` is null.
/// Throws ArgumentError for -1, for a value that comes twice, and for one that is among the `held` ones.
std::vector<std::int64_t> ids_to_add(const std::int64_t* given, std::size_t n, std::uint64_t next,
                                     const std::vector<std::int64_t>& held);

/// Where counting goes on after `ids` joined: one past the largest so far, at least `next`.
std::uint64_t next_after(std::uint64_t next, const std::vector<std::int64_t>& ids);

/// The ids 0 .. n - 1.
std::vector<std::int64_t> counted_ids(std::size_t n);

}  // namespace fasthash
