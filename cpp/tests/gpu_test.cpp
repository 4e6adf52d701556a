// Tests of the GPU's kernels, run by the emulator: same results as the index on the CPU.
#include <numeric>

#include "gpu/flat_gallery.h"
#include "gpu/tree_gallery.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "gpu_test";

namespace {

Found on_cpu(const std::vector<std::uint8_t>& codes, const std::vector<std::int64_t>& ids,
             const std::vector<std::uint8_t>& queries, std::size_t n_bytes, std::size_t k) {
    FlatIndex index(n_bytes * 8);
    index.add(view(codes, n_bytes), ids.data());
    return search(index, view(queries, n_bytes), k);
}

Found on_emulator(const gpu::FlatGallery& gallery, const std::vector<std::uint8_t>& queries, std::size_t k,
                  const gpu::Allowed* allowed = nullptr) {
    const std::size_t n = queries.size() / gallery.n_bytes() * k;
    Found found{std::vector<std::int32_t>(n), std::vector<std::int64_t>(n)};
    gallery.search(view(queries, gallery.n_bytes()), static_cast<std::uint32_t>(k), allowed, found.distances.data(),
                   found.ids.data(), {});
    return found;
}

void search_is_the_cpu_s() {
    std::mt19937 generator(0);
    for (const std::size_t n_bytes : {1, 2, 3, 4, 5, 8, 12, 16, 32, 40, 128, 512}) {
        for (const std::size_t n : {0, 1, 3, 31, 32, 33, 1000}) {
            const auto codes = random_codes(n * n_bytes, generator, n % 2 == 0 ? 256 : 3);
            const auto queries = random_codes(5 * n_bytes, generator, 4);
            std::vector<std::int64_t> ids(n);
            std::iota(ids.begin(), ids.end(), -5000);
            for (std::size_t i = n / 2; i < n; ++i) ids[i] += 1000;
            const gpu::FlatGallery flat(view(codes, n_bytes), ids.data(), 0, nullptr);
            const gpu::TreeGallery tree(view(codes, n_bytes), LevelLayout({n_bytes * 8}), ids.data(), 0, nullptr);
            for (const std::size_t k : {std::size_t{1}, std::size_t{10}, std::size_t{1000}, n + 1}) {
                const Found expected = on_cpu(codes, ids, queries, n_bytes, k);
                const std::string where =
                    std::to_string(n_bytes) + " bytes, n = " + std::to_string(n) + ", k = " + std::to_string(k);
                check(on_emulator(flat, queries, k) == expected, "scan, " + where);
                check(on_emulator(tree, queries, k) == expected, "tree, " + where);
            }
        }
    }
}

/// Clustered codes, of which a tree reads few.
void trees_find_what_is_near() {
    std::mt19937 generator(3);
    const std::size_t n = 20000, n_bytes = 8;
    const auto centres = random_codes(20 * n_bytes, generator, 256);
    const auto around = [&](std::size_t n_codes) {
        std::vector<std::uint8_t> codes;
        for (std::size_t i = 0; i < n_codes; ++i) {
            const std::size_t centre = generator() % 20;
            for (std::size_t b = 0; b < n_bytes; ++b) {
                const auto flips = static_cast<unsigned>(generator() & generator() & generator());
                codes.push_back(static_cast<std::uint8_t>(centres[centre * n_bytes + b] ^ flips));
            }
        }
        return codes;
    };
    const auto codes = around(n), queries = around(30);
    std::vector<std::int64_t> ids(n);
    std::iota(ids.begin(), ids.end(), 0);
    const LevelLayout layout({8, 16, 40});
    const gpu::TreeGallery tree(view(codes, n_bytes), layout, nullptr, 0, nullptr);
    const gpu::TreeGallery deep(view(codes, n_bytes), layout, nullptr, 0, nullptr, gpu::FlatGallery::kAllRoom, 20);
    check(tree.prefix_bits() > 0 && deep.n_prefixes() > tree.n_prefixes(), "a deeper tree has more prefixes");
    for (const std::size_t k : {1, 10, 500, 12000}) {
        const Found expected = on_cpu(codes, ids, queries, n_bytes, k);
        check(on_emulator(tree, queries, k) == expected, "tree, k = " + std::to_string(k));
        check(on_emulator(deep, queries, k) == expected, "a deep tree, k = " + std::to_string(k));
    }
}

void pruning_keeps_what_it_keeps_on_the_cpu() {
    std::mt19937 generator(4);
    std::size_t n_asked = 0, n_done = 0;
    for (const auto& level_bits :
         std::vector<std::vector<std::size_t>>{{8, 8}, {8, 16, 40}, {16, 8, 8, 8}, {24, 104}}) {
        const LevelLayout layout(level_bits);
        const std::size_t n_bytes = layout.n_bytes();
        for (const std::size_t n : {1, 50, 3000}) {
            const auto codes = random_codes(n * n_bytes, generator, n == 50 ? 256 : 3);
            const auto queries = random_codes(9 * n_bytes, generator, 4);
            HierIndex index(layout);
            index.add(view(codes, n_bytes), nullptr);
            const gpu::TreeGallery tree(view(codes, n_bytes), layout, nullptr, 0, nullptr);
            for (const KeepMode mode : {KeepMode::node_ratio, KeepMode::gallery_ratio, KeepMode::radius}) {
                for (const double keep : {0.01, 0.29, 0.5, 1.0}) {
                    for (const std::size_t k : {1, 10, 700}) {
                        const Pruning pruning{keep, mode};
                        const Found expected = search(index, view(queries, n_bytes), k, nullptr, pruning);
                        Found found{std::vector<std::int32_t>(9 * k), std::vector<std::int64_t>(9 * k)};
                        bool failed[9];
                        tree.search_pruned(view(queries, n_bytes), static_cast<std::uint32_t>(k), pruning,
                                           found.distances.data(), found.ids.data(), failed, nullptr);
                        for (std::size_t q = 0; q < 9; ++q) {
                            ++n_asked;
                            if (failed[q]) continue;
                            ++n_done;
                            const auto at = static_cast<std::ptrdiff_t>(q * k),
                                       end = static_cast<std::ptrdiff_t>((q + 1) * k);
                            check(std::equal(found.ids.begin() + at, found.ids.begin() + end,
                                             expected.ids.begin() + at) &&
                                      std::equal(found.distances.begin() + at, found.distances.begin() + end,
                                                 expected.distances.begin() + at),
                                  "pruned, " + layout.str() + ", n = " + std::to_string(n) +
                                      ", keep = " + std::to_string(keep) + ", k = " + std::to_string(k));
                        }
                    }
                }
            }
        }
    }
    check(2 * n_done > n_asked, "most pruned searches have room, these had: " + std::to_string(n_done));
}

/// Many codes at one distance, so that candidates overflow; and only equal codes.
void bursts_are_survived() {
    std::mt19937 generator(1);
    const std::size_t n = 60000;
    for (const bool equal : {false, true}) {
        auto codes = random_codes(n * 8, generator, equal ? 1 : 256);
        for (std::size_t i = 20000; i < 50000 && !equal; ++i) {
            std::fill_n(codes.begin() + static_cast<std::ptrdiff_t>(i * 8), 8, static_cast<std::uint8_t>(i % 3 == 0));
        }
        const auto queries = random_codes(66 * 8, generator, 2);
        std::vector<std::int64_t> ids(n);
        std::iota(ids.begin(), ids.end(), 7);
        const gpu::FlatGallery flat(view(codes, 8), nullptr, 7, nullptr);
        const gpu::TreeGallery tree(view(codes, 8), LevelLayout({64}), nullptr, 7, nullptr);
        for (const std::size_t k : {1, 100, 3000}) {
            const Found expected = on_cpu(codes, ids, queries, 8, k);
            check(on_emulator(flat, queries, k) == expected, "a burst in a scan, k = " + std::to_string(k));
            check(on_emulator(tree, queries, k) == expected, "a burst in a tree, k = " + std::to_string(k));
        }
    }
}

/// More candidates than there is room for, the nearest of them in turn at many places: whichever candidates the
/// emulator's order of threads keeps, some of these searches keep the nearest, which the scan after an overflow must
/// find again.
void the_nearest_of_a_burst_is_found_again() {
    const std::size_t n = 30000, n_bytes = 8;
    const std::vector<std::uint8_t> query(n_bytes, 0);
    std::mt19937 generator(4);
    for (std::size_t nearest = 5000; nearest < n; nearest += 1700) {
        auto codes = random_codes(n * n_bytes, generator, 256);
        const auto fill = [&](std::size_t row, std::uint8_t byte) {
            std::fill_n(codes.begin() + static_cast<std::ptrdiff_t>(row * n_bytes), n_bytes, byte);
        };
        for (std::size_t row = 5000; row < n; ++row) fill(row, 1);
        fill(nearest, 0);
        std::vector<std::int64_t> ids(n);
        std::iota(ids.begin(), ids.end(), 0);
        const gpu::FlatGallery flat(view(codes, n_bytes), nullptr, 0, nullptr);
        const std::string where = "the nearest of a burst, row " + std::to_string(nearest);
        check(on_emulator(flat, query, 1) == on_cpu(codes, ids, query, n_bytes, 1), where);
    }
}

void finds_what_the_index_finds(const gpu::FlatGallery& gallery, const FlatIndex& index,
                                const std::vector<std::uint8_t>& queries, const IdFilter* filter) {
    const CodeView wanted = view(queries, gallery.n_bytes());
    gpu::Allowed there;
    if (filter != nullptr) there = gallery.allowed(*filter, nullptr);
    const gpu::Allowed* const allowed = filter == nullptr ? nullptr : &there;
    for (const std::size_t k : {1, 50, 2500}) {
        check(on_emulator(gallery, queries, k, allowed) == search(index, wanted, k, filter), "a filter");
    }
    for (const std::int32_t radius : {0, 3, 7, 32}) {
        const RangeResult range = index.range_search(wanted, radius, filter, nullptr);
        std::vector<std::int64_t> counts(wanted.n), offsets{0};
        gallery.count_within(wanted, radius, allowed, counts.data(), nullptr);
        for (const std::int64_t count : counts) offsets.push_back(offsets.back() + count);
        check(offsets == range.offsets, "counts within a radius");
        Found found{std::vector<std::int32_t>(range.ids.size()), std::vector<std::int64_t>(range.ids.size())};
        gallery.range_search(wanted, radius, allowed, offsets.data(), found.distances.data(), found.ids.data(),
                             nullptr);
        check(found == Found{range.distances, range.ids}, "all within a radius");
    }
}

void filters_and_radii_are_kept() {
    std::mt19937 generator(2);
    const std::size_t n = 4000;
    const auto codes = random_codes(n * 4, generator, 3), queries = random_codes(3 * 4, generator, 3);
    for (const bool counted : {true, false}) {
        std::vector<std::int64_t> ids(n);
        for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int64_t>(counted ? i + 7 : 3 * i);
        std::vector<std::int64_t> allowed{-5, 1, 1000000};  // and ids that the index does not hold
        for (const std::int64_t id : ids) {
            if (generator() % 5 == 0) allowed.push_back(id);
        }
        FlatIndex index(32);
        index.add(view(codes, 4), ids.data());
        const IdFilter some(allowed), none({-5});
        const gpu::FlatGallery flat(view(codes, 4), counted ? nullptr : ids.data(), 7, nullptr);
        const gpu::TreeGallery tree(view(codes, 4), LevelLayout({8, 24}), counted ? nullptr : ids.data(), 7, nullptr);
        for (const IdFilter* filter : {static_cast<const IdFilter*>(nullptr), &some, &none}) {
            finds_what_the_index_finds(flat, index, queries, filter);
            finds_what_the_index_finds(tree, index, queries, filter);
        }
    }
}

/// Codes in host memory, streamed in small blocks.
void streamed_codes_are_found() {
    std::mt19937 generator(5);
    const std::size_t n = 2000;
    for (const std::size_t n_bytes : {3, 8, 32}) {
        const auto codes = random_codes(n * n_bytes, generator, 3), queries = random_codes(9 * n_bytes, generator, 4);
        std::vector<std::int64_t> ids(n);
        std::iota(ids.begin(), ids.end(), 5);
        for (const std::size_t room : {100 * n_bytes, 1300 * n_bytes, n * n_bytes - 1}) {
            const LevelLayout layout({n_bytes * 8});
            const gpu::FlatGallery flat(view(codes, n_bytes), ids.data(), 0, nullptr, room);
            const gpu::TreeGallery tree(view(codes, n_bytes), layout, nullptr, 5, nullptr, room);
            check(flat.streamed() && flat.nbytes() == 0, "codes on the host");
            for (const std::size_t k : {1, 30, 1500}) {
                const Found expected = on_cpu(codes, ids, queries, n_bytes, k);
                check(on_emulator(flat, queries, k) == expected, "streamed, k = " + std::to_string(k));
                check(on_emulator(tree, queries, k) == expected, "a streamed tree, k = " + std::to_string(k));
            }
        }
    }
}

/// The widths of the tensor-core scan: codes of zeros, ones and random bits, in incomplete tiles.
void products_are_those_of_the_bits() {
    std::mt19937 generator(6);
    for (const std::size_t n_bytes : {4, 7, 8, 15, 16, 30, 32}) {
        for (const std::size_t n : {5, 333}) {
            auto codes = random_codes(n * n_bytes, generator, 256),
                 queries = random_codes(65 * n_bytes, generator, 256);
            const auto end_of_first = static_cast<std::ptrdiff_t>(n_bytes);
            std::fill(codes.begin(), codes.begin() + end_of_first, std::uint8_t{255});
            std::fill(codes.end() - end_of_first, codes.end(), std::uint8_t{0});
            std::fill(queries.begin(), queries.begin() + end_of_first, std::uint8_t{255});
            std::fill(queries.end() - end_of_first, queries.end(), std::uint8_t{0});
            std::vector<std::int64_t> ids(n);
            std::iota(ids.begin(), ids.end(), 0);
            FlatIndex index(n_bytes * 8);
            index.add(view(codes, n_bytes), ids.data());
            const gpu::FlatGallery flat(view(codes, n_bytes), nullptr, 0, nullptr);
            for (std::int32_t radius = 0; radius <= static_cast<std::int32_t>(n_bytes * 8); radius += n < 10 ? 1 : 17) {
                std::vector<std::int64_t> expected(65), counts(65);
                index.count_within(view(queries, n_bytes), radius, nullptr, expected.data());
                flat.count_within(view(queries, n_bytes), radius, nullptr, counts.data(), nullptr);
                check(counts == expected,
                      "products, " + std::to_string(n_bytes) + " bytes, radius " + std::to_string(radius));
            }
        }
    }
}

void interrupts_end_searches() {
    std::mt19937 generator(7);
    const auto codes = random_codes(100000 * 8, generator), queries = random_codes(64 * 8, generator);
    const gpu::FlatGallery flat(view(codes, 8), nullptr, 0, nullptr);
    std::vector<std::int32_t> distances(640);
    std::vector<std::int64_t> ids(640);
    bool ended = false;
    try {
        flat.search(view(queries, 8), 10, nullptr, distances.data(), ids.data(), nullptr, [](double) { return true; });
    } catch (const Interrupted&) {
        ended = true;
    }
    check(ended, "an interrupt ends a search");
}

}  // namespace

}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    for (const char* const unit : {"popcount", "tensor"}) {
        setenv("FASTHASH_GPU_SCAN", unit, 1);
        search_is_the_cpu_s();
        streamed_codes_are_found();
        filters_and_radii_are_kept();
    }
    products_are_those_of_the_bits();
    setenv("FASTHASH_GPU_SCAN", "popcount", 1);  // the products are the faster unit
    bursts_are_survived();
    the_nearest_of_a_burst_is_found_again();
    trees_find_what_is_near();
    pruning_keeps_what_it_keeps_on_the_cpu();
    interrupts_end_searches();
    std::printf("gpu_test: all passed\n");
}
