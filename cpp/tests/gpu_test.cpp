// Tests of the GPU's kernels, run by the emulator: same results as the index on the CPU.
#include <numeric>

#include "gpu/emulator.h"
#include "gpu/gallery.h"
#include "segments/merge.h"
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

gpu::Gallery on_gpu(const Index& index, std::size_t room = gpu::Gallery::kAllRoom,
                    const gpu::Gallery* previous = nullptr, gpu::Share share = {}) {
    return {*index.state(), index.layout().n_bits(), index.metric(), nullptr, room, previous, share};
}

gpu::LevelTable levels_of(const Index& index) {
    std::vector<gpu::LevelNodes> levels;
    const std::shared_ptr<const State> state = index.state();
    const NewEntries nothing{{nullptr, 0, index.layout().n_bytes()}, nullptr, 0};
    Stopper stopper;
    for (const LevelNodeList& nodes : list_nodes(MergeCursor(state->segments, nothing, stopper), index.layout())) {
        const std::size_t width = index.layout().offset(levels.size() + 1), n = nodes.n_entries.size();
        levels.emplace_back(CodeView{nodes.prefixes.data(), n, width}, index.layout().offset(levels.size()),
                            nodes.n_entries.data(), nullptr);
    }
    return {std::move(levels), state->size(), nullptr};
}

std::unique_ptr<Index> flat_index(const std::vector<std::uint8_t>& codes, std::size_t n_bytes,
                                  const std::int64_t* ids = nullptr) {
    auto index = std::make_unique<FlatIndex>(n_bytes * 8);
    index->add(view(codes, n_bytes), ids);
    return index;
}

std::unique_ptr<Index> hier_index(const std::vector<std::uint8_t>& codes, const LevelLayout& layout,
                                  const std::int64_t* ids = nullptr, std::optional<Plan> plan = {},
                                  Memory memory = Memory::standard) {
    auto index = std::make_unique<HierIndex>(layout, memory, plan);
    index->add(view(codes, layout.n_bytes()), ids);
    return index;
}

Found on_emulator(const gpu::Gallery& gallery, const std::vector<std::uint8_t>& queries, std::size_t k,
                  const gpu::Allowed* allowed = nullptr, const gpu::PrunedSearch* pruned = nullptr) {
    const std::size_t n = queries.size() / gallery.n_bytes() * k;
    Found found{std::vector<std::int32_t>(n), std::vector<std::int64_t>(n)};
    gallery.search(view(queries, gallery.n_bytes()), static_cast<std::uint32_t>(k), allowed, pruned,
                   found.distances.data(), found.ids.data(), nullptr);
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
            const gpu::Gallery flat = on_gpu(*flat_index(codes, n_bytes, ids.data()));
            const gpu::Gallery tree = on_gpu(*hier_index(codes, LevelLayout({n_bytes * 8}), ids.data()));
            for (const std::size_t k : {std::size_t{1}, std::size_t{10}, std::size_t{1000}, n + 1}) {
                const Found expected = on_cpu(codes, ids, queries, n_bytes, k);
                const std::string where =
                    std::to_string(n_bytes) + " bytes, n = " + std::to_string(n) + ", k = " + std::to_string(k);
                check(on_emulator(flat, queries, k) == expected, "scan, " + where);
                check(on_emulator(tree, queries, k) == expected, "distinct codes, " + where);
            }
        }
    }
}

/// Codes around centres, and ids in another order.
std::vector<std::uint8_t> around_centres(std::size_t n_codes, std::size_t n_bytes, std::mt19937& generator) {
    std::mt19937 fixed(3);
    const auto centres = random_codes(20 * n_bytes, fixed, 256);
    std::vector<std::uint8_t> codes;
    for (std::size_t i = 0; i < n_codes; ++i) {
        const std::size_t centre = generator() % 20;
        for (std::size_t b = 0; b < n_bytes; ++b) {
            const auto flips = static_cast<unsigned>(generator() & generator() & generator());
            codes.push_back(static_cast<std::uint8_t>(centres[centre * n_bytes + b] ^ flips));
        }
    }
    return codes;
}

