// The C interface (fasthash.h): the library, indices and their changes, filters and files. Checks arguments and calls
// the core; c_api_searches.cpp has the searches.
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "fasthash/id_filter.h"
#include "fasthash/simd.h"
#include "fasthash/threads.h"
#include "index/c_api_calls.h"

using namespace fasthash;
using namespace fasthash::c_api;

namespace {

constexpr Metric kMetrics[] = {Metric::hamming, Metric::jaccard};  // in the order of enum fasthash_metric

}  // namespace

extern "C" {

const char* fasthash_last_error(void) { return last_error(); }

const char* fasthash_version(void) { return FASTHASH_VERSION; }

const char* fasthash_simd_level(void) {
    const char* name = nullptr;
    run([&] { name = simd_name(simd_level()); });
    return name;
}

size_t fasthash_num_threads(void) { return num_threads(); }

fasthash_status fasthash_set_num_threads(size_t n) {
    return run([&] { set_num_threads(n); });
}

// ---- indices ----

fasthash_status fasthash_flat_create(size_t n_bits, fasthash_index** index) {
    return fasthash_flat_create_with_metric(n_bits, FASTHASH_HAMMING, index);
}

fasthash_status fasthash_flat_create_with_metric(size_t n_bits, int32_t metric, fasthash_index** index) {
    return create("index", index,
                  [&] { return std::make_unique<FlatIndex>(n_bits, choice("metric", metric, kMetrics)); });
}

fasthash_status fasthash_hier_create(const size_t* level_bits, size_t n_levels, int32_t memory,
                                     fasthash_index** index) {
    return fasthash_hier_create_with_metric(level_bits, n_levels, memory, FASTHASH_HAMMING, index);
}

fasthash_status fasthash_hier_create_with_metric(const size_t* level_bits, size_t n_levels, int32_t memory,
                                                 int32_t metric, fasthash_index** index) {
    return create("index", index, [&] {
        if (n_levels > FASTHASH_MAX_LEVELS) {
            throw ArgumentError("n_levels must be at most 512, got " + std::to_string(n_levels));
        }
        check_array("level_bits", level_bits, n_levels);
        constexpr Memory kMemories[] = {Memory::standard, Memory::compact, Memory::fast};
        return std::make_unique<HierIndex>(LevelLayout({level_bits, level_bits + n_levels}),
                                           choice("memory", memory, kMemories), std::nullopt,
                                           choice("metric", metric, kMetrics));
    });
}

fasthash_status fasthash_index_copy(const fasthash_index* index, fasthash_index** copy) {
    return create("copy", copy, [&] { return not_null("index", index).core->copy(); });
}

void fasthash_index_free(fasthash_index* index) { delete index; }

int32_t fasthash_index_kind(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return static_cast<int32_t>(core.kind()); });
}

int32_t fasthash_index_metric(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return static_cast<int32_t>(core.metric()); });
}

size_t fasthash_index_n_bits(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return core.layout().n_bits(); });
}

size_t fasthash_index_n_levels(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return core.layout().n_levels(); });
}

size_t fasthash_index_level_bits(const fasthash_index* index, size_t level) {
    return value_of(index, [level](const Index& core) {
        return level < core.layout().n_levels() ? core.layout().level_bits()[level] : 0;
    });
}

size_t fasthash_index_size(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return core.size(); });
}

size_t fasthash_index_nbytes(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return core.nbytes(); });
}

size_t fasthash_index_mapped_bytes(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return core.mapped_bytes(); });
}

uint64_t fasthash_index_next_id(const fasthash_index* index) {
    return value_of(index, [](const Index& core) { return core.next_id(); });
}

// ---- changes ----

fasthash_status fasthash_index_add(fasthash_index* index, fasthash_codes codes, const int64_t* ids) {
    return run([&] { not_null("index", index).core->add(view("codes", codes), ids); });
}

fasthash_status fasthash_index_remove(fasthash_index* index, const int64_t* ids, size_t n) {
    return run([&] {
        Index& core = *not_null("index", index).core;
        check_array("ids", ids, n);
        core.remove(ids, n);
    });
}

fasthash_status fasthash_index_update(fasthash_index* index, const int64_t* ids, fasthash_codes codes) {
    return run([&] {
        Index& core = *not_null("index", index).core;
        check_array("ids", ids, codes.n);
        core.update(ids, view("codes", codes));
    });
}

fasthash_status fasthash_index_merge(fasthash_index* index, const fasthash_index* other) {
    return run([&] { not_null("index", index).core->merge(*not_null("other", other).core); });
}

fasthash_status fasthash_index_compact(fasthash_index* index) {
    return run([&] { not_null("index", index).core->compact(); });
}

// ---- looking up ----

fasthash_status fasthash_index_build_id_map(const fasthash_index* index) {
    return run([&] { not_null("index", index).core->build_id_map(); });
}

fasthash_status fasthash_index_contains(const fasthash_index* index, int64_t id, bool* contains) {
    return run([&] { not_null("contains", contains) = not_null("index", index).core->contains(id); });
}

fasthash_status fasthash_index_reconstruct(const fasthash_index* index, const int64_t* ids, size_t n, uint8_t* codes) {
    return run([&] {
        const Index& core = *not_null("index", index).core;
        check_array("ids", ids, n);
        check_array("codes", codes, n, core.layout().n_bytes());
        core.reconstruct(ids, n, codes);
    });
}

// ---- filters ----

fasthash_status fasthash_filter_create(const int64_t* ids, size_t n, fasthash_filter** filter) {
    return create("filter", filter, [&] {
        check_array("ids", ids, n);
        auto core = std::make_unique<IdFilter>(std::vector<std::int64_t>(ids, ids + n));
        core->set_reusable();
        return core;
    });
}

fasthash_status fasthash_filter_create_mask(const uint8_t* mask, size_t n, fasthash_filter** filter) {
    return create("filter", filter, [&] {
        check_array("mask", mask, n);
        auto core = IdFilter::from_mask(mask, n);
        core->set_reusable();
        return core;
    });
}

void fasthash_filter_free(fasthash_filter* filter) { delete filter; }

// ---- files ----

fasthash_status fasthash_index_save(const fasthash_index* index, const char* path) {
    return run([&] { not_null("index", index).core->save(&not_null("path", path)); });
}

fasthash_status fasthash_index_save_with_id_map(const fasthash_index* index, const char* path) {
    return run([&] { not_null("index", index).core->save(&not_null("path", path), {}, true); });
}

fasthash_status fasthash_index_load(const char* path, bool mapped, fasthash_index** index) {
    return create("index", index, [&] { return load_index(&not_null("path", path), mapped); });
}

fasthash_status fasthash_peek(const char* path, fasthash_file_info* info) {
    return run([&] {
        fasthash_file_info& out = not_null("info", info);
        const FileInfo read = peek_file(&not_null("path", path));
        out = {};
        out.kind = static_cast<int32_t>(read.kind);
        out.format_major = read.format_major;
        out.format_minor = read.format_minor;
        out.n_levels = static_cast<std::uint32_t>(read.level_bits.size());
        std::transform(read.level_bits.begin(), read.level_bits.end(), out.level_bits,
                       [](std::size_t bits) { return static_cast<std::uint16_t>(bits); });
        out.n_codes = read.n_codes;
        out.file_bytes = read.file_bytes;
        out.metric = static_cast<int32_t>(read.metric);
    });
}

}  // extern "C"
