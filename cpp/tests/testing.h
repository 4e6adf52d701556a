// Shared by the tests of the core: checks, random codes, and PlainIndex, an index of plain loops as the reference.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "fasthash/error.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "fasthash/id_filter.h"

namespace fasthash::testing {

/// Of the test; each defines its own.
extern const char* const kTestName;

[[noreturn]] inline void fail(const std::string& what) {
    std::printf("%s: FAILED: %s\n", kTestName, what.c_str());
    std::fflush(stdout);
    std::abort();
}

inline void check(bool condition, const char* what) {
    if (!condition) fail(what);
}

inline void check(bool condition, const std::string& what) { check(condition, what.c_str()); }

/// Expects an error whose message holds a text.
template <typename Error, typename Call>
void check_throws(Call call, const std::string& text) {
    try {
        call();
    } catch (const Error& error) {
        check(std::string(error.what()).find(text) != std::string::npos, error.what());
        return;
    }
    fail("no error: " + text);
}

/// Few values: ties and equal codes.
inline std::vector<std::uint8_t> random_codes(std::size_t n_bytes, std::mt19937& generator, unsigned n_values = 4) {
    std::vector<std::uint8_t> bytes(n_bytes);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(generator() % n_values);
    return bytes;
}

inline CodeView view(const std::vector<std::uint8_t>& codes, std::size_t n_bytes) {
    return {codes.data(), codes.size() / n_bytes, n_bytes};
}

inline std::int32_t hamming(const std::uint8_t* a, const std::uint8_t* b, std::size_t n_bytes) {
    std::int32_t distance = 0;
    for (std::size_t i = 0; i < n_bytes; ++i) {
        for (unsigned difference = a[i] ^ b[i]; difference != 0; difference &= difference - 1) ++distance;
    }
    return distance;
}

struct Found {
    std::vector<std::int32_t> distances;
    std::vector<std::int64_t> ids;

    bool operator==(const Found& other) const { return distances == other.distances && ids == other.ids; }
    bool operator!=(const Found& other) const { return !(*this == other); }
};

inline Found search(const Index& index, CodeView queries, std::size_t k, const IdFilter* filter = nullptr,
                    std::optional<Pruning> pruning = std::nullopt) {
    Found found{std::vector<std::int32_t>(queries.n * k), std::vector<std::int64_t>(queries.n * k)};
    index.search(queries, k, pruning, filter, found.distances.data(), found.ids.data(), nullptr);
    return found;
}

/// Codes by their ids.
class PlainIndex {
 public:
    explicit PlainIndex(std::size_t n_bytes) : n_bytes_(n_bytes) {}

    std::size_t n_bytes() const { return n_bytes_; }
    std::size_t size() const { return codes_.size(); }
    bool contains(std::int64_t id) const { return codes_.count(id) > 0; }
    std::uint64_t next_id() const { return next_id_; }
    const std::map<std::int64_t, std::vector<std::uint8_t>>& codes() const { return codes_; }
    std::vector<std::int64_t> ids() const {
        std::vector<std::int64_t> all;
        for (const auto& entry : codes_) all.push_back(entry.first);
        return all;
    }

    void add(CodeView codes, const std::int64_t* ids = nullptr) {
        for (std::size_t i = 0; i < codes.n; ++i) {
            put(ids == nullptr ? static_cast<std::int64_t>(next_id_) : ids[i], codes.row(i));
        }
    }
    void remove(const std::vector<std::int64_t>& ids) {
        for (const std::int64_t id : ids) codes_.erase(id);
    }
    void update(const std::vector<std::int64_t>& ids, CodeView codes) {
        for (std::size_t i = 0; i < codes.n; ++i) put(ids[i], codes.row(i));
    }

    /// Everything, or what a filter allows, by (distance, id).
    Found ranking(const std::uint8_t* query, const IdFilter* filter = nullptr) const {
        std::vector<std::pair<std::int32_t, std::int64_t>> pairs;
        for (const auto& [id, code] : codes_) {
            if (filter != nullptr && !std::binary_search(filter->ids().begin(), filter->ids().end(), id)) continue;
            pairs.emplace_back(hamming(query, code.data(), n_bytes_), id);
        }
        std::sort(pairs.begin(), pairs.end());
        Found ranked;
        for (const auto& [distance, id] : pairs) {
            ranked.distances.push_back(distance);
            ranked.ids.push_back(id);
        }
        return ranked;
    }

 private:
    void put(std::int64_t id, const std::uint8_t* code) {
        codes_[id].assign(code, code + n_bytes_);
        if (id >= 0) next_id_ = std::max(next_id_, static_cast<std::uint64_t>(id) + 1);
    }

    std::size_t n_bytes_;
    std::map<std::int64_t, std::vector<std::uint8_t>> codes_;
    std::uint64_t next_id_ = 0;
};

/// The first `n` of a ranking, padded as a search pads them.
inline Found first_of(const Found& ranking, std::size_t n, std::size_t n_bytes) {
    Found first = ranking;
    first.distances.resize(n, static_cast<std::int32_t>(n_bytes * 8) + 1);
    first.ids.resize(n, -1);
    return first;
}

/// What an index must answer that holds the same as an index of plain loops, without a filter and with some.
class Expected {
 public:
    /// The queries must outlive it. Makes filters of few ids, of most, of none, and one that is kept between searches.
    Expected(const PlainIndex& plain, CodeView queries) : plain_(plain), queries_(queries) {
        const std::vector<std::int64_t> ids = plain.ids();
        std::vector<std::int64_t> few, most;
        for (std::size_t i = 0; i < ids.size(); ++i) {
            if (i % 97 == 5) few.push_back(ids[i]);
            if (i % 3 != 0) most.push_back(ids[i]);
        }
        few.push_back(-7);  // which is not there
        join("", nullptr);
        join(", of no ids", std::make_unique<IdFilter>(std::vector<std::int64_t>()));
        join(", of few ids", std::make_unique<IdFilter>(few));
        join(", of most ids", std::make_unique<IdFilter>(most));
        join(", of few ids, kept", std::make_unique<IdFilter>(few));
        searches_.back().filter->set_reusable();
        join(", of most ids, kept", std::make_unique<IdFilter>(most));
        searches_.back().filter->set_reusable();
    }
    /// With these filters instead.
    Expected(const PlainIndex& plain, CodeView queries, std::vector<std::unique_ptr<IdFilter>> filters)
        : plain_(plain), queries_(queries) {
        join("", nullptr);
        for (auto& filter : filters) join(", filtered", std::move(filter));
    }