/// A width that is no multiple of 8: places without a neighbour get its distance, not that of whole bytes.
void widths_with_padding() {
    std::mt19937 generator(25);
    for (const LevelLayout& layout : {LevelLayout({1}), LevelLayout({42}), LevelLayout({8, 158})}) {
        const std::size_t n_bytes = layout.n_bytes(), n = 100;
        auto codes = random_codes(n * n_bytes, generator, 256);
        for (std::size_t i = 0; i < n; ++i) {
            codes[(i + 1) * n_bytes - 1] &= static_cast<std::uint8_t>(0xff << layout.padding_bits());
        }
        const std::vector<std::uint8_t> queries(codes.begin(),
                                                codes.begin() + static_cast<std::ptrdiff_t>(5 * n_bytes));
        for (const auto& index : indices_of_every_kind(layout)) {
            index->add(view(codes, n_bytes), nullptr);
            for (const std::size_t k : {std::size_t{3}, n + 2}) {
                check(on_emulator(on_gpu(*index), queries, k) == search(*index, view(queries, n_bytes), k), "padding");
            }
        }
    }
}

void finds_what_the_index_finds(const gpu::Gallery& gallery, const Index& index,
                                const std::vector<std::uint8_t>& queries, const IdFilter* filter) {
    const CodeView wanted = view(queries, gallery.n_bytes());
    gpu::Allowed there;
    if (filter != nullptr) {
        const auto bits = allowed_entries(*index.state(), *filter);
        std::vector<const std::uint32_t*> words;
        for (const auto& of_segment : bits) words.push_back(of_segment.data());
        there = gallery.allowed(words, nullptr);
    }
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

/// Segments of every plan, as they stand: rows, rows without their prefixes, byte-major codes, clusters.
void every_plan_is_copied_as_it_stands() {
    std::mt19937 generator(3);
    const LevelLayout layout({8, 16, 40});
    const auto codes = around_centres(20000, 8, generator), queries = around_centres(30, 8, generator);
    std::vector<std::int64_t> ids(20000);
    std::iota(ids.begin(), ids.end(), 7);
    std::shuffle(ids.begin(), ids.end(), generator);
    for (const Plan plan : {Plan::scan, Plan::prefix, Plan::multi_index, Plan::clusters}) {
        for (const Memory memory : {Memory::standard, Memory::compact}) {
            const auto index = hier_index(codes, layout, ids.data(), plan, memory);
            const gpu::Gallery gallery = on_gpu(*index);
            for (const std::size_t k : {1, 10, 500, 12000}) {
                check(on_emulator(gallery, queries, k) == search(*index, view(queries, 8), k),
                      "plan " + std::to_string(static_cast<int>(plan)) + ", k = " + std::to_string(k));
            }
        }
    }
}

/// Searches over clusters: every width, codes that meet in few clusters or in many, removed entries, duplicates, tails.
void clusters_find_what_is_near(const std::vector<std::size_t>& widths) {
    std::mt19937 generator(12);
    std::size_t n_clusters = 0;
    for (const std::size_t n_bytes : widths) {
        for (const bool uniform : {false, true}) {
            const std::size_t n = n_bytes > 16 ? 600 : 1500;
            const auto codes = uniform ? random_codes(n * n_bytes, generator, n_bytes < 4 ? 7 : 256)
                                       : around_centres(n, n_bytes, generator);
            auto queries = around_centres(70, n_bytes, generator);
            queries.resize((uniform ? 3 : 66) * n_bytes);
            std::vector<std::int64_t> ids(n);
            std::iota(ids.begin(), ids.end(), 7);
            std::shuffle(ids.begin(), ids.end(), generator);
            const auto index = hier_index(codes, LevelLayout({8, n_bytes * 8 - 8}), ids.data(), Plan::clusters);
            for (const bool changed : {false, true}) {
                if (changed) {
                    index->remove(ids.data(), 60);
                    index->add({queries.data(), 3, n_bytes}, nullptr);
                    index->add({codes.data(), 3, n_bytes}, nullptr);
                }
                const ArrangedCodes* const clusters = index->state()->segments[0].segment->clusters();
                n_clusters += clusters == nullptr ? 0 : clusters->centroids().n;
                const gpu::Gallery gallery = on_gpu(*index);
                const CodeView wanted = view(queries, n_bytes);
                const std::string where = std::to_string(n_bytes) + " bytes, uniform " + std::to_string(uniform);
                for (const std::size_t k : {1, 10, 100}) {
                    check(on_emulator(gallery, queries, k) == search(*index, wanted, k), "clusters, " + where);
                }
                if (!changed) continue;
                queries.resize(3 * n_bytes);
                finds_what_the_index_finds(gallery, *index, queries, nullptr);
                std::vector<std::int64_t> some;
                for (const std::int64_t id : ids) {
                    if (generator() % 2 == 0) some.push_back(id);
                }
                const IdFilter filter(some);
                finds_what_the_index_finds(gallery, *index, queries, &filter);
                const gpu::LevelTable levels = levels_of(*index);
                for (const double keep : {.1, .5}) {
                    const gpu::PrunedSearch pruned{levels, {keep}};
                    check(on_emulator(gallery, queries, 10, nullptr, &pruned) ==
                              search(*index, view(queries, n_bytes), 10, nullptr, Pruning{keep}),
                          "pruned in clusters, " + where);
                }
            }
        }
    }
    check(n_clusters > 100, "codes in clusters, there are " + std::to_string(n_clusters));
}

/// Ids too far apart for the keys that candidates are ordered by.
void ids_may_be_far_apart() {
    std::mt19937 generator(8);
    const auto codes = random_codes(3000 * 2, generator, 3), queries = random_codes(5 * 2, generator, 3);
    std::vector<std::int64_t> ids{INT64_MIN, INT64_MAX, 0, 5, -9};
    while (ids.size() < 3000) ids.push_back(static_cast<std::int64_t>(std::uint64_t{generator()} << 32 | generator()));
    const auto index = hier_index(codes, LevelLayout({8, 8}), ids.data());
    index->remove(ids.data() + 2, 1);
    index->add(view(queries, 2), std::vector<std::int64_t>{1, 2, 3, 4, 0}.data());
    const gpu::Gallery gallery = on_gpu(*index);
    for (const std::size_t k : {1, 100, 3100}) {
        check(on_emulator(gallery, queries, k) == search(*index, view(queries, 2), k), "ids far apart");
    }
}

/// The memory of ids too far apart: ranks in place of ids, shared while no entries come; ids again once they fit.
void ranks_take_the_place_of_ids() {
    std::mt19937 generator(15);
    const std::size_t n = 4000;
    const auto codes = random_codes(n * 8, generator, 256), queries = random_codes(5 * 8, generator, 256);
    std::vector<std::int64_t> ids(n);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), generator);
    const auto index = flat_index(codes, 8, ids.data());
    std::vector<gpu::Gallery> galleries;
    const auto expect = [&](std::size_t n_bytes, std::size_t n_fresh, const char* what) {
        const gpu::Gallery* const previous = galleries.empty() ? nullptr : &galleries.back();
        const gpu::Gallery::Needs needs = gpu::Gallery::needs(*index->state(), index->metric(), previous);
        check(needs.all == n_bytes && needs.fresh == n_fresh, std::string(what) + ", needs " +
                                                                  std::to_string(needs.all) + ", of them new " +
                                                                  std::to_string(needs.fresh));
        check(on_gpu(*index, needs.all - 1, previous).streamed(), what);
        galleries.push_back(on_gpu(*index, needs.all, previous));
        const std::size_t n_all = galleries.back().device_nbytes();  // with a bit for each entry once some are removed
        check(!galleries.back().streamed() && n_bytes <= n_all && n_all <= n_bytes + n / 8 + 4, what);
        for (const std::size_t k : {std::size_t{1}, std::size_t{40}, n + 30}) {
            check(on_emulator(galleries.back(), queries, k) == search(*index, view(queries, 8), k), what);
        }
    };
    const std::size_t near = n * (8 + index->state()->segments[0].segment->held().ids.width());
    expect(near, near, "ids that fit");
    const std::vector<std::int64_t> far{INT64_MAX, INT64_MIN, 9, 10, 11};
    index->remove(far.data() + 2, 3);
    index->add(view(queries, 8), far.data());
    const std::size_t far_apart = n * 20 + 8 * 8 + 5 * 12;  // with the removed entries; codes of the queries are padded
    expect(far_apart, far_apart, "ids far apart");
    const std::vector<std::int64_t> some{100, 101};
    index->remove(some.data(), 2);
    expect(far_apart, 0, "a removal");
    index->add({queries.data(), 2, 8}, some.data());
    expect(far_apart + 2 * 12, 8 * 8 + (n + 7) * 12, "an addition to the small segment");
    index->remove(far.data(), 2);
    index->compact();
    expect(near, near, "ids that fit again");
}

