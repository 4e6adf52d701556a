#include "fasthash/ids.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "fasthash/error.h"

namespace fasthash {

// One past the largest id there can be.
constexpr std::uint64_t kEndOfIds = std::uint64_t{1} << 63;

void check_room_to_count(std::size_t n, std::uint64_t next) {
    if (n > kEndOfIds - next) {
        throw ArgumentError("ids must be given: counting " + std::to_string(n) + " on from " + std::to_string(next) +
                            " leaves the range of int64");
    }
}

std::vector<std::int64_t> given_ids(const std::int64_t* given, std::size_t n, std::uint64_t next, const HeldIds& held) {
    std::vector<std::int64_t> ids(given, given + n);
    std::vector<std::int64_t> sorted = ids;
    std::sort(sorted.begin(), sorted.end());
    if (std::binary_search(sorted.begin(), sorted.end(), kNoId)) {
        throw ArgumentError("ids must not hold -1, which marks the missing rows of a short result");
    }
    const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
    if (twice != sorted.end()) {
        throw ArgumentError("ids must be distinct, got " + std::to_string(*twice) + " twice");
    }
    // Looking up the old ids among the new ones needs no memory beside the index. Ids that grow need no look-up.
    if (n > 0 && (sorted.front() < 0 || static_cast<std::uint64_t>(sorted.front()) < next)) {
        for (std::size_t i = 0; i < held.n; ++i) {
            const std::int64_t id = held.id(i);
            if (std::binary_search(sorted.begin(), sorted.end(), id)) {
                throw ArgumentError("ids must be new to the index, but it holds " + std::to_string(id) + " already");
            }
        }
    }
    return ids;
}

std::uint64_t next_after(std::uint64_t next, const std::vector<std::int64_t>& ids) {
    for (const std::int64_t id : ids) {
        if (id >= 0) next = std::max(next, static_cast<std::uint64_t>(id) + 1);
    }
    return next;
}

std::vector<std::int64_t> counted_ids(std::size_t n, std::uint64_t first) {
    std::vector<std::int64_t> ids(n);
    std::iota(ids.begin(), ids.end(), static_cast<std::int64_t>(first));
    return ids;
}

}  // namespace fasthash