    void check_all(const Index& index, const std::string& what) const {
        check_content(index, what);
        check_searches(index, what);
    }
    void check_searches(const Index& index, const std::string& what) const {
        for (const Search& of : searches_) {
            check_nearest(index, of, what + of.name);
            check_within(index, of, what + of.name);
        }
    }
    void check_content(const Index& index, const std::string& what) const {
        check(index.size() == plain_.size(), what + ": size");
        check(index.next_id() == plain_.next_id(), what + ": next id");
        const std::vector<std::int64_t> ids = plain_.ids();
        std::vector<std::uint8_t> codes;
        for (const auto& entry : plain_.codes()) codes.insert(codes.end(), entry.second.begin(), entry.second.end());
        const Export entries = index.export_entries();
        check(entries.ids == ids && entries.codes == codes, what + ": entries");
        std::vector<std::uint8_t> reconstructed(codes.size());
        index.reconstruct(ids.data(), ids.size(), reconstructed.data());
        check(reconstructed == codes, what + ": reconstruct");
        for (std::size_t i = 0; i < ids.size(); i += 1 + ids.size() / 16) {
            check(index.contains(ids[i]), what + ": contains");
            if (ids[i] != INT64_MAX) {
                check(index.contains(ids[i] + 1) == plain_.contains(ids[i] + 1), what + ": contains the next");
            }
        }
        check(!index.contains(-1), what + ": does not contain -1");
    }

 private:
    struct Search {
        std::string name;
        std::unique_ptr<IdFilter> filter;
        std::vector<Found> rankings;  // of each query
    };

    void join(const char* name, std::unique_ptr<IdFilter> filter) {
        Search of{name, std::move(filter), {}};
        for (std::size_t q = 0; q < queries_.n; ++q) {
            of.rankings.push_back(plain_.ranking(queries_.row(q), of.filter.get()));
        }
        searches_.push_back(std::move(of));
    }

    void check_nearest(const Index& index, const Search& of, const std::string& what) const {
        for (const std::size_t k : {std::size_t{1}, std::size_t{7}, std::size_t{60}, plain_.size() + 3}) {
            const Found found = search(index, queries_, k, of.filter.get());
            for (std::size_t q = 0; q < queries_.n; ++q) {
                const Found expected = first_of(of.rankings[q], k, plain_.n_bytes());
                const auto begin = static_cast<std::ptrdiff_t>(q * k);
                check(
                    std::equal(expected.distances.begin(), expected.distances.end(), found.distances.begin() + begin) &&
                        std::equal(expected.ids.begin(), expected.ids.end(), found.ids.begin() + begin),
                    what + ": search, k = " + std::to_string(k));
            }
        }
    }

    void check_within(const Index& index, const Search& of, const std::string& what) const {
        const auto n_bits = static_cast<std::int32_t>(plain_.n_bytes() * 8);
        for (const std::int32_t radius : {0, n_bits / 8, n_bits / 3, n_bits, INT32_MAX}) {
            const RangeResult found = index.range_search(queries_, radius, of.filter.get(), nullptr);
            std::vector<std::int64_t> counts(queries_.n);
            index.count_within(queries_, radius, of.filter.get(), counts.data());
            check(found.offsets.size() == queries_.n + 1 && found.offsets[0] == 0, what + ": offsets");
            check(found.offsets.back() == static_cast<std::int64_t>(found.ids.size()), what + ": last offset");
            for (std::size_t q = 0; q < queries_.n; ++q) {
                const auto& [distances, ids] = of.rankings[q];
                const auto n = std::upper_bound(distances.begin(), distances.end(), radius) - distances.begin();
                const std::int64_t begin = found.offsets[q];
                check(counts[q] == n && found.offsets[q + 1] == begin + n, what + ": number within a radius");
                check(std::equal(distances.begin(), distances.begin() + n, found.distances.begin() + begin) &&
                          std::equal(ids.begin(), ids.begin() + n, found.ids.begin() + begin),
                      what + ": codes within a radius");
            }
        }
    }

    const PlainIndex& plain_;
    CodeView queries_;
    std::vector<Search> searches_;
};

/// One index of every kind: hierarchical ones with every plan and every memory setting.
inline std::vector<std::unique_ptr<Index>> indices_of_every_kind(const LevelLayout& layout) {
    std::vector<std::unique_ptr<Index>> indices;
    indices.push_back(std::make_unique<FlatIndex>(layout.n_bits()));
    for (const Memory memory : {Memory::standard, Memory::compact, Memory::fast}) {
        indices.push_back(std::make_unique<HierIndex>(layout, memory));
        for (const Plan plan : {Plan::scan, Plan::prefix, Plan::multi_index, Plan::clusters}) {
            indices.push_back(std::make_unique<HierIndex>(layout, memory, plan));
        }
    }
    return indices;
}

}  // namespace fasthash::testing
