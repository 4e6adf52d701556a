// Tests of the C interface by Jaccard distance: results against fractions in plain loops, files, and every refusal.
#include <cmath>
#include <cstring>

#include "fasthash/fasthash.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "c_api_jaccard_test";

namespace {

constexpr std::size_t kWidth = 8;
constexpr std::size_t kBits[] = {kWidth * 8};

std::mt19937 generator(1);

struct Free {
    void operator()(fasthash_index* index) const { fasthash_index_free(index); }
    void operator()(fasthash_filter* filter) const { fasthash_filter_free(filter); }
    void operator()(fasthash_jaccard_range_result* result) const { fasthash_jaccard_range_result_free(result); }
};
using IndexHandle = std::unique_ptr<fasthash_index, Free>;
using FilterHandle = std::unique_ptr<fasthash_filter, Free>;
using RangeHandle = std::unique_ptr<fasthash_jaccard_range_result, Free>;

void ok(fasthash_status status) { check(status == FASTHASH_OK, fasthash_last_error()); }

void refused(fasthash_status status, const std::string& text) {
    const std::string message = fasthash_last_error();
    check(status == FASTHASH_ERROR_ARGUMENT, "status " + std::to_string(status) + " instead of " + text);
    check(message.find(text) != std::string::npos, "not \"" + text + "\" but: " + message);
}

IndexHandle made(std::int32_t kind, std::int32_t metric = FASTHASH_JACCARD) {
    fasthash_index* index = nullptr;
    ok(kind == FASTHASH_FLAT ? fasthash_flat_create_with_metric(kBits[0], metric, &index)
                             : fasthash_hier_create_with_metric(kBits, 1, FASTHASH_MEMORY_DEFAULT, metric, &index));
    return IndexHandle(index);
}

fasthash_codes codes_of(const std::vector<std::uint8_t>& bytes) {
    return {bytes.data(), bytes.size() / kWidth, kWidth};
}

// ---- the slow path ----

struct Entry {
    std::int64_t differing;
    std::int64_t united;
    std::int64_t id;