/// A change sends the segments that are new, and hides removed entries.
void changes_send_what_has_changed() {
    std::mt19937 generator(9);
    for (const bool flat : {true, false}) {
        const auto codes = random_codes(5000 * 4, generator, 4), queries = random_codes(7 * 4, generator, 4);
        const LevelLayout layout({8, 24});
        const auto index = flat ? flat_index(codes, 4) : hier_index(codes, layout);
        std::vector<gpu::Gallery> galleries;
        galleries.push_back(on_gpu(*index));
        const auto expect = [&](std::size_t n_reused, const char* what) {
            galleries.push_back(on_gpu(*index, gpu::Gallery::kAllRoom, &galleries.back()));
            check(galleries.back().n_reused() == n_reused, what);
            for (const std::size_t k : {1, 40, 6000}) {
                check(on_emulator(galleries.back(), queries, k) == search(*index, view(queries, 4), k), what);
            }
        };
        expect(1, "nothing changed");
        index->add(view(queries, 4), nullptr);
        expect(1, "an addition");
        const std::vector<std::int64_t> removed{3, 4999};
        index->remove(removed.data(), removed.size());
        expect(index->n_segments(), "a removal");
        const std::vector<std::int64_t> updated{0, 5000};
        index->update(updated.data(), {codes.data() + 40, 2, 4});
        expect(1, "an update");
        index->compact();
        expect(0, "one new segment");
    }
}

