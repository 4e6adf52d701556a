// Clusters: every code stands with its nearest centroid, at its distance; centroids depend on the codes alone; searches
// over them agree with a scan, whatever the codes are.
#include <set>

#include "codes/arranged_codes.h"
#include "codes/k_majority.h"
#include "sorted.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "clusters_test";

namespace {

std::int32_t distance(const std::uint8_t* a, const std::uint8_t* b, std::size_t n_bytes) {
    std::int32_t d = 0;
    for (std::size_t i = 0; i < n_bytes; ++i) {
        for (unsigned x = a[i] ^ b[i]; x != 0; x &= x - 1) ++d;
    }
    return d;
}

// Codes around a few centres, with `n_flips` random bits flipped.
std::vector<std::uint8_t> around_centres(std::size_t n, std::size_t n_bytes, std::size_t n_centres, std::size_t n_flips,
                                         std::mt19937& generator) {
    const auto centres = random_codes(n_centres * n_bytes, generator, 256);
    std::vector<std::uint8_t> codes(n * n_bytes);
    for (std::size_t i = 0; i < n; ++i) {
        std::uint8_t* code = codes.data() + i * n_bytes;
        std::memcpy(code, centres.data() + generator() % n_centres * n_bytes, n_bytes);
        for (std::size_t flip = 0; flip < n_flips; ++flip) {
            const std::size_t bit = generator() % (n_bytes * 8);
            code[bit / 8] = static_cast<std::uint8_t>(code[bit / 8] ^ 1u << bit % 8);
        }
    }
    return codes;
}

using Entry = std::pair<std::vector<std::uint8_t>, std::int64_t>;

std::multiset<Entry> entries_of(const ArrangedCodes& arranged) {
    std::multiset<Entry> all;
    std::vector<std::uint8_t> code(arranged.n_bytes());
    for (std::size_t row = 0; row < arranged.n_rows(); ++row) {
        arranged.copy_rows(row, 1, code.data());
        const NumberRange entries = arranged.entries(row);
        for (std::size_t entry = entries.begin; entry < entries.end; ++entry) all.emplace(code, arranged.id(entry));
    }
    return all;
}

std::multiset<Entry> entries_of(const std::vector<std::uint8_t>& codes, std::size_t n_bytes) {
    std::multiset<Entry> all;
    const CodeView rows = view(codes, n_bytes);
    for (std::size_t i = 0; i < rows.n; ++i) {
        all.emplace(std::vector<std::uint8_t>(rows.row(i), rows.row(i) + n_bytes), static_cast<std::int64_t>(i));
    }
    return all;
}

void check_clusters(const std::vector<std::uint8_t>& codes, std::size_t n_bytes, std::size_t n_clusters) {
    Stopper stopper;
    Array<std::uint8_t> centroids = k_majority(view(codes, n_bytes), n_clusters, stopper);
    const Array<std::uint8_t> again = k_majority(view(codes, n_bytes), n_clusters, stopper);
    check(centroids.size() == again.size() && std::equal(again.begin(), again.end(), centroids.begin()),
          "always alike");
    check(centroids.size() > 0 && centroids.size() <= n_clusters * n_bytes, "at most as many centroids as wanted");
    const ArrangedCodes arranged(sorted(codes, n_bytes), std::move(centroids), stopper);
    check(entries_of(arranged) == entries_of(codes, n_bytes), "all entries are there");
    std::size_t row = 0;
    std::vector<std::uint8_t> code(n_bytes);
    const auto n_bits = static_cast<std::int32_t>(n_bytes * 8);
    for (std::size_t c = 0; c < arranged.centroids().n; ++c) {
        for (std::int32_t radius = 0; radius <= n_bits; ++radius) {
            const NumberRange ring = arranged.rows(c, {radius, radius});
            check(ring.begin == row, "rings follow one another");
            const Annulus radii = arranged.radii(c);
            check(ring.size() == 0 || (radius >= radii.first && radius <= radii.last), "radii cover the rings");
            for (; row < ring.end; ++row) {
                arranged.copy_rows(row, 1, code.data());
                for (std::size_t other = 0; other < arranged.centroids().n; ++other) {
                    const std::int32_t d = distance(code.data(), arranged.centroids().row(other), n_bytes);
                    check(other == c ? d == radius : d >= radius, "a code is in the cluster of its nearest centroid");
                }
            }
        }
    }
    check(row == arranged.n_rows(), "rings hold all rows");
}

// Returns whether the codes could be arranged so.
bool check_by_id(const std::vector<std::uint8_t>& codes, std::size_t n_bytes, std::int64_t id_step) {
    Stopper stopper;
    SortedCodes in_order = sorted(codes, n_bytes, id_step);
    if (!ArrangedCodes::suits_order_of_ids(in_order)) return false;
    const ArrangedCodes arranged(std::move(in_order), stopper);
    const CodeView rows = view(codes, n_bytes);
    check(arranged.n_rows() == rows.n && arranged.ids_ascend(), "a row for each entry");
    check(arranged.packed_ids().size() == (id_step == 1 || rows.n == 1 ? 0 : rows.n), "ids that must be stored");
    std::vector<std::uint8_t> code(n_bytes);
    for (std::size_t entry = 0; entry < rows.n; ++entry) {
        check(arranged.id(entry) == static_cast<std::int64_t>(entry) * id_step, "in the order of their ids");
        arranged.copy_rows(entry, 1, code.data());
        check(std::equal(code.begin(), code.end(), rows.row(entry)), "each with its id");
    }
    return true;
}

void test_arrangements() {
    std::mt19937 generator(1);
    std::size_t n_by_id = 0;
    for (const std::size_t n_bytes : {1, 2, 8, 33}) {
        for (const std::size_t n : {1, 2, 100, 5000}) {
            for (const std::size_t n_flips : {0, 2, 40}) {
                const auto codes = around_centres(n, n_bytes, 7, n_flips, generator);
                for (const std::int64_t id_step : {1, 7}) n_by_id += check_by_id(codes, n_bytes, id_step);
                for (const std::size_t n_clusters : {1, 5, 64}) check_clusters(codes, n_bytes, n_clusters);
            }
        }
    }
    check(n_by_id > 20, "few codes are duplicates in many galleries");
}

// A code at one distance from all centroids, and all codes on one sphere around a centroid: no bound helps.
void test_spheres() {
    std::mt19937 generator(2);
    const std::size_t n_bytes = 8;
    const LevelLayout layout({64});
    std::vector<std::uint8_t> codes(3000 * n_bytes);
    for (std::size_t i = 0; i < 3000; ++i) {
        std::vector<std::size_t> bits(64);
        for (std::size_t bit = 0; bit < 64; ++bit) bits[bit] = bit;
        std::shuffle(bits.begin(), bits.end(), generator);
        for (std::size_t flip = 0; flip < 9; ++flip) {
            std::uint8_t& byte = codes[i * n_bytes + bits[flip] / 8];
            byte = static_cast<std::uint8_t>(byte ^ 1u << bits[flip] % 8);
        }
    }
    HierIndex clusters(layout, Memory::standard, Plan::clusters);
    FlatIndex flat(64);
    for (Index* index : std::initializer_list<Index*>{&clusters, &flat}) {
        index->add(view(codes, n_bytes), nullptr, {});
    }
    const auto queries = around_centres(40, n_bytes, 40, 0, generator);
    std::vector<std::uint8_t> asked(queries);
    asked.insert(asked.end(), codes.begin(), codes.begin() + 20 * 8);
    asked.insert(asked.end(), 8, 0);
    for (const std::size_t k : {1, 10, 500, 4000}) {
        check(search(clusters, view(asked, n_bytes), k) == search(flat, view(asked, n_bytes), k), "on a sphere");
    }
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_arrangements();
    test_spheres();
    std::puts("clusters_test: all passed");
}
