#include "codes/id_map.h"

#include "codes/sort_rows.h"

namespace fasthash {

// Sorts ids as 8-byte codes: big-endian, with the sign bit flipped.
Array<std::uint32_t> order_of_ids(const std::int64_t* ids, std::size_t n) {
    Array<std::uint64_t> keys(n);
    for (std::size_t i = 0; i < n; ++i) {
        keys[i] = __builtin_bswap64(static_cast<std::uint64_t>(ids[i]) ^ std::uint64_t{1} << 63);
    }
    Array<std::uint32_t> order;
    order.reserve(n);
    Stopper stopper;
    SortedRanges sorted({reinterpret_cast<const std::uint8_t*>(keys.data()), n, sizeof keys[0]}, nullptr, stopper);
    while (sorted.next()) order.append(sorted.rows().data(), sorted.n());
    return order;
}

IdMap::IdMap(const IdList& list) {
    const std::size_t n = list.n_entries();
    if (n == 0) return;
    smallest_ = list.smallest_id();
    const std::uint64_t range = static_cast<std::uint64_t>(list.largest_id()) - static_cast<std::uint64_t>(smallest_);
    entries_ = PackedNumbers(0, static_cast<std::int64_t>(n));
    if (range < 2 * n) {
        n_values_ = range + 1;
        entries_.resize(n_values_);
        if (n_values_ > n) {
            for (std::size_t value = 0; value < n_values_; ++value) entries_.set(value, static_cast<std::int64_t>(n));
        }
        for (std::size_t entry = 0; entry < n; ++entry) {
            entries_.set(static_cast<std::uint64_t>(list.id(entry)) - static_cast<std::uint64_t>(smallest_),
                         static_cast<std::int64_t>(entry));
        }
        return;
    }
    Array<std::int64_t> ids(n);
    for (std::size_t entry = 0; entry < n; ++entry) ids[entry] = list.id(entry);
    const Array<std::uint32_t> order = order_of_ids(ids.data(), n);
    entries_.resize(n);
    for (std::size_t i = 0; i < n; ++i) entries_.set(i, order[i]);
}

std::size_t IdMap::find(const IdList& list, std::int64_t id) const {
    if (n_values_ > 0) {
        const std::uint64_t value = static_cast<std::uint64_t>(id) - static_cast<std::uint64_t>(smallest_);
        if (value >= n_values_) return kNone;
        const auto entry = static_cast<std::size_t>(entries_[value]);
        return entry < list.n_entries() ? entry : kNone;
    }
    std::size_t low = 0, high = entries_.size();
    while (low < high) {
        const std::size_t middle = (low + high) / 2;
        const auto entry = static_cast<std::size_t>(entries_[middle]);
        const std::int64_t found = list.id(entry);
        if (found == id) return entry;
        (found < id ? low : high) = found < id ? middle + 1 : middle;
    }
    return kNone;
}

}  // namespace fasthash
