// Sorted codes for tests: entry i of the codes has id i.
#pragma once

#include <cstring>

#include "codes/sorted_codes.h"
#include "testing.h"

namespace fasthash::testing {

/// `id_step`: code i has the id i * id_step.
inline SortedCodes sorted(const std::vector<std::uint8_t>& codes, std::size_t n_bytes, std::int64_t id_step = 1) {
    const CodeView rows = view(codes, n_bytes);
    std::vector<std::size_t> order(rows.n);
    for (std::size_t i = 0; i < rows.n; ++i) order[i] = i;
    const auto before = [&](std::size_t a, std::size_t b) {
        const int c = std::memcmp(rows.row(a), rows.row(b), n_bytes);
        return c < 0 || (c == 0 && a < b);
    };
    std::sort(order.begin(), order.end(), before);
    const auto id_of = [id_step](std::size_t i) { return static_cast<std::int64_t>(i) * id_step; };
    SortedCodesBuilder builder(n_bytes, rows.n, 0, id_of(rows.n - 1));
    for (const std::size_t i : order) check(builder.append(rows.row(i), id_of(i)), "in order");
    return builder.finish();
}

}  // namespace fasthash::testing
