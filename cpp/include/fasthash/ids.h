// Ids of entries: given by the caller or automatic. Always distinct, never -1, which pads short results.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace fasthash {

constexpr std::int64_t kNoId = -1;

/// Check and copy ids given by the caller. Throws ArgumentError for -1 and for duplicates.
std::vector<std::int64_t> given_ids(const std::int64_t* ids, std::size_t n);

/// Throws ArgumentError if the automatic ids next .. next + n - 1 would exceed int64.
void check_room_to_count(std::size_t n, std::uint64_t next);

/// The next automatic id after these were added: one past the largest, at least `next`.
std::uint64_t next_after(std::uint64_t next, const std::int64_t* ids, std::size_t n);

}  // namespace fasthash
