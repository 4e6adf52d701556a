// The C interface (fasthash.h): checks arguments, calls the core, turns exceptions into statuses.
//
// No exception leaves this file. Handles own core objects; null handles are refused or ignored as fasthash.h says.
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "fasthash/error.h"
#include "fasthash/fasthash.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "fasthash/id_filter.h"
#include "fasthash/simd.h"
#include "fasthash/threads.h"

struct fasthash_index {
    std::unique_ptr<fasthash::Index> core;
};

struct fasthash_filter {
    std::unique_ptr<fasthash::IdFilter> core;
};

namespace fasthash {
namespace {

// A range result as callers see it, and the memory that it points into.
template <typename Seen, typename Found>
struct OwnedRange : Seen {
    explicit OwnedRange(Found found_) : found(std::move(found_)) {
        this->n = found.offsets.size() - 1;
        this->offsets = found.offsets.data();
        this->distances = found.distances.data();
        this->ids = found.ids.data();
    }
    Found found;
};
using OwnedRangeResult = OwnedRange<fasthash_range_result, RangeResult>;
using OwnedJaccardRangeResult = OwnedRange<fasthash_jaccard_range_result, JaccardRangeResult>;

constexpr Metric kMetrics[] = {Metric::hamming, Metric::jaccard};  // in the order of enum fasthash_metric

thread_local char last_error[1024] = "";  // fixed size, so that running out of memory can be reported

template <typename... Parts>
fasthash_status failed(fasthash_status status, const char* format, Parts... parts) {
    std::snprintf(last_error, sizeof last_error, format, parts...);
    return status;
}

template <typename Call>
fasthash_status run(Call call) noexcept {
    try {
        call();
        return FASTHASH_OK;
    } catch (const ArgumentError& error) {
        return failed(FASTHASH_ERROR_ARGUMENT, "%s", error.what());
    } catch (const FormatError& error) {
        return failed(FASTHASH_ERROR_FORMAT, "%s", error.what());
    } catch (const IoError& error) {
        failed(FASTHASH_ERROR_IO, "%s: %s: %s", error.step().c_str(), std::strerror(error.code()),
               error.path().c_str());
        errno = error.code();
        return FASTHASH_ERROR_IO;
    } catch (const std::bad_alloc&) {
        return failed(FASTHASH_ERROR_MEMORY, "%s", "out of memory");
    } catch (const std::length_error&) {  // thrown by containers for impossible sizes
        return failed(FASTHASH_ERROR_MEMORY, "%s", "out of memory");
    } catch (const std::exception& error) {
        return failed(FASTHASH_ERROR_INTERNAL, "%s", error.what());
    } catch (...) {
        return failed(FASTHASH_ERROR_INTERNAL, "%s", "unknown error");
    }
}

// The value of `call` for an index; 0 if the index is null.
template <typename Call>
auto value_of(const fasthash_index* index, Call call) noexcept {
    std::invoke_result_t<Call, const Index&> value{};
    if (index != nullptr) run([&] { value = call(*index->core); });
    return value;
}

// ---- arguments ----

template <typename T>
T& not_null(const char* name, T* pointer) {
    if (pointer == nullptr) throw ArgumentError(std::string(name) + " must not be null");
    return *pointer;
}

/// n * width values of `value_bytes` bytes.
void check_array(const char* name, const void* data, std::size_t n, std::size_t width, std::size_t value_bytes) {
    if (n == 0 || width == 0) return;
    if (n > static_cast<std::size_t>(PTRDIFF_MAX) / value_bytes / width) {
        throw ArgumentError(std::string(name) + " must fit into memory, got " + std::to_string(n) + " rows of " +
                            std::to_string(width) + " values");
    }
    if (data == nullptr) throw ArgumentError(std::string(name) + " must not be null");
}

template <typename T>
void check_array(const char* name, const T* data, std::size_t n, std::size_t width = 1) {
    check_array(name, data, n, width, sizeof(T));
}

CodeView view(const char* name, const fasthash_codes& codes) {
    check_array(name, codes.data, codes.n, codes.n_bytes);
    return {codes.data, codes.n, codes.n_bytes};
}

template <typename Enum, std::size_t n>
Enum choice(const char* name, std::int32_t value, const Enum (&choices)[n]) {
    if (value < 0 || static_cast<std::size_t>(value) >= n) {
        throw ArgumentError(std::string(name) + " must be from 0 to " + std::to_string(n - 1) + ", got " +
                            std::to_string(value));
    }
    return choices[value];
}

const IdFilter* core_of(const fasthash_filter* filter) { return filter == nullptr ? nullptr : filter->core.get(); }

// ---- shared by several functions ----

/// Store a new object in `handle`.
template <typename Handle, typename Make>
fasthash_status create(const char* name, Handle** handle, Make make) {
    return run([&] {
        Handle*& out = not_null(name, handle);
        out = nullptr;
        out = new Handle{make()};
    });
}

/// Calls find(core, queries) once its arguments are checked.
template <typename Distance, typename Find>
fasthash_status search(const fasthash_index* index, const fasthash_codes& queries, std::size_t k, Distance* distances,
                       std::int64_t* ids, Find find) {
    return run([&] {
        const Index& core = *not_null("index", index).core;
        const CodeView asked = view("queries", queries);
        if (k > INT32_MAX) throw ArgumentError("k must be at most 2147483647, got " + std::to_string(k));
        check_array("distances", distances, asked.n, k);
        check_array("ids", ids, asked.n, k);
        find(core, asked);
    });
}

/// Stores a new Owned, made of find(core, queries), in `result`.
template <typename Owned, typename Result, typename Find>
fasthash_status search_range(const fasthash_index* index, const fasthash_codes& queries, Result** result, Find find) {
    return run([&] {
        Result*& out = not_null("result", result);
        out = nullptr;
        const Index& core = *not_null("index", index).core;
        out = new Owned(find(core, view("queries", queries)));
    });
}

/// Calls count(core, queries) once its arguments are checked.
template <typename Count>
fasthash_status count_range(const fasthash_index* index, const fasthash_codes& queries, std::int64_t* counts,
                            Count count) {
    return run([&] {
        const Index& core = *not_null("index", index).core;
        const CodeView asked = view("queries", queries);
        check_array("counts", counts, asked.n);
        count(core, asked);
    });
}

}  // namespace
}  // namespace fasthash

