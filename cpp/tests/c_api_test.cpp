// Tests of the C interface: same results as the C++ classes, the status and message of every error, and no exception
// leaves it, whatever is thrown inside.
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <new>
#include <thread>

#include "fasthash/fasthash.h"
#include "fasthash/simd.h"
#include "testing.h"

namespace {

std::function<void()> on_allocation;  // may throw

}  // namespace

// Not inlined: compilers would warn of mismatched new and free.
__attribute__((noinline)) void* operator new(std::size_t n) {
    if (on_allocation) on_allocation();
    void* memory = std::malloc(n > 0 ? n : 1);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
// Sanitizers have one of their own, whose memory may not be released below.
__attribute__((noinline)) void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    try {
        return operator new(n);
    } catch (...) {
        return nullptr;
    }
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace fasthash::testing {

const char* const kTestName = "c_api_test";

namespace {

constexpr std::size_t kWidth = 8;
constexpr std::size_t kLevels[] = {8, 16, 40};
constexpr std::size_t kK = 7;

std::mt19937 generator(1);

struct Free {
    void operator()(fasthash_index* index) const { fasthash_index_free(index); }
    void operator()(fasthash_filter* filter) const { fasthash_filter_free(filter); }
    void operator()(fasthash_range_result* result) const { fasthash_range_result_free(result); }
};
using IndexHandle = std::unique_ptr<fasthash_index, Free>;
using FilterHandle = std::unique_ptr<fasthash_filter, Free>;
using RangeHandle = std::unique_ptr<fasthash_range_result, Free>;

void ok(fasthash_status status) { check(status == FASTHASH_OK, fasthash_last_error()); }

void refused(fasthash_status status, fasthash_status expected, const std::string& text) {
    const std::string message = fasthash_last_error();
    check(status == expected, "status " + std::to_string(status) + " instead of " + text + ": " + message);
    check(message.find(text) != std::string::npos, "not \"" + text + "\" but: " + message);
}

void refused(fasthash_status status, const std::string& text) { refused(status, FASTHASH_ERROR_ARGUMENT, text); }

IndexHandle flat(std::size_t n_bits = kWidth * 8) {
    fasthash_index* index = nullptr;
    ok(fasthash_flat_create(n_bits, &index));
    return IndexHandle(index);
}

IndexHandle hier(std::int32_t memory = FASTHASH_MEMORY_DEFAULT) {
    fasthash_index* index = nullptr;
    ok(fasthash_hier_create(kLevels, 3, memory, &index));
    return IndexHandle(index);
}

FilterHandle filter_of(const std::vector<std::int64_t>& ids) {
    fasthash_filter* filter = nullptr;
    ok(fasthash_filter_create(ids.data(), ids.size(), &filter));
    return FilterHandle(filter);
}

IndexHandle loaded(const std::string& path, bool mapped) {
    fasthash_index* index = nullptr;
    ok(fasthash_index_load(path.c_str(), mapped, &index));
    return IndexHandle(index);
}

fasthash_codes codes_of(const std::vector<std::uint8_t>& bytes) {
    return {bytes.data(), bytes.size() / kWidth, kWidth};
}

// ---- results ----

struct Queries {
    std::vector<std::uint8_t> bytes = random_codes(5 * kWidth, generator);
    fasthash_codes codes = codes_of(bytes);
    CodeView asked = view(bytes, kWidth);
};

void check_searches(const fasthash_index* index, const Index& core, const Queries& queries,
                    const fasthash_filter* filter, const IdFilter* core_filter) {
    Found found{std::vector<std::int32_t>(5 * kK), std::vector<std::int64_t>(5 * kK)};
    ok(fasthash_index_search(index, queries.codes, kK, filter, found.distances.data(), found.ids.data()));
    check(found == search(core, queries.asked, kK, core_filter), "search");

    if (core.kind() == IndexKind::hier) {
        const std::pair<std::int32_t, KeepMode> modes[] = {{FASTHASH_KEEP_NODE_RATIO, KeepMode::node_ratio},
                                                           {FASTHASH_KEEP_GALLERY_RATIO, KeepMode::gallery_ratio},
                                                           {FASTHASH_KEEP_RADIUS, KeepMode::radius}};
        for (const auto& [mode, core_mode] : modes) {
            for (const double keep : {0.05, 0.2, 1.0}) {
                ok(fasthash_index_search_pruned(index, queries.codes, kK, keep, mode, filter, found.distances.data(),
                                                found.ids.data()));
                check(found == search(core, queries.asked, kK, core_filter, Pruning{keep, core_mode}), "pruned");
            }
        }
    }

    for (const std::int32_t radius : {0, 3, 12, INT32_MAX}) {
        const RangeResult expected = core.range_search(queries.asked, radius, core_filter, nullptr);
        fasthash_range_result* out = nullptr;
        ok(fasthash_index_range_search(index, queries.codes, radius, filter, &out));
        const RangeHandle result(out);
        const auto n = static_cast<std::size_t>(expected.offsets.back());
        check(out->n == 5 && std::equal(out->offsets, out->offsets + 6, expected.offsets.begin()), "offsets");
        check(std::equal(out->distances, out->distances + n, expected.distances.begin()), "distances within");
        check(std::equal(out->ids, out->ids + n, expected.ids.begin()), "ids within");
        std::int64_t counts[5], expected_counts[5];
        ok(fasthash_index_count_within(index, queries.codes, radius, filter, counts));
        core.count_within(queries.asked, radius, core_filter, expected_counts);
        check(std::equal(counts, counts + 5, expected_counts), "counts");
    }
}

void check_same(const fasthash_index* index, const Index& core) {
    check(fasthash_index_kind(index) == static_cast<std::int32_t>(core.kind()), "kind");
    check(fasthash_index_size(index) == core.size(), "size");
    check(fasthash_index_n_bits(index) == core.layout().n_bits(), "n_bits");
    check(fasthash_index_n_levels(index) == core.layout().n_levels(), "n_levels");
    for (std::size_t level = 0; level < core.layout().n_levels(); ++level) {
        check(fasthash_index_level_bits(index, level) == core.layout().level_bits()[level], "level_bits");
    }
    check(fasthash_index_level_bits(index, core.layout().n_levels()) == 0, "no such level");
    check(fasthash_index_next_id(index) == core.next_id(), "next_id");

    const Export entries = core.export_entries();
    std::vector<std::uint8_t> codes(entries.codes.size());
    ok(fasthash_index_reconstruct(index, entries.ids.data(), entries.ids.size(), codes.data()));
    check(codes == entries.codes, "reconstruct");
    for (const std::int64_t id : {std::int64_t{0}, std::int64_t{3}, std::int64_t{1000}, std::int64_t{-1}}) {
        bool contains = !core.contains(id);
        ok(fasthash_index_contains(index, id, &contains));
        check(contains == core.contains(id), "contains");
    }

    const Queries queries;
    check_searches(index, core, queries, nullptr, nullptr);
    const std::vector<std::int64_t> few{1000, 4, 7, 4, -9}, none;
    const IdFilter core_few(few), core_none(none);
    check_searches(index, core, queries, filter_of(few).get(), &core_few);
    check_searches(index, core, queries, filter_of(none).get(), &core_none);
    const std::vector<std::uint8_t> mask = random_codes(300, generator, 2);
    fasthash_filter* of_mask = nullptr;
    ok(fasthash_filter_create_mask(mask.data(), mask.size(), &of_mask));
    check_searches(index, core, queries, FilterHandle(of_mask).get(), IdFilter::from_mask(mask.data(), 300).get());
}

// One history through both interfaces.
void test_results(const IndexHandle& index, std::unique_ptr<Index> core) {
    check_same(index.get(), *core);
    const auto codes = random_codes(400 * kWidth, generator), more = random_codes(3 * kWidth, generator);
    ok(fasthash_index_add(index.get(), codes_of(codes), nullptr));
    core->add(view(codes, kWidth), nullptr);
    check_same(index.get(), *core);
    check(fasthash_index_nbytes(index.get()) == core->nbytes(), "nbytes");

    const std::int64_t ids[] = {1000, -5, 600}, gone[] = {3, 5, -5}, held[] = {1000, 0, 4};
    ok(fasthash_index_add(index.get(), codes_of(more), ids));
    core->add(view(more, kWidth), ids);
    check_same(index.get(), *core);
    ok(fasthash_index_remove(index.get(), gone, 3));
    core->remove(gone, 3);
    check_same(index.get(), *core);
    ok(fasthash_index_update(index.get(), held, codes_of(more)));
    core->update(held, view(more, kWidth));
    check_same(index.get(), *core);

    fasthash_index* copy = nullptr;
    ok(fasthash_index_copy(index.get(), &copy));
    const IndexHandle copied(copy);
    ok(fasthash_index_compact(copy));
    const auto core_copy = core->copy();
    core_copy->compact();
    check(fasthash_index_nbytes(copy) == core_copy->nbytes(), "nbytes of a compact copy");
    ok(fasthash_index_remove(copy, held, 3));
    check(fasthash_index_size(copy) + 3 == fasthash_index_size(index.get()), "a copy changes alone");
    check_same(index.get(), *core);

    fasthash_index* other = nullptr;
    ok(core->kind() == IndexKind::flat ? fasthash_flat_create(kWidth * 8, &other)
                                       : fasthash_hier_create(kLevels, 3, FASTHASH_MEMORY_FAST, &other));
    const IndexHandle others(other);
    const std::int64_t new_ids[] = {2000, 2002, 2001};
    ok(fasthash_index_add(other, codes_of(more), new_ids));
    ok(fasthash_index_merge(index.get(), other));
    core->add(view(more, kWidth), new_ids);
    check_same(index.get(), *core);
    refused(fasthash_index_merge(index.get(), other), "already");
    check_same(index.get(), *core);

    const std::string path = "c_api_test.fh";
    ok(fasthash_index_build_id_map(index.get()));
    ok(fasthash_index_save_with_id_map(index.get(), path.c_str()));
    check_same(loaded(path, true).get(), *core);
    ok(fasthash_index_save(index.get(), path.c_str()));
    check(core->to_bytes().size() == peek_file(path).file_bytes, "the bytes of the file");
    for (const bool mapped : {false, true}) {
        const IndexHandle again = loaded(path, mapped);
        check_same(again.get(), *core);
        check(fasthash_index_mapped_bytes(again.get()) == load_index(path, mapped)->mapped_bytes(), "mapped bytes");
        check((fasthash_index_mapped_bytes(again.get()) > 0) == mapped, "mapped");
    }
    fasthash_file_info info;
    std::memset(&info, 0x55, sizeof info);
    ok(fasthash_peek(path.c_str(), &info));
    check(info.kind == static_cast<std::int32_t>(core->kind()) && info.n_codes == core->size(), "peek");
    check(info.file_bytes == core->to_bytes().size() && info.format_major == 1 && info.format_minor == 0, "peek");
    check(info.n_levels == core->layout().n_levels(), "peek: n_levels");
    for (std::size_t level = 0; level < FASTHASH_MAX_LEVELS; ++level) {
        check(info.level_bits[level] == fasthash_index_level_bits(index.get(), level), "peek: level_bits");
    }
    std::remove(path.c_str());
}

void test_memory() {
    const auto codes = random_codes(60000 * kWidth, generator);
    const std::pair<std::int32_t, Memory> memories[] = {{FASTHASH_MEMORY_DEFAULT, Memory::standard},
                                                        {FASTHASH_MEMORY_COMPACT, Memory::compact},
                                                        {FASTHASH_MEMORY_FAST, Memory::fast}};
    std::vector<std::size_t> sizes;
    for (const auto& [memory, core_memory] : memories) {
        const IndexHandle index = hier(memory);
        HierIndex core(LevelLayout({8, 16, 40}), core_memory);
        ok(fasthash_index_add(index.get(), codes_of(codes), nullptr));
        core.add(view(codes, kWidth), nullptr);
        check(fasthash_index_nbytes(index.get()) == core.nbytes(), "what a memory setting takes");
        sizes.push_back(core.nbytes());
    }
    check(sizes[1] <= sizes[0] && sizes[0] <= sizes[2], "more may be spent");
}

void test_machine() {
    check(std::strcmp(fasthash_simd_level(), simd_name(simd_level())) == 0, "simd level");
    check(std::strchr(fasthash_version(), '.') != nullptr, "version");
    const std::size_t before = fasthash_num_threads();
    ok(fasthash_set_num_threads(3));
    check(fasthash_num_threads() == 3 && num_threads() == 3, "threads");
    refused(fasthash_set_num_threads(0), "n must be from 1 to 1024, got 0");
    refused(fasthash_set_num_threads(1025), "n must be from 1 to 1024, got 1025");
    check(fasthash_num_threads() == 3, "a refused number of threads");
    ok(fasthash_set_num_threads(before));
}

// ---- errors ----

void test_refused_indices() {
    fasthash_index* index = nullptr;
    const auto expect = [&](fasthash_status status, const char* text) {
        refused(status, text);
        check(index == nullptr, "no index comes from a refused call");
        index = reinterpret_cast<fasthash_index*>(&index);  // must be overwritten
    };
    for (const std::size_t n_bits : {std::size_t{0}, std::size_t{4097}, SIZE_MAX}) {
        expect(fasthash_flat_create(n_bits, &index),
               ("n_bits must be from 1 to 4096, got " + std::to_string(n_bits)).c_str());
    }
    const std::size_t odd[] = {12, 8}, wide[] = {4096, 8}, wraps[] = {8, SIZE_MAX - 7};
    expect(fasthash_hier_create(odd, 2, 0, &index), "positive multiples of 8, except for the last, got (12, 8)");
    expect(fasthash_hier_create(wide, 2, 0, &index), "at most 4096 bits, got (4096, 8)");
    expect(fasthash_hier_create(wraps, 2, 0, &index), "at most 4096 bits");
    expect(fasthash_hier_create(odd, 0, 0, &index), "at least one level");
    expect(fasthash_hier_create(nullptr, 0, 0, &index), "at least one level");
    expect(fasthash_hier_create(nullptr, 2, 0, &index), "level_bits must not be null");
    expect(fasthash_hier_create(odd, 513, 0, &index), "n_levels must be at most 512, got 513");
    expect(fasthash_hier_create(kLevels, 3, 3, &index), "memory must be from 0 to 2, got 3");
    expect(fasthash_hier_create(kLevels, 3, -1, &index), "memory must be from 0 to 2, got -1");
    expect(fasthash_index_copy(nullptr, &index), "index must not be null");
    expect(fasthash_index_load(nullptr, false, &index), "path must not be null");
    refused(fasthash_flat_create(64, nullptr), "index must not be null");
    refused(fasthash_hier_create(kLevels, 3, 0, nullptr), "index must not be null");
    refused(fasthash_index_load("x", false, nullptr), "index must not be null");
    refused(fasthash_index_copy(flat().get(), nullptr), "copy must not be null");
}

void test_refused_calls(const IndexHandle& handle) {
    fasthash_index* index = handle.get();
    const auto bytes = random_codes(3 * kWidth, generator);
    ok(fasthash_index_add(index, codes_of(bytes), nullptr));
    const auto core = FlatIndex(kWidth * 8).copy();
    core->add(view(bytes, kWidth), nullptr);

    const fasthash_codes three = codes_of(bytes), narrow{bytes.data(), 3, 7}, empty_rows{bytes.data(), 3, 0},
                         null{nullptr, 3, kWidth}, endless{bytes.data(), SIZE_MAX / 4, kWidth};
    const std::int64_t twice[] = {1, 2, 1}, none[] = {5, -1, 6}, unknown[] = {0, 9, 1};
    std::int32_t distances[30];
    std::int64_t ids[30];
    std::uint8_t codes[24];
    fasthash_range_result* result = nullptr;

    for (const fasthash_codes& wrong : {narrow, empty_rows}) {
        refused(fasthash_index_add(index, wrong, nullptr), "codes must be 8 bytes wide for 64 bits, got");
        refused(fasthash_index_update(index, twice, wrong), "codes must be 8 bytes wide");
        refused(fasthash_index_search(index, wrong, 1, nullptr, distances, ids), "queries must be 8 bytes wide");
        refused(fasthash_index_range_search(index, wrong, 1, nullptr, &result), "queries must be 8 bytes wide");
        refused(fasthash_index_count_within(index, wrong, 1, nullptr, ids), "queries must be 8 bytes wide");
    }
    for (const auto& [wrong, text] :
         {std::make_pair(null, " must not be null"), std::make_pair(endless, " must fit into memory")}) {
        refused(fasthash_index_add(index, wrong, nullptr), std::string("codes") + text);
        refused(fasthash_index_search(index, wrong, 1, nullptr, distances, ids), std::string("queries") + text);
        refused(fasthash_index_range_search(index, wrong, 1, nullptr, &result), std::string("queries") + text);
        check(result == nullptr, "no result comes from a refused search");
        refused(fasthash_index_count_within(index, wrong, 1, nullptr, ids), std::string("queries") + text);
    }
    refused(fasthash_index_update(index, unknown, null), "codes must not be null");
    refused(fasthash_index_update(index, unknown, endless), "ids must fit into memory");

    refused(fasthash_index_add(index, three, twice), "got 1 twice");
    refused(fasthash_index_add(index, three, none), "-1");
    refused(fasthash_index_add(index, three, unknown), "holds 0 already");
    refused(fasthash_index_remove(index, twice, 3), "got 1 twice");
    refused(fasthash_index_remove(index, unknown, 3), "does not hold 9");
    refused(fasthash_index_remove(index, nullptr, 3), "ids must not be null");
    refused(fasthash_index_remove(index, unknown, SIZE_MAX), "ids must fit into memory");
    refused(fasthash_index_update(index, unknown, three), "does not hold 9");
    refused(fasthash_index_update(index, nullptr, three), "ids must not be null");
    refused(fasthash_index_reconstruct(index, unknown, 3, codes), "does not hold 9");
    refused(fasthash_index_reconstruct(index, nullptr, 3, codes), "ids must not be null");
    refused(fasthash_index_reconstruct(index, twice, 3, nullptr), "codes must not be null");
    refused(fasthash_index_contains(index, 1, nullptr), "contains must not be null");

    refused(fasthash_index_search(index, three, 0, nullptr, distances, ids), "k must be at least 1, got 0");
    refused(fasthash_index_search(index, three, std::size_t{1} << 31, nullptr, distances, ids),
            "k must be at most 2147483647, got 2147483648");
    refused(fasthash_index_search(index, three, SIZE_MAX, nullptr, distances, ids), "k must be at most 2147483647");
    refused(fasthash_index_search(index, three, 1, nullptr, nullptr, ids), "distances must not be null");
    refused(fasthash_index_search(index, three, 1, nullptr, distances, nullptr), "ids must not be null");
    for (const double keep : {0.0, -0.5, 1.01, std::nan("")}) {
        refused(fasthash_index_search_pruned(index, three, 1, keep, 0, nullptr, distances, ids),
                "keep must be above 0 and at most 1");
    }
    for (const char* keep : {"1.0000001", "1.0000000000000002", "1.5", "-1e-300"}) {
        refused(fasthash_index_search_pruned(index, three, 1, std::stod(keep), 0, nullptr, distances, ids),
                std::string("keep must be above 0 and at most 1, got ") + keep);
    }
    for (const std::int32_t mode : {-1, 3, INT32_MIN}) {
        refused(fasthash_index_search_pruned(index, three, 1, 0.5, mode, nullptr, distances, ids),
                "keep_mode must be from 0 to 2, got " + std::to_string(mode));
    }
    refused(fasthash_index_range_search(index, three, -1, nullptr, &result), "radius must be at least 0, got -1");
    refused(fasthash_index_range_search(index, three, 1, nullptr, nullptr), "result must not be null");
    refused(fasthash_index_count_within(index, three, -1, nullptr, ids), "radius must be at least 0, got -1");
    refused(fasthash_index_count_within(index, three, 1, nullptr, nullptr), "counts must not be null");
    refused(fasthash_index_merge(index, nullptr), "other must not be null");
    refused(fasthash_index_merge(index, flat(128).get()), "(128)");
    refused(fasthash_index_save(index, nullptr), "path must not be null");
    if (fasthash_index_kind(index) == FASTHASH_FLAT) {
        refused(fasthash_index_search_pruned(index, three, 1, 0.5, 0, nullptr, distances, ids), "flat index");
        check_same(index, *core);  // a refused call changes nothing
    }

    // Without queries, null arrays are allowed.
    const fasthash_codes nothing{nullptr, 0, kWidth};
    ok(fasthash_index_add(index, nothing, nullptr));
    ok(fasthash_index_remove(index, nullptr, 0));
    ok(fasthash_index_update(index, nullptr, nothing));
    ok(fasthash_index_reconstruct(index, nullptr, 0, nullptr));
    ok(fasthash_index_search(index, nothing, 3, nullptr, nullptr, nullptr));
    ok(fasthash_index_count_within(index, nothing, 3, nullptr, nullptr));
    ok(fasthash_index_range_search(index, nothing, 3, nullptr, &result));
    check(result->n == 0 && result->offsets[0] == 0, "no queries");
    fasthash_range_result_free(result);
    check(fasthash_index_size(index) == 3, "nothing was added");
}

void test_null_handles() {
    const auto bytes = random_codes(kWidth, generator);
    const fasthash_codes one = codes_of(bytes);
    std::int32_t distance;
    std::int64_t id = 0;
    std::uint8_t code[kWidth];
    bool contains;
    fasthash_range_result* result = nullptr;
    fasthash_file_info info;
    for (const fasthash_status status :
         {fasthash_index_add(nullptr, one, nullptr), fasthash_index_remove(nullptr, &id, 1),
          fasthash_index_update(nullptr, &id, one), fasthash_index_merge(nullptr, flat().get()),
          fasthash_index_compact(nullptr), fasthash_index_contains(nullptr, 0, &contains),
          fasthash_index_reconstruct(nullptr, &id, 1, code),
          fasthash_index_search(nullptr, one, 1, nullptr, &distance, &id),
          fasthash_index_search_pruned(nullptr, one, 1, 0.5, 0, nullptr, &distance, &id),
          fasthash_index_range_search(nullptr, one, 1, nullptr, &result),
          fasthash_index_count_within(nullptr, one, 1, nullptr, &id), fasthash_index_save(nullptr, "x"),
          fasthash_index_save_with_id_map(nullptr, "x"), fasthash_index_build_id_map(nullptr)}) {
        refused(status, "index must not be null");
    }
    refused(fasthash_peek(nullptr, &info), "path must not be null");
    refused(fasthash_peek("x", nullptr), "info must not be null");

    fasthash_filter* filter = nullptr;
    refused(fasthash_filter_create(nullptr, 1, &filter), "ids must not be null");
    refused(fasthash_filter_create(&id, SIZE_MAX, &filter), "ids must fit into memory");
    refused(fasthash_filter_create_mask(nullptr, 1, &filter), "mask must not be null");
    check(filter == nullptr, "no filter comes from a refused call");
    refused(fasthash_filter_create(&id, 1, nullptr), "filter must not be null");
    refused(fasthash_filter_create_mask(code, 0, nullptr), "filter must not be null");

    check(fasthash_index_kind(nullptr) == 0 && fasthash_index_size(nullptr) == 0, "0 for null");
    check(fasthash_index_n_bits(nullptr) == 0 && fasthash_index_n_levels(nullptr) == 0, "0 for null");
    check(fasthash_index_level_bits(nullptr, 0) == 0 && fasthash_index_next_id(nullptr) == 0, "0 for null");
    check(fasthash_index_nbytes(nullptr) == 0 && fasthash_index_mapped_bytes(nullptr) == 0, "0 for null");
    fasthash_index_free(nullptr);
    fasthash_filter_free(nullptr);
    fasthash_range_result_free(nullptr);
}

void test_files() {
    fasthash_index* index = nullptr;
    fasthash_file_info info;
    const auto no_such_file = [](fasthash_status status) {
        check(errno == ENOENT, "errno");
        refused(status, FASTHASH_ERROR_IO, "cannot open: No such file or directory: c_api_missing.fh");
        errno = 0;
    };
    no_such_file(fasthash_index_load("c_api_missing.fh", false, &index));
    no_such_file(fasthash_index_load("c_api_missing.fh", true, &index));
    no_such_file(fasthash_peek("c_api_missing.fh", &info));
    refused(fasthash_index_save(flat().get(), "."), FASTHASH_ERROR_IO, "cannot save over a folder: Is a directory: .");
    check(errno == EISDIR, "errno of a save");

    const std::string path = "c_api_test.fh";
    ok(fasthash_index_save(flat().get(), path.c_str()));
    std::filesystem::resize_file(path, 100);
    for (const bool mapped : {false, true}) {
        refused(fasthash_index_load(path.c_str(), mapped, &index), FASTHASH_ERROR_FORMAT, "");
        check(index == nullptr && std::strlen(fasthash_last_error()) > 0, "a truncated file");
    }
    refused(fasthash_peek(path.c_str(), &info), FASTHASH_ERROR_FORMAT, "");
    std::remove(path.c_str());
}

void test_last_error() {
    refused(fasthash_set_num_threads(0), "got 0");
    ok(fasthash_set_num_threads(fasthash_num_threads()));
    refused(FASTHASH_ERROR_ARGUMENT, "got 0");  // success keeps the last message
    std::thread([] {
        check(std::strcmp(fasthash_last_error(), "") == 0, "each thread has its own");
        refused(fasthash_set_num_threads(2000), "got 2000");
    }).join();
    refused(FASTHASH_ERROR_ARGUMENT, "got 0");

    fasthash_index* index = nullptr;
    const std::string folders(3000, 'x');
    refused(fasthash_index_load(folders.c_str(), false, &index), FASTHASH_ERROR_IO, "cannot open: ");
    check(std::strlen(fasthash_last_error()) == 1023, "a long message is cut");
}

// Allocations that throw different exceptions, at every moment.
void test_nothing_is_thrown_out() {
    struct Case {
        std::function<void()> raise;
        fasthash_status status;
        const char* text;
    };
    const Case cases[] = {{[] { throw std::bad_alloc(); }, FASTHASH_ERROR_MEMORY, "out of memory"},
                          {[] { throw std::length_error("too long"); }, FASTHASH_ERROR_MEMORY, "out of memory"},
                          {[] { throw std::runtime_error("an accident"); }, FASTHASH_ERROR_INTERNAL, "an accident"},
                          {[] { throw 7; }, FASTHASH_ERROR_INTERNAL, "unknown error"}};
    const auto bytes = random_codes(300 * kWidth, generator);
    const fasthash_codes codes = codes_of(bytes), queries{bytes.data(), 2, kWidth};
    const IndexHandle held = hier();
    ok(fasthash_index_add(held.get(), codes, nullptr));
    const FilterHandle few = filter_of({1, 2, 3});
    std::int32_t distances[6];
    std::int64_t ids[6] = {0, 1, 2, 3, 4, 5};
    bool contains;
    const std::pair<const char*, std::function<fasthash_status()>> calls[] = {
        {"flat",
         [] {
             fasthash_index* index = nullptr;
             const fasthash_status status = fasthash_flat_create(64, &index);
             fasthash_index_free(index);
             return status;
         }},
        {"hier",
         [] {
             fasthash_index* index = nullptr;
             const fasthash_status status = fasthash_hier_create(kLevels, 3, 0, &index);
             fasthash_index_free(index);
             return status;
         }},
        {"filter",
         [&] {
             fasthash_filter* filter = nullptr;
             const fasthash_status status = fasthash_filter_create(ids, 6, &filter);
             fasthash_filter_free(filter);
             return status;
         }},
        {"mask",
         [&] {
             fasthash_filter* filter = nullptr;
             const fasthash_status status = fasthash_filter_create_mask(bytes.data(), 6, &filter);
             fasthash_filter_free(filter);
             return status;
         }},
        {"copy and change",
         [&] {
             fasthash_index* copy = nullptr;
             fasthash_status status = fasthash_index_copy(held.get(), &copy);
             if (status == FASTHASH_OK) status = fasthash_index_add(copy, codes, nullptr);
             if (status == FASTHASH_OK) status = fasthash_index_update(copy, ids, queries);
             if (status == FASTHASH_OK) status = fasthash_index_remove(copy, ids, 6);
             if (status == FASTHASH_OK) status = fasthash_index_contains(copy, 7, &contains);
             if (status == FASTHASH_OK) status = fasthash_index_compact(copy);
             fasthash_index_free(copy);
             return status;
         }},
        {"search", [&] { return fasthash_index_search(held.get(), queries, 3, nullptr, distances, ids); }},
        {"search some", [&] { return fasthash_index_search(held.get(), queries, 3, few.get(), distances, ids); }},
        {"pruned",
         [&] { return fasthash_index_search_pruned(held.get(), queries, 3, 0.5, 0, nullptr, distances, ids); }},
        {"range",
         [&] {
             fasthash_range_result* result = nullptr;
             const fasthash_status status = fasthash_index_range_search(held.get(), queries, 9, nullptr, &result);
             fasthash_range_result_free(result);
             return status;
         }},
        {"count", [&] { return fasthash_index_count_within(held.get(), queries, 9, nullptr, ids); }},
        {"jaccard",
         [&] {
             fasthash_index* index = nullptr;
             float near[6];
             fasthash_jaccard_range_result* result = nullptr;
             fasthash_status status = fasthash_flat_create_with_metric(64, FASTHASH_JACCARD, &index);
             if (status == FASTHASH_OK) status = fasthash_index_add(index, codes, nullptr);
             if (status == FASTHASH_OK) status = fasthash_index_search_jaccard(index, queries, 3, nullptr, near, ids);
             if (status == FASTHASH_OK)
                 status = fasthash_index_range_search_jaccard(index, queries, .5, few.get(), &result);
             if (status == FASTHASH_OK) status = fasthash_index_count_within_jaccard(index, queries, .5, nullptr, ids);
             fasthash_jaccard_range_result_free(result);
             fasthash_index_free(index);
             return status;
         }},
        {"save", [&] { return fasthash_index_save(held.get(), "c_api_test.fh"); }},
        {"load",
         [&] {
             fasthash_index* index = nullptr;
             const fasthash_status status = fasthash_index_load("c_api_test.fh", false, &index);
             fasthash_index_free(index);
             return status;
         }},
    };
    const std::size_t n_threads = fasthash_num_threads();
    ok(fasthash_set_num_threads(1));  // others' allocations would be counted as well
    for (const auto& [name, call] : calls) {
        ok(call());
        for (const Case& of : cases) {
            for (int n = 0; n < 40; ++n) {
                int left = n;
                bool raised = false;
                on_allocation = [&] {
                    if (raised || left-- > 0) return;
                    raised = true;
                    of.raise();
                };
                const fasthash_status status = call();
                on_allocation = nullptr;
                if (!raised) break;
                // Allocations for speed alone may fail without an error.
                if (status != FASTHASH_OK) refused(status, of.status, of.text);
                if (n == 0) check(status != FASTHASH_OK, std::string(name) + " allocates nothing it needs");
            }
        }
        ok(call());
    }
    ok(fasthash_set_num_threads(n_threads));
    std::remove("c_api_test.fh");
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    using namespace fasthash;
    check(std::strcmp(fasthash_last_error(), "") == 0, "no error yet");
    test_results(flat(), std::make_unique<FlatIndex>(kWidth * 8));
    test_results(hier(), std::make_unique<HierIndex>(LevelLayout({8, 16, 40})));
    test_memory();
    test_machine();
    test_refused_indices();
    test_refused_calls(flat());
    test_refused_calls(hier());
    test_null_handles();
    test_files();
    test_last_error();
    test_nothing_is_thrown_out();
    std::puts("c_api_test: all passed");
}