/// Several devices with a share of the codes each find together what one finds.
void shares_are_parts_of_the_whole() {
    std::mt19937 generator(10);
    const auto codes = random_codes(3000 * 3, generator, 3), queries = random_codes(5 * 3, generator, 3);
    const auto index = hier_index(codes, LevelLayout({8, 16}));
    index->remove(std::vector<std::int64_t>{1, 2}.data(), 2);
    const std::size_t k = 4000;
    std::vector<std::int64_t> found;
    for (std::size_t number = 0; number < 3; ++number) {
        const gpu::Gallery share = on_gpu(*index, gpu::Gallery::kAllRoom, nullptr, {number, 3});
        const Found here = on_emulator(share, {queries.begin(), queries.begin() + 3}, k);
        std::copy_if(here.ids.begin(), here.ids.end(), std::back_inserter(found), [](auto id) { return id >= 0; });
    }
    std::sort(found.begin(), found.end());
    Found expected = search(*index, {queries.data(), 1, 3}, index->size());
    std::sort(expected.ids.begin(), expected.ids.end());
    check(found == expected.ids, "each entry is in one share");
}

void pruning_keeps_what_it_keeps_on_the_cpu() {
    std::mt19937 generator(4);
    for (const auto& level_bits :
         std::vector<std::vector<std::size_t>>{{8, 8}, {8, 16, 40}, {16, 8, 8, 8}, {24, 104}, {64, 64}, {8, 8, 496}}) {
        const LevelLayout layout(level_bits);
        const std::size_t n_bytes = layout.n_bytes();
        for (const std::size_t n : {1, 50, 3000}) {
            const auto codes = random_codes(n * n_bytes, generator, n == 50 ? 256 : 3);
            const auto queries = random_codes(9 * n_bytes, generator, 4);
            const auto index = hier_index(codes, layout);
            index->remove(std::vector<std::int64_t>{0}.data(), n > 1 ? 1 : 0);
            index->add(view(queries, n_bytes), nullptr);
            const gpu::Gallery gallery = on_gpu(*index);
            const gpu::LevelTable levels = levels_of(*index);
            for (const KeepMode mode : {KeepMode::node_ratio, KeepMode::gallery_ratio, KeepMode::radius}) {
                for (const double keep : {0.01, 0.29, 0.5, 1.0}) {
                    for (const std::size_t k : {1, 10, 700}) {
                        const Pruning pruning{keep, mode};
                        const gpu::PrunedSearch pruned{levels, pruning};
                        check(on_emulator(gallery, queries, k, nullptr, &pruned) ==
                                  search(*index, view(queries, n_bytes), k, nullptr, pruning),
                              "pruned, " + layout.str() + ", n = " + std::to_string(n) +
                                  ", keep = " + std::to_string(keep) + ", k = " + std::to_string(k));
                    }
                }
            }
        }
    }
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
        const gpu::Gallery flat = on_gpu(*flat_index(codes, 8, ids.data()));
        const gpu::Gallery tree = on_gpu(*hier_index(codes, LevelLayout({64}), ids.data()));
        for (const std::size_t k : {1, 100, 3000}) {
            const Found expected = on_cpu(codes, ids, queries, 8, k);
            check(on_emulator(flat, queries, k) == expected, "a burst in a scan, k = " + std::to_string(k));
            check(on_emulator(tree, queries, k) == expected, "a burst of equal codes, k = " + std::to_string(k));
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
        const gpu::Gallery flat = on_gpu(*flat_index(codes, n_bytes));
        const std::string where = "the nearest of a burst, row " + std::to_string(nearest);
        check(on_emulator(flat, query, 1) == on_cpu(codes, ids, query, n_bytes, 1), where);
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
        const auto flat = flat_index(codes, 4, ids.data()), tree = hier_index(codes, LevelLayout({8, 24}), ids.data());
        for (Index* index : {flat.get(), tree.get()}) {
            index->remove(ids.data() + 100, 3);
            index->add(view(queries, 4), std::vector<std::int64_t>{-5, 2, ids[100]}.data());
        }
        const IdFilter some(allowed), none({-8});
        for (const IdFilter* filter : {static_cast<const IdFilter*>(nullptr), &some, &none}) {
            finds_what_the_index_finds(on_gpu(*flat), *flat, queries, filter);
            finds_what_the_index_finds(on_gpu(*tree), *tree, queries, filter);
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
        for (const std::size_t room : {100 * n_bytes, 400 * n_bytes}) {
            const gpu::Gallery flat = on_gpu(*flat_index(codes, n_bytes, ids.data()), room);
            const gpu::Gallery tree = on_gpu(*hier_index(codes, LevelLayout({n_bytes * 8}), ids.data()), room);
            check(flat.streamed() && flat.device_nbytes() == 0, "codes on the host");
            for (const std::size_t k : {1, 30, 1500}) {
                const Found expected = on_cpu(codes, ids, queries, n_bytes, k);
                check(on_emulator(flat, queries, k) == expected, "streamed, k = " + std::to_string(k));
                check(on_emulator(tree, queries, k) == expected, "streamed distinct codes, k = " + std::to_string(k));
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
            const auto index = flat_index(codes, n_bytes, ids.data());
            const gpu::Gallery flat = on_gpu(*index);
            for (std::int32_t radius = 0; radius <= static_cast<std::int32_t>(n_bytes * 8); radius += n < 10 ? 1 : 17) {
                std::vector<std::int64_t> expected(65), counts(65);
                index->count_within(view(queries, n_bytes), radius, nullptr, expected.data());
                flat.count_within(view(queries, n_bytes), radius, nullptr, counts.data(), nullptr);
                check(counts == expected,
                      "products, " + std::to_string(n_bytes) + " bytes, radius " + std::to_string(radius));
            }
        }
    }
}

/// Counts the kernels and waits of a search: on a card each costs microseconds.
void searches_start_few_kernels() {
    std::mt19937 generator(11);
    const auto work_of = [&](const gpu::Gallery& gallery, std::size_t n_queries, std::size_t n_bytes) {
        const auto queries = around_centres(n_queries, n_bytes, generator);
        const gpu::EmulatedWork before = gpu::emulated_work();
        on_emulator(gallery, queries, 10);
        const gpu::EmulatedWork& now = gpu::emulated_work();
        return std::make_pair(now.n_launches - before.n_launches, now.n_waits - before.n_waits);
    };
    using Work = std::pair<std::size_t, std::size_t>;
    const gpu::Gallery few = on_gpu(*flat_index(random_codes(4000 * 8, generator, 256), 8));
    check(work_of(few, 1, 8) == Work(4, 1), "prepare, first rows, tighten, write");
    const gpu::Gallery many = on_gpu(*flat_index(random_codes(20000 * 8, generator, 256), 8));
    check(work_of(many, 1, 8) == Work(6, 1), "a scan and tighten more");
    setenv("FASTHASH_GPU_PLAN", "clusters", 1);
    const auto codes = around_centres(5000, 8, generator);
    const gpu::Gallery clusters = on_gpu(*hier_index(codes, LevelLayout({64}), nullptr, Plan::clusters));
    check(work_of(clusters, 1, 8) == Work(13, 1), "two rounds of visits: count, place, list, compare, tighten");
    unsetenv("FASTHASH_GPU_PLAN");
}

void interrupts_end_searches() {
    std::mt19937 generator(7);
    // Long enough: an interrupt is asked for after 50 ms.
    const auto codes = random_codes(100000 * 8, generator), queries = random_codes(1000 * 8, generator);
    const gpu::Gallery flat = on_gpu(*flat_index(codes, 8));
    std::vector<std::int32_t> distances(10000);
    std::vector<std::int64_t> ids(10000);
    bool ended = false;
    try {
        flat.search(view(queries, 8), 10, nullptr, nullptr, distances.data(), ids.data(), nullptr,
                    [](double) { return true; });
    } catch (const Interrupted&) {
        ended = true;
    }
    check(ended, "an interrupt ends a search");
}

/// Calls use(make()) with memory that is full after 0, 1, 2, ... allocations of `use`, until it succeeds. The emulator
/// ends the process if memory is freed on the way out while operations that use it are still under way.
template <typename Make, typename Use>
void with_less_memory_than_needed(const Make& make, const Use& use, const char* what) {
    std::size_t n = 0;
    for (bool failed = true; failed; ++n) {
        const auto made = make();
        failed = false;
        gpu::emulate_full_memory_after(n);
        try {
            use(made);
        } catch (const gpu::OutOfMemory&) {
            failed = true;
        }
        gpu::emulate_full_memory_after(gpu::kNeverFull);
    }
    check(n > 4, what);
}

void builds_without_memory_wait_for_their_transfers() {
    std::mt19937 generator(13);
    const auto codes = around_centres(2000, 8, generator);
    std::vector<std::int64_t> ids(2000);
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), generator);
    const auto make = [&] {
        auto index = hier_index(codes, LevelLayout({8, 16, 40}), ids.data(), Plan::clusters);
        index->add({codes.data(), 20, 8}, nullptr);
        index->remove(ids.data(), 5);
        return index;
    };
    with_less_memory_than_needed(make, [](const auto& index) { on_gpu(*index); }, "allocations of a build");
    with_less_memory_than_needed(make, [](const auto& index) { levels_of(*index); }, "allocations of levels");
}