    float distance() const { return static_cast<float>(differing) / static_cast<float>(united); }
    bool operator<(const Entry& other) const {
        const std::int64_t a = differing * other.united, b = other.differing * united;
        return a != b ? a < b : id < other.id;
    }
};

// The entries of all ids, which are the rows of the codes, in order.
std::vector<Entry> ranked(const std::uint8_t* query, const std::vector<std::uint8_t>& bytes,
                          const std::vector<std::int64_t>& ids) {
    std::vector<Entry> entries;
    for (const std::int64_t id : ids) {
        Entry entry{0, 0, id};
        for (std::size_t i = 0; i < kWidth; ++i) {
            const unsigned a = query[i], b = bytes[static_cast<std::size_t>(id) * kWidth + i];
            for (unsigned bit = 1; bit < 256; bit *= 2) {
                entry.differing += ((a ^ b) & bit) != 0;
                entry.united += ((a | b) & bit) != 0;
            }
        }
        if (entry.united == 0) entry.united = 1;
        entries.push_back(entry);
    }
    std::sort(entries.begin(), entries.end());
    return entries;
}

void check_searches(const fasthash_index* index, const std::vector<std::uint8_t>& bytes,
                    const std::vector<std::int64_t>& ids, const fasthash_filter* filter) {
    std::vector<std::uint8_t> asked = random_codes(4 * kWidth, generator);
    std::fill(asked.begin(), asked.begin() + kWidth, std::uint8_t{0});
    const fasthash_codes queries = codes_of(asked);
    for (const std::size_t k : {std::size_t{1}, std::size_t{9}, ids.size() + 3}) {
        std::vector<float> distances(queries.n * k);
        std::vector<std::int64_t> found(queries.n * k);
        ok(fasthash_index_search_jaccard(index, queries, k, filter, distances.data(), found.data()));
        for (std::size_t q = 0; q < queries.n; ++q) {
            const std::vector<Entry> expected = ranked(asked.data() + q * kWidth, bytes, ids);
            for (std::size_t i = 0; i < k; ++i) {
                const bool there = i < expected.size();
                check(found[q * k + i] == (there ? expected[i].id : -1), "id");
                check(distances[q * k + i] == (there ? expected[i].distance() : INFINITY), "distance");
            }
        }
    }
    for (const double radius : {0., 1. / 3, .5, .9, 1., 7.}) {
        fasthash_jaccard_range_result* out = nullptr;
        ok(fasthash_index_range_search_jaccard(index, queries, radius, filter, &out));
        const RangeHandle result(out);
        std::int64_t counts[4];
        ok(fasthash_index_count_within_jaccard(index, queries, radius, filter, counts));
        check(out->n == queries.n && out->offsets[0] == 0, "offsets");
        for (std::size_t q = 0; q < queries.n; ++q) {
            std::int64_t at = out->offsets[q];
            for (const Entry& entry : ranked(asked.data() + q * kWidth, bytes, ids)) {
                if (entry.distance() > static_cast<float>(radius)) break;
                check(at < out->offsets[q + 1], "an entry within the radius is missing");
                check(out->ids[at] == entry.id && out->distances[at] == entry.distance(), "entry within");
                ++at;
            }
            check(at == out->offsets[q + 1] && counts[q] == at - out->offsets[q], "number within");
        }
    }
}

void test_results(std::int32_t kind) {
    const IndexHandle index = made(kind);
    check(fasthash_index_metric(index.get()) == FASTHASH_JACCARD && fasthash_index_kind(index.get()) == kind, "kind");
    std::vector<std::uint8_t> bytes = random_codes(700 * kWidth, generator);
    std::fill(bytes.begin(), bytes.begin() + 2 * kWidth, std::uint8_t{0});  // two empty codes
    check_searches(index.get(), bytes, {}, nullptr);
    ok(fasthash_index_add(index.get(), codes_of(bytes), nullptr));
    std::vector<std::int64_t> ids, even;
    const std::int64_t gone[] = {7, 8, 600};
    ok(fasthash_index_remove(index.get(), gone, 3));
    for (std::int64_t id = 0; id < 700; ++id) {
        if (std::find(gone, gone + 3, id) != gone + 3) continue;
        ids.push_back(id);
        if (id % 2 == 0) even.push_back(id);
    }
    fasthash_filter* made_filter = nullptr;
    ok(fasthash_filter_create(even.data(), even.size(), &made_filter));
    const FilterHandle filter(made_filter);
    const std::string path = std::string(kTestName) + ".fh";
    ok(fasthash_index_save_with_id_map(index.get(), path.c_str()));
    fasthash_file_info info;
    ok(fasthash_peek(path.c_str(), &info));
    check(info.metric == FASTHASH_JACCARD && info.n_codes == ids.size(), "peek");
    check_searches(index.get(), bytes, ids, nullptr);
    check_searches(index.get(), bytes, even, filter.get());
    for (const bool mapped : {false, true}) {
        fasthash_index* loaded = nullptr;
        ok(fasthash_index_load(path.c_str(), mapped, &loaded));
        const IndexHandle other(loaded);
        check(fasthash_index_metric(loaded) == FASTHASH_JACCARD, "metric of a file");
        check_searches(loaded, bytes, ids, nullptr);
        ok(fasthash_index_compact(loaded));
        fasthash_index* copied = nullptr;
        ok(fasthash_index_copy(loaded, &copied));
        check_searches(IndexHandle(copied).get(), bytes, even, filter.get());
    }
    const IndexHandle empty = made(kind, FASTHASH_HAMMING);
    check(fasthash_index_metric(empty.get()) == FASTHASH_HAMMING, "metric");
    ok(fasthash_index_save(empty.get(), path.c_str()));
    ok(fasthash_peek(path.c_str(), &info));
    check(info.metric == FASTHASH_HAMMING, "peek of another metric");
    std::remove(path.c_str());
}

void test_refusals() {
    fasthash_index* index = nullptr;
    const std::size_t levels[] = {8, 16};
    refused(fasthash_flat_create_with_metric(64, 2, &index), "metric must be from 0 to 1, got 2");
    refused(fasthash_flat_create_with_metric(64, -1, &index), "metric must be from 0 to 1, got -1");
    refused(fasthash_hier_create_with_metric(kBits, 1, 0, 2, &index), "metric must be from 0 to 1, got 2");
    refused(fasthash_hier_create_with_metric(kBits, 1, 3, 1, &index), "memory must be from 0 to 2, got 3");
    refused(fasthash_hier_create_with_metric(levels, 2, 0, FASTHASH_JACCARD, &index),
            "level_bits must be one level with the metric jaccard, got (8, 16)");
    refused(fasthash_flat_create_with_metric(0, 1, &index), "n_bits must be from 1 to 4096, got 0");
    check(index == nullptr, "no index comes from a refused call");
    refused(fasthash_flat_create_with_metric(64, 1, nullptr), "index must not be null");
    refused(fasthash_hier_create_with_metric(kBits, 1, 0, 1, nullptr), "index must not be null");

    const IndexHandle jaccard = made(FASTHASH_FLAT), hamming = made(FASTHASH_FLAT, FASTHASH_HAMMING);
    const std::vector<std::uint8_t> bytes = random_codes(2 * kWidth, generator);
    const fasthash_codes two = codes_of(bytes), narrow{bytes.data(), 2, kWidth - 1}, none{nullptr, 1, kWidth};
    float near[2];
    std::int32_t bits[2];
    std::int64_t ids[2];
    fasthash_jaccard_range_result* range = reinterpret_cast<fasthash_jaccard_range_result*>(&range);
    fasthash_range_result* range_in_bits = nullptr;

    const char* const needs_hamming = "index measures Jaccard distance; this search needs one with the metric hamming";
    refused(fasthash_index_search(jaccard.get(), two, 1, nullptr, bits, ids), needs_hamming);
    refused(fasthash_index_search_pruned(jaccard.get(), two, 1, .5, 0, nullptr, bits, ids), needs_hamming);
    refused(fasthash_index_range_search(jaccard.get(), two, 1, nullptr, &range_in_bits), needs_hamming);
    refused(fasthash_index_count_within(jaccard.get(), two, 1, nullptr, ids), needs_hamming);
    const char* const needs_jaccard = "index measures Hamming distance; this search needs one with the metric jaccard";
    refused(fasthash_index_search_jaccard(hamming.get(), two, 1, nullptr, near, ids), needs_jaccard);
    refused(fasthash_index_range_search_jaccard(hamming.get(), two, 1, nullptr, &range), needs_jaccard);
    check(range == nullptr, "no result comes from a refused call");
    refused(fasthash_index_count_within_jaccard(hamming.get(), two, 1, nullptr, ids), needs_jaccard);
    refused(fasthash_index_merge(hamming.get(), jaccard.get()), "other must have the metric hamming, has jaccard");

    const fasthash_index* each = jaccard.get();
    refused(fasthash_index_search_jaccard(each, two, 0, nullptr, near, ids), "k must be at least 1, got 0");
    refused(fasthash_index_search_jaccard(each, two, std::size_t{1} << 31, nullptr, near, ids), "k must be at most");
    refused(fasthash_index_search_jaccard(each, two, 1, nullptr, nullptr, ids), "distances must not be null");
    refused(fasthash_index_search_jaccard(each, two, 1, nullptr, near, nullptr), "ids must not be null");
    refused(fasthash_index_search_jaccard(each, none, 1, nullptr, near, ids), "queries must not be null");
    refused(fasthash_index_search_jaccard(each, narrow, 1, nullptr, near, ids), "queries");
    refused(fasthash_index_range_search_jaccard(each, two, -.5, nullptr, &range),
            "radius must be at least 0, got -0.5");
    refused(fasthash_index_range_search_jaccard(each, two, -0.12345678, nullptr, &range),
            "radius must be at least 0, got -0.12345678");
    refused(fasthash_index_range_search_jaccard(each, two, NAN, nullptr, &range), "radius must be at least 0, got nan");
    refused(fasthash_index_range_search_jaccard(each, two, 1, nullptr, nullptr), "result must not be null");
    refused(fasthash_index_count_within_jaccard(each, two, -1, nullptr, ids), "radius must be at least 0, got -1");
    refused(fasthash_index_count_within_jaccard(each, two, 1, nullptr, nullptr), "counts must not be null");
    refused(fasthash_index_search_jaccard(nullptr, two, 1, nullptr, near, ids), "index must not be null");
    refused(fasthash_index_range_search_jaccard(nullptr, two, 1, nullptr, &range), "index must not be null");
    refused(fasthash_index_count_within_jaccard(nullptr, two, 1, nullptr, ids), "index must not be null");
    check(fasthash_index_metric(nullptr) == 0, "0 for null");
    fasthash_jaccard_range_result_free(nullptr);
    ok(fasthash_index_range_search_jaccard(each, {nullptr, 0, kWidth}, INFINITY, nullptr, &range));
    check(range->n == 0 && range->offsets[0] == 0, "no queries");
    fasthash_jaccard_range_result_free(range);
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_results(FASTHASH_FLAT);
    test_results(FASTHASH_HIER);
    test_refusals();
    std::puts("c_api_jaccard_test: all passed");
}
