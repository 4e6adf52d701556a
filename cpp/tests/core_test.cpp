// Tests of the core from C++: build, change, search, save, load, errors. The Python tests cover more.
#include "io/xxh64.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "core_test";

namespace {

constexpr std::size_t kWidth = 8;
const LevelLayout kLayout({8, 16, 40});

std::mt19937 generator(1);

std::vector<std::uint8_t> codes_of(std::size_t n) { return random_codes(n * kWidth, generator); }

std::vector<std::int64_t> numbers(std::int64_t first, std::size_t n, std::int64_t step = 1) {
    std::vector<std::int64_t> all(n);
    for (std::size_t i = 0; i < n; ++i) all[i] = first + static_cast<std::int64_t>(i) * step;
    return all;
}

void test_checksum() {
    check(xxh64("", 0) == 0xEF46DB3751D8E999u, "xxh64 of nothing");
    check(xxh64("abc", 3) == 0x44BC2CF5AD770999u, "xxh64 of abc");
    const auto bytes = codes_of(125);
    Xxh64 pieces;
    for (std::size_t i = 0; i < 1000; i += 37) pieces.update(bytes.data() + i, std::min<std::size_t>(37, 1000 - i));
    check(pieces.digest() == xxh64(bytes.data(), 1000), "xxh64 in pieces");
}

void test_indices_agree() {
    const auto codes = codes_of(3000), queries = codes_of(20);
    FlatIndex flat(64);
    HierIndex hier(kLayout);
    flat.add(view(codes, kWidth), nullptr);
    hier.add({codes.data(), 1000, kWidth}, nullptr);
    hier.add({codes.data() + 1000 * kWidth, 2000, kWidth}, nullptr);
    const CodeView asked = view(queries, kWidth);
    for (const std::size_t k : {1, 10, 3000, 3005})
        check(search(flat, asked, k) == search(hier, asked, k), "tree is scan");
    check(search(hier, asked, 10, nullptr, Pruning{1.0}) == search(hier, asked, 10), "keep = 1 is exact");
    check(search(hier, asked, 10, nullptr, Pruning{0.01}) != search(hier, asked, 10), "keep = 0.01 prunes");
    const IdFilter few({5, 100, 2999});
    check(search(hier, asked, 5, &few, Pruning{1.0}) == search(flat, asked, 5, &few),
          "keep = 1 with a filter is exact");
}

// Given cuts that are larger than all distances keep everything, also where fewer than k codes are below the last
// nodes.
void test_cuts_beyond_all_distances() {
    for (const LevelLayout& layout : {LevelLayout({8, 16, 232}), LevelLayout({8, 16, 40}), LevelLayout({256, 8})}) {
        const std::size_t n_bytes = layout.n_bytes();
        auto codes = random_codes(8 * n_bytes, generator);
        for (std::size_t i = 1; i < 8; ++i) std::copy_n(codes.begin(), 3, codes.begin() + i * n_bytes);
        FlatIndex flat(n_bytes * 8);
        HierIndex hier(layout);
        flat.add(view(codes, n_bytes), nullptr);
        hier.add(view(codes, n_bytes), nullptr);
        for (const std::uint16_t cut : {255, 256, 65535}) {
            const std::vector<std::uint16_t> cuts(8 * (layout.n_levels() - 1), cut);
            const Pruning pruning{1.0, KeepMode::node_ratio, cuts.data()};
            check(search(hier, view(codes, n_bytes), 9, nullptr, pruning) == search(flat, view(codes, n_bytes), 9),
                  layout.str() + ": cut " + std::to_string(cut));
        }
    }
}

// Applies the same changes to every kind of index, and compares each step with plain loops.
void test_changes() {
    auto indices = indices_of_every_kind(kLayout);
    PlainIndex plain(kWidth);
    const auto queries = codes_of(3);
    const CodeView asked = view(queries, kWidth);
    const auto step = [&](const char* what, auto change) {
        for (const auto& index : indices) change(*index);
        const Expected expected(plain, asked);
        for (std::size_t i = 0; i < indices.size(); ++i) {
            expected.check_all(*indices[i], std::string(what) + ", index " + std::to_string(i));
        }
    };
    const auto add = [&](std::size_t n, const std::vector<std::int64_t>& ids, const char* what) {
        const auto codes = codes_of(n);
        const std::int64_t* given = ids.empty() ? nullptr : ids.data();
        plain.add(view(codes, kWidth), given);
        step(what, [&](Index& index) { index.add(view(codes, kWidth), given); });
    };
    const auto remove = [&](const std::vector<std::int64_t>& ids, const char* what) {
        plain.remove(ids);
        step(what, [&](Index& index) { index.remove(ids.data(), ids.size()); });
    };
    const auto update = [&](const std::vector<std::int64_t>& ids, const char* what) {
        const auto codes = codes_of(ids.size());
        plain.update(ids, view(codes, kWidth));
        step(what, [&](Index& index) { index.update(ids.data(), view(codes, kWidth)); });
    };
    step("nothing", [](Index&) {});
    step("compact nothing", [](Index& index) { index.compact(); });
    add(2000, {}, "add");
    check(indices[1]->n_segments() == 1, "one segment");
    add(20, {}, "add a few");
    add(30, {5000, -3,   4000, -1000, INT64_MIN, 9007, 9006, 9005, 9004, 9003, 9002, 9001, 9000, 8999, 8998,
             8997, 8996, 8995, 8994,  8993,      8992, 8991, 8990, 8989, 8988, 8987, 8986, 8985, 8984, 8983},
        "add ids");
    check(indices[1]->n_segments() == 2, "what is added goes beside the first segment");
    remove({3, 1999, 2005, -3}, "remove");
    check(indices[1]->n_removed() > 0, "what is removed is marked");
    update({0, 7, 2001, 5000}, "update");
    add(4, {3, 1999, -3, 20000}, "add what was removed");
    remove({20000}, "remove the largest id");
    add(1, {}, "ids are not given twice");
    check(plain.contains(20001), "one past the largest id so far");
    remove(numbers(100, 500), "remove many");
    step("compact", [](Index& index) { index.compact(); });
    for (const auto& index : indices) check(index->n_segments() == 1 && index->n_removed() == 0, "compact");
    update(numbers(0, 90), "update many");
    remove(plain.ids(), "remove all");
    for (const auto& index : indices) check(index->n_segments() == 0 && index->nbytes() == 0, "nothing is left");
    add(200, {}, "add after all is removed");
}

void test_merge_and_copy() {
    const auto codes = codes_of(300), more = codes_of(40), queries = codes_of(3);
    const CodeView asked = view(queries, kWidth);
    for (const auto& index : indices_of_every_kind(kLayout)) {
        PlainIndex plain(kWidth), plain_copy(kWidth);
        index->add(view(codes, kWidth), nullptr);
        plain.add(view(codes, kWidth));
        const auto copy = index->copy();
        check(copy->kind() == index->kind(), "kind of a copy");
        plain_copy = plain;
        const auto ids = numbers(1000, 40, 3), gone = numbers(0, 10);
        HierIndex other(index->layout());
        other.add(view(more, kWidth), ids.data());
        index->merge(other);
        plain.add(view(more, kWidth), ids.data());
        copy->remove(gone.data(), gone.size());
        plain_copy.remove(gone);
        Expected(plain, asked).check_all(*index, "merged");
        Expected(plain_copy, asked).check_all(*copy, "changed copy");
        check(other.size() == 40, "the other index stays as it is");
        check_throws<ArgumentError>([&] { index->merge(other); }, "holds 1000 already");
        check_throws<ArgumentError>([&] { index->merge(*index); }, "already");
        check_throws<ArgumentError>([&] { index->merge(HierIndex(LevelLayout({8, 8}))); }, "(8, 8)");
        Expected(plain, asked).check_all(*index, "a refused merge");
    }
}

void test_filters() {
    const IdFilter filter({7, 3, 7, -5, 1000000});
    check(filter.size() == 4 && filter.ids() == std::vector<std::int64_t>{-5, 3, 7, 1000000}, "ids of a filter");
    check(filter.contains(-5) && filter.contains(1000000), "ids far apart");
    check(!filter.contains(4) && !filter.contains(INT64_MIN) && !filter.contains(INT64_MAX), "no others");
    const std::uint8_t mask[] = {0, 1, 0, 0, 255, 1};
    const auto of_mask = IdFilter::from_mask(mask, 6);
    check(of_mask->ids() == std::vector<std::int64_t>{1, 4, 5}, "ids of a mask");
    for (std::int64_t id = -70; id < 140; ++id) check(of_mask->contains(id) == (id == 1 || id == 4 || id == 5), "mask");
    const IdFilter extremes({INT64_MIN, INT64_MAX});
    check(extremes.contains(INT64_MIN) && extremes.contains(INT64_MAX) && !extremes.contains(0), "the extreme ids");

    // One filter on several indices, which change.
    const auto queries = codes_of(2);
    IdFilter kept(numbers(0, 60, 2));
    kept.set_reusable();
    const std::size_t nbytes = kept.nbytes();
    PlainIndex plain(kWidth);
    auto indices = indices_of_every_kind(kLayout);
    for (int round = 0; round < 4; ++round) {
        const auto codes = codes_of(300);
        plain.add(view(codes, kWidth));
        for (const auto& index : indices) index->add(view(codes, kWidth), nullptr);
        const Found expected = first_of(plain.ranking(queries.data(), &kept), 70, kWidth);
        for (const auto& index : indices) {
            for (int again = 0; again < 2; ++again) {
                check(search(*index, {queries.data(), 1, kWidth}, 70, &kept) == expected,
                      "a filter that is used again");
            }
        }
        check(kept.nbytes() > nbytes, "what is prepared takes memory");
    }
}

void test_files() {
    const std::string path = "core_test.fh";
    const auto codes = codes_of(700), queries = codes_of(3);
    const CodeView asked = view(queries, kWidth);
    const auto gone = numbers(50, 30);
    for (const auto& index : indices_of_every_kind(kLayout)) {
        PlainIndex plain(kWidth);
        index->save(path);
        check(load_index(path)->size() == 0 && load_index(path, true)->size() == 0, "an empty index");
        for (const std::size_t first : {0, 600}) {  // the first of them ids that are counted
            const std::size_t n = first == 0 ? 600 : 100;
            const auto ids = numbers(10000, n, -7);
            const std::int64_t* given = first == 0 ? nullptr : ids.data();
            index->add({codes.data() + first * kWidth, n, kWidth}, given);
            plain.add({codes.data() + first * kWidth, n, kWidth}, given);
        }
        index->remove(gone.data(), gone.size());
        plain.remove(gone);
        const Expected expected(plain, asked);
        expected.check_all(*index, "saved");
        index->save(path);
        const std::vector<std::uint8_t> bytes = index->to_bytes();
        for (const bool mapped : {false, true}) {
            const auto loaded = load_index(path, mapped);
            check(loaded->kind() == index->kind() && loaded->to_bytes() == bytes, "loaded index");
            check((loaded->mapped_bytes() == bytes.size()) == mapped, "bytes mapped");
            expected.check_all(*loaded, mapped ? "mapped" : "loaded");
            // It may be changed; the file is not.
            const auto copy = loaded->copy();
            PlainIndex changed = plain;
            copy->add({codes.data(), 30, kWidth}, gone.data());
            changed.add({codes.data(), 30, kWidth}, gone.data());
            copy->remove(gone.data(), 1);
            changed.remove({gone[0]});
            const Expected of_changed(changed, asked);
            of_changed.check_all(*copy, "changed after loading");
            copy->compact();
            of_changed.check_all(*copy, "compacted after loading");
            expected.check_content(*load_index(path), "the file afterwards");
        }
        const auto from_bytes = index_from_bytes(bytes.data(), bytes.size());
        expected.check_all(*from_bytes, "from bytes");
        check(from_bytes->to_bytes() == bytes, "bytes of what was read from bytes");
        index->compact();
        check(index->to_bytes() == bytes, "compacting changes no byte of the file");
        index->build_id_map();
        const std::vector<std::uint8_t> with_map = index->to_bytes({}, true);
        expected.check_all(*index_from_bytes(with_map.data(), with_map.size()), "with an id map");
        check(index_from_bytes(with_map.data(), with_map.size())->to_bytes() == bytes, "the map alone is more");
        const FileInfo info = peek_file(path);
        check(info.kind == index->kind() && info.n_codes == 670 && info.file_bytes == bytes.size(), "peek");
        const FileReport report = verify_file(path);
        check(report.fault.empty() && report.sections.size() == (info.n_clusters > 0 ? 6u : 4u), "verify");
        for (const FileSection& section : report.sections) check(section.intact, "section " + section.name);
    }
    std::remove(path.c_str());
}

// Widths that are no multiple of 8: padding counts nowhere and must be zero, in codes, in queries and in files.
void test_any_width() {
    std::mt19937 generator(25);
    const std::string path = "core_test_width.fh";
    for (const LevelLayout& layout : {LevelLayout({1}), LevelLayout({7}), LevelLayout({8, 16, 18}), LevelLayout({100}),
                                      LevelLayout({8, 158}), LevelLayout({881})}) {
        const std::size_t n_bytes = layout.n_bytes(), n = 700;
        const auto mask = static_cast<std::uint8_t>(0xff << layout.padding_bits());
        std::vector<std::uint8_t> codes = random_codes(n * n_bytes, generator, 256);
        for (std::size_t i = 0; i < n; ++i) codes[(i + 1) * n_bytes - 1] &= mask;
        PlainIndex plain(n_bytes);
        plain.add(view(codes, n_bytes));
        const CodeView queries{codes.data(), 5, n_bytes};
        for (const auto& index : indices_of_every_kind(layout)) {
            index->add(view(codes, n_bytes), nullptr);
            index->save(path);
            check(peek_file(path).format_minor == 3 && verify_file(path).fault.empty(), "a file with padding");
            const std::unique_ptr<Index> loaded = load_index(path);
            for (const Index* each :
                 {static_cast<const Index*>(index.get()), static_cast<const Index*>(loaded.get())}) {
                const Found found = search(*each, queries, n + 1);
                for (std::size_t q = 0; q < queries.n; ++q) {
                    const Found expected = first_of(plain.ranking(queries.row(q), nullptr), n, n_bytes);
                    const std::size_t begin = q * (n + 1);
                    check(std::equal(expected.ids.begin(), expected.ids.end(), found.ids.begin() + begin), "ids");
                    const auto no_distance = static_cast<std::int32_t>(layout.n_bits()) + 1;
                    check(found.distances[begin + n] == no_distance, "the missing distance is n_bits + 1");
                }
            }
            std::vector<std::uint8_t> wrong(codes.begin(), codes.begin() + 3 * n_bytes);
            wrong[2 * n_bytes - 1] |= 1;
            const CodeView padded = view(wrong, n_bytes);
            check_throws<ArgumentError>([&] { index->add(padded, nullptr); }, "codes must have zeros in the low");
            check_throws<ArgumentError>([&] { search(*index, padded, 1); }, "queries must have zeros in the low");
        }
    }
    std::remove(path.c_str());
}

void test_errors() {
    check_throws<ArgumentError>([] { LevelLayout({12, 8}); }, "multiples of 8, except for the last, got (12, 8)");
    check_throws<ArgumentError>([] { LevelLayout({8, 0}); }, "multiples of 8, except for the last, got (8, 0)");
    check_throws<ArgumentError>([] { LevelLayout({4096, 8}); }, "at most 4096");
    for (const std::size_t wrong : {std::size_t{0}, kMaxBits + 1, kMaxBits + 8, SIZE_MAX}) {
        check_throws<ArgumentError>([&] { FlatIndex index(wrong); },
                                    "n_bits must be from 1 to 4096, got " + std::to_string(wrong));
    }
    check_throws<IoError>([] { load_index("does-not-exist.fh"); }, "cannot open");
    check_throws<IoError>([] { load_index("does-not-exist.fh", true); }, "cannot open");
    check_throws<IoError>([] { FlatIndex(8).save("does-not-exist/index.fh"); }, "cannot create");
    check_throws<FormatError>([] { index_from_bytes(nullptr, 0); }, "fewer than a header");
    const std::vector<std::uint8_t> codes(24, 1);
    const CodeView three = view(codes, 8), narrow{codes.data(), 6, 4};
    const std::vector<std::int64_t> twice{1, 2, 1}, none{1, -1, 2}, unknown{0, 1, 9};
    for (const auto& index : indices_of_every_kind(LevelLayout({64}))) {
        PlainIndex plain(8);
        index->add(three, nullptr);
        plain.add(three);
        std::vector<std::uint8_t> out(24);
        std::int64_t counts[3];
        check_throws<ArgumentError>([&] { index->add(three, twice.data()); }, "got 1 twice");
        check_throws<ArgumentError>([&] { index->add(three, none.data()); }, "-1");
        check_throws<ArgumentError>([&] { index->add(three, unknown.data()); }, "holds 0 already");
        check_throws<ArgumentError>([&] { index->add(narrow, nullptr); }, "codes must be 8 bytes wide");
        check_throws<ArgumentError>([&] { index->remove(twice.data(), 3); }, "got 1 twice");
        check_throws<ArgumentError>([&] { index->remove(unknown.data(), 3); }, "does not hold 9");
        check_throws<ArgumentError>([&] { index->update(unknown.data(), three); }, "does not hold 9");
        check_throws<ArgumentError>([&] { index->update(twice.data(), three); }, "got 1 twice");
        check_throws<ArgumentError>([&] { index->update(twice.data(), narrow); }, "codes must be 8 bytes wide");
        check_throws<ArgumentError>([&] { index->reconstruct(unknown.data(), 3, out.data()); }, "does not hold 9");
        check_throws<ArgumentError>([&] { search(*index, three, 0); }, "k must be at least 1");
        check_throws<ArgumentError>([&] { search(*index, narrow, 1); }, "queries must be 8 bytes wide");
        check_throws<ArgumentError>([&] { search(*index, three, 1, nullptr, Pruning{0.0}); }, "keep must be above 0");
        check_throws<ArgumentError>([&] { index->range_search(three, -1, nullptr, nullptr); },
                                    "radius must be at least");
        check_throws<ArgumentError>([&] { index->count_within(three, -1, nullptr, counts); },
                                    "radius must be at least");
        Expected(plain, three).check_all(*index, "a refused call changes nothing");
        const std::int64_t last = INT64_MAX;
        index->add({codes.data(), 1, 8}, &last);
        check_throws<ArgumentError>([&] { index->add(three, nullptr); }, "leaves the range of int64");
        check(index->size() == 4 && index->contains(last), "the last id there is");
    }
    check_throws<ArgumentError>([&] { search(FlatIndex(64), three, 1, nullptr, Pruning{0.5}); }, "flat index");
}

void test_nothing_is_asked() {
    for (const auto& index : indices_of_every_kind(kLayout)) {
        for (int round = 0; round < 2; ++round) {
            const CodeView none{nullptr, 0, kWidth};
            check(search(*index, none, 3) == Found{}, "no queries");
            check(index->range_search(none, 3, nullptr, nullptr).offsets == std::vector<std::int64_t>{0}, "no queries");
            index->add(none, nullptr);
            index->remove(nullptr, 0);
            index->update(nullptr, none);
            index->reconstruct(nullptr, 0, nullptr);
            check(index->size() == (round == 0 ? 0u : 5u), "nothing was added");
            if (round == 0) index->add({codes_of(5).data(), 5, kWidth}, nullptr);
        }
    }
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_checksum();
    test_indices_agree();
    test_cuts_beyond_all_distances();
    test_changes();
    test_merge_and_copy();
    test_filters();
    test_files();
    test_any_width();
    test_errors();
    test_nothing_is_asked();
    std::puts("core_test: all passed");
}