/// The gallery is freed on another stream than that of the search, which must have ended by then.
void searches_without_memory_wait_for_their_kernels() {
    std::mt19937 generator(14);
    const auto codes = random_codes(3000 * 4, generator, 3), queries = random_codes(7 * 4, generator, 3);
    const CodeView wanted = view(queries, 4);
    const auto index = hier_index(codes, LevelLayout({8, 24}));
    index->add({codes.data(), 20, 4}, nullptr);  // a second segment, for whose codes a search allocates blocks anew
    const auto make = [&] { return on_gpu(*index, 1000); };
    std::vector<std::int64_t> counts(wanted.n), offsets{0};
    make().count_within(wanted, 8, nullptr, counts.data(), nullptr);
    for (const std::int64_t count : counts) offsets.push_back(offsets.back() + count);
    std::vector<std::int32_t> distances(static_cast<std::size_t>(offsets.back()) + 70);
    std::vector<std::int64_t> ids(distances.size());
    const gpu::SideStream stream;
    with_less_memory_than_needed(
        make,
        [&](const gpu::Gallery& gallery) {
            gallery.search(wanted, 10, nullptr, nullptr, distances.data(), ids.data(), stream.get());
        },
        "allocations of a search");
    with_less_memory_than_needed(
        make,
        [&](const gpu::Gallery& gallery) { gallery.count_within(wanted, 8, nullptr, counts.data(), stream.get()); },
        "allocations of a count");
    with_less_memory_than_needed(
        make,
        [&](const gpu::Gallery& gallery) {
            gallery.range_search(wanted, 8, nullptr, offsets.data(), distances.data(), ids.data(), stream.get());
        },
        "allocations of a search by radius");
}

}  // namespace

}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    for (const char* const unit : {"popcount", "tensor"}) {
        setenv("FASTHASH_GPU_SCAN", unit, 1);
        widths_with_padding();
        search_is_the_cpu_s();
        streamed_codes_are_found();
        filters_and_radii_are_kept();
    }
    setenv("FASTHASH_GPU_PLAN", "clusters", 1);
    setenv("FASTHASH_GPU_SCAN", "popcount", 1);
    clusters_find_what_is_near({2, 3, 4, 8, 12, 16, 32, 40, 128});
    setenv("FASTHASH_GPU_SCAN", "tensor", 1);
    clusters_find_what_is_near({4, 8, 16, 32});
    setenv("FASTHASH_GPU_SCAN", "", 1);
    clusters_find_what_is_near({8});
    unsetenv("FASTHASH_GPU_PLAN");
    products_are_those_of_the_bits();
    setenv("FASTHASH_GPU_SCAN", "popcount", 1);  // the products are the faster unit
    bursts_are_survived();
    the_nearest_of_a_burst_is_found_again();
    every_plan_is_copied_as_it_stands();
    ids_may_be_far_apart();
    ranks_take_the_place_of_ids();
    changes_send_what_has_changed();
    shares_are_parts_of_the_whole();
    pruning_keeps_what_it_keeps_on_the_cpu();
    searches_start_few_kernels();
    interrupts_end_searches();
    builds_without_memory_wait_for_their_transfers();
    searches_without_memory_wait_for_their_kernels();
    std::printf("gpu_test: all passed\n");
}
