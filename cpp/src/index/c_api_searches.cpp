// The searches of the C interface (fasthash.h): checks their arguments and calls the core.
#include <optional>
#include <string>
#include <utility>

#include "fasthash/hier_index.h"
#include "index/c_api_calls.h"

using namespace fasthash;
using namespace fasthash::c_api;

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

const IdFilter* core_of(const fasthash_filter* filter) { return filter == nullptr ? nullptr : filter->core.get(); }

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

extern "C" {

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

}  // extern "C"
