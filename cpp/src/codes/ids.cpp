#include "fasthash/ids.h"

#include <algorithm>
#include <string>

#include "fasthash/error.h"

namespace fasthash {

// One past the largest possible id.
constexpr std::uint64_t kEndOfIds = std::uint64_t{1} << 63;

void check_room_to_count(std::size_t n, std::uint64_t next) {
    if (n > kEndOfIds - next) {
        throw ArgumentError("ids must be given: counting " + std::to_string(n) + " on from " + std::to_string(next) +
                            " leaves the range of int64");
    }
}

std::vector<std::int64_t> given_ids(const std::int64_t* given, std::size_t n) {
    std::vector<std::int64_t> ids(given, given + n);
    if (std::find(ids.begin(), ids.end(), kNoId) != ids.end()) {
        throw ArgumentError("ids must not hold -1, which marks the missing rows of a short result");
    }
    const auto not_above = [](std::int64_t a, std::int64_t b) { return a >= b; };
    if (std::adjacent_find(ids.begin(), ids.end(), not_above) == ids.end()) return ids;  // ascending, hence distinct
    std::vector<std::int64_t> sorted = ids;
    std::sort(sorted.begin(), sorted.end());
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) {
        throw ArgumentError("ids must be distinct, got " + std::to_string(*twice) + " twice");
    }
    return ids;
}

std::uint64_t next_after(std::uint64_t next, const std::int64_t* ids, std::size_t n) {
    for (std::size_t i = 0; i < n; ++i) {
        if (ids[i] >= 0) next = std::max(next, static_cast<std::uint64_t>(ids[i]) + 1);
    }
    return next;
}

}  // namespace fasthash
