// Sorted codes for tests: entry i of the codes has id i.
#pragma once

#include <cstring>

#include "codes/sorted_codes.h"
#include "testing.h"

namespace fasthash::testing {

inline SortedCodes sorted(const std::vector<std::uint8_t>& codes, std::size_t n_bytes) {
    const CodeView rows = view(codes, n_bytes);
    std::vector<std::size_t> order(rows.n);
    for (std::size_t i = 0; i < rows.n; ++i) order[i] = i;
    const auto before = [&](std::size_t a, std::size_t b) {
        const int c = std::memcmp(rows.row(a), rows.row(b), n_bytes);
        return c < 0 || (c == 0 && a < b);
    };
    std::sort(order.begin(), order.end(), before);
    SortedCodesBuilder builder(n_bytes, rows.n, 0, static_cast<std::int64_t>(rows.n));
    for (const std::size_t i : order) check(builder.append(rows.row(i), static_cast<std::int64_t>(i)), "in order");
    return builder.finish();
}

}  // namespace fasthash::testing
