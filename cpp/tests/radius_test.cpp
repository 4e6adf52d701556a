// Searches within a radius by tables of row numbers agree with plain loops: all widths, radii up to the whole code,
// equal codes, codes around a few centres.
#include "search/radius_search.h"
#include "sorted.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "radius_test";

namespace {

using Pair = std::pair<std::int32_t, std::int64_t>;

SortedCodes byte_major(const std::vector<std::uint8_t>& codes, std::size_t n_bytes) {
    SortedCodes codes_in_order = sorted(codes, n_bytes);
    codes_in_order.hold_byte_major();
    return codes_in_order;
}

std::vector<Pair> by_tables(const SortedCodes& codes, const RadiusTables& tables, CodeView query, std::int32_t radius) {
    std::vector<TopK> nearest;
    nearest.emplace_back(Wanted{kAll, radius}, query.n_bytes * 8);
    Stopper stopper;
    search_radius(tables, codes, DistinctEntries(codes, {}), {query, nearest.data(), nullptr, true}, stopper);
    const std::size_t n = nearest[0].size();
    std::vector<std::int32_t> distances(n);
    std::vector<std::int64_t> ids(n);
    nearest[0].write(distances.data(), ids.data());
    std::vector<Pair> pairs(n);
    for (std::size_t i = 0; i < n; ++i) pairs[i] = {distances[i], ids[i]};
    return pairs;
}

void test_radii() {
    std::mt19937 generator(1);
    for (const std::size_t n_bytes : {1, 2, 3, 8, 13, 64}) {
        for (const std::size_t n : {1, 70, 3000}) {
            for (const unsigned n_values : {1, 2, 256}) {  // of a byte: equal codes, near ones, far ones
                const auto codes = random_codes(n * n_bytes, generator, n_values);
                const SortedCodes in_groups = byte_major(codes, n_bytes);
                const RadiusTables tables(in_groups);
                for (std::size_t i = 0; i < 4; ++i) {
                    auto query = random_codes(n_bytes, generator, i == 0 ? 256 : n_values);
                    query[generator() % n_bytes] ^= static_cast<std::uint8_t>(i);
                    std::vector<Pair> all;
                    for (std::size_t row = 0; row < n; ++row) {
                        all.emplace_back(hamming(query.data(), &codes[row * n_bytes], n_bytes),
                                         static_cast<std::int64_t>(row));
                    }
                    std::sort(all.begin(), all.end());
                    const auto n_bits = static_cast<std::int32_t>(n_bytes * 8);
                    for (const std::int32_t radius : {0, 1, 2, 3, 5, 8, std::min(n_bits, 16)}) {
                        std::vector<Pair> expected;
                        for (const Pair& pair : all) {
                            if (pair.first <= radius) expected.push_back(pair);
                        }
                        check(by_tables(in_groups, tables, view(query, n_bytes), std::min(radius, n_bits)) == expected,
                              "all codes within the radius, once");
                    }
                }
            }
        }
    }
}

void test_when_tables_are_built() {
    std::mt19937 generator(2);
    const auto codes = random_codes(100'000 * 8, generator, 256);
    const SortedCodes in_groups = byte_major(codes, 8);
    const RadiusPlan never(false), plan(true);
    for (int i = 0; i < 100; ++i) {
        check(!never.serves(in_groups, 1000, {kAll, 2}), "not wanted");
        check(!plan.serves(in_groups, 1000, {10}), "the k nearest are scanned");
        check(!plan.serves(in_groups, 1000, {kAll, 30}), "a large radius is scanned");
    }
    check(plan.nbytes() == 0 && !plan.serves(in_groups, 1, {kAll, 2}), "one query is scanned");
    for (int i = 0; i < 30; ++i) plan.serves(in_groups, 1000, {kAll, 2});  // the faster a scan is, the more
    check(plan.serves(in_groups, 1, {kAll, 2}) && plan.nbytes() > 0, "thousands are not");
    check(!plan.serves(in_groups, 1000, {kAll, 30}), "but a large radius is");
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_radii();
    test_when_tables_are_built();
    std::puts("radius_test: all passed");
}