using namespace fasthash;

extern "C" {

const char* fasthash_last_error(void) { return last_error; }

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

// ---- searches ----

fasthash_status fasthash_index_search(const fasthash_index* index, fasthash_codes queries, size_t k,
                                      const fasthash_filter* filter, int32_t* distances, int64_t* ids) {
    return search(index, queries, k, distances, ids, [&](const Index& core, CodeView asked) {
        core.search(asked, k, std::nullopt, core_of(filter), distances, ids, nullptr);
    });
}

fasthash_status fasthash_index_search_pruned(const fasthash_index* index, fasthash_codes queries, size_t k, double keep,
                                             int32_t keep_mode, const fasthash_filter* filter, int32_t* distances,
                                             int64_t* ids) {
    return search(index, queries, k, distances, ids, [&](const Index& core, CodeView asked) {
        constexpr KeepMode kModes[] = {KeepMode::node_ratio, KeepMode::gallery_ratio, KeepMode::radius};
        const Pruning pruning{keep, choice("keep_mode", keep_mode, kModes)};
        core.search(asked, k, pruning, core_of(filter), distances, ids, nullptr);
    });
}

fasthash_status fasthash_index_range_search(const fasthash_index* index, fasthash_codes queries, int32_t radius,
                                            const fasthash_filter* filter, fasthash_range_result** result) {
    return search_range<OwnedRangeResult>(index, queries, result, [&](const Index& core, CodeView asked) {
        return core.range_search(asked, radius, core_of(filter), nullptr);
    });
}

void fasthash_range_result_free(fasthash_range_result* result) { delete static_cast<OwnedRangeResult*>(result); }

fasthash_status fasthash_index_count_within(const fasthash_index* index, fasthash_codes queries, int32_t radius,
                                            const fasthash_filter* filter, int64_t* counts) {
    return count_range(index, queries, counts, [&](const Index& core, CodeView asked) {
        core.count_within(asked, radius, core_of(filter), counts);
    });
}

fasthash_status fasthash_index_search_jaccard(const fasthash_index* index, fasthash_codes queries, size_t k,
                                              const fasthash_filter* filter, float* distances, int64_t* ids) {
    return search(index, queries, k, distances, ids, [&](const Index& core, CodeView asked) {
        core.search_jaccard(asked, k, core_of(filter), distances, ids, nullptr);
    });
}

fasthash_status fasthash_index_range_search_jaccard(const fasthash_index* index, fasthash_codes queries, double radius,
                                                    const fasthash_filter* filter,
                                                    fasthash_jaccard_range_result** result) {
    return search_range<OwnedJaccardRangeResult>(index, queries, result, [&](const Index& core, CodeView asked) {
        return core.range_search_jaccard(asked, radius, core_of(filter), nullptr);
    });
}

void fasthash_jaccard_range_result_free(fasthash_jaccard_range_result* result) {
    delete static_cast<OwnedJaccardRangeResult*>(result);
}

fasthash_status fasthash_index_count_within_jaccard(const fasthash_index* index, fasthash_codes queries, double radius,
                                                    const fasthash_filter* filter, int64_t* counts) {
    return count_range(index, queries, counts, [&](const Index& core, CodeView asked) {
        core.count_within_jaccard(asked, radius, core_of(filter), counts);
    });
}

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
