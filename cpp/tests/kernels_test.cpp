// Tests of every kernel table that this machine supports, against counting bit by bit. Inputs and outputs lie next to
// protected pages, so that an access outside them ends the test.
#include "kernels/kernels.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include "fences.h"

namespace fasthash {
namespace {

constexpr std::size_t kQueries = 26, kGroups = 9, kRows = kGroups * kGroup, kMaxBytes = 512, kOffsets = 16;

std::mt19937 generator(1);
std::size_t width = 0;  // of the codes under test

void check(bool condition, const char* what) {
    if (condition) return;
    std::printf("kernels_test: FAILED: %s (%s, %zu bytes)\n", what, simd_name(kernels().level), width);
    std::exit(1);
}

// Memory between two fences.
struct Fenced {
    static constexpr std::size_t kInside = 16 * kFence;
    std::uint8_t *begin, *end;

    Fenced() : begin(fenced(kInside)), end(begin + kInside) { check(begin != nullptr, "memory between fences"); }

    // So far behind the first fence, or so that the last of n ends at the second.
    template <typename T = std::uint8_t>
    T* place(std::size_t n, std::size_t offset = kOffsets) const {
        return offset == kOffsets ? reinterpret_cast<T*>(end) - n : reinterpret_cast<T*>(begin) + offset;
    }
};

const Fenced for_codes, for_queries, for_results;

// Queries and codes of one width, and all distances between them.
struct Data {
    std::vector<std::uint8_t> queries, codes;
    std::vector<int> distances;  // of query q to row i: q * kRows + i

    Data() : queries(kQueries * width), codes(kRows * width), distances(kQueries * kRows) {
        for (auto& byte : queries) byte = static_cast<std::uint8_t>(generator());
        for (auto& byte : codes) byte = static_cast<std::uint8_t>(generator());
        for (std::size_t i = 0; i < kRows; i += 1 + generator() % 4) place_near(i);
        for (std::size_t i = 0; i < distances.size(); ++i) {
            const std::uint8_t *a = query(i / kRows), *b = codes.data() + i % kRows * width;
            for (std::size_t bit = 0; bit < width * 8; ++bit) {
                distances[i] += ((a[bit / 8] ^ b[bit / 8]) >> bit % 8) & 1;
            }
        }
    }

    const std::uint8_t* query(std::size_t q) const { return queries.data() + q * width; }

    // Next to a query or to its opposite: the smallest and the largest distances.
    void place_near(std::size_t row) {
        const std::uint8_t* near = query(generator() % kQueries);
        const int flips = generator() % 2 ? 0xff : 0;
        for (std::size_t b = 0; b < width; ++b) codes[row * width + b] = static_cast<std::uint8_t>(near[b] ^ flips);
        codes[row * width + generator() % width] ^= static_cast<std::uint8_t>(generator() % 4);
    }
};

// Expects the rows below the threshold at the time when the kernel reached the group. It is known, since only the hits
// of a query lower its threshold.
class GroupCheck final : public GroupSink {
 public:
    std::vector<std::uint16_t> thresholds;

    GroupCheck(const Data& data, std::size_t n_queries, std::size_t n_groups, std::size_t first_threshold, bool lowers)
        : data_(data), n_groups_(n_groups), lowers_(lowers), next_(n_queries) {
        const std::size_t n_bits = width * 8, each[] = {0, 1, n_bits / 2, generator() % (n_bits + 2), n_bits + 1};
        for (std::size_t q = 0; q < n_queries; ++q) {
            thresholds.push_back(static_cast<std::uint16_t>(each[(first_threshold + q) % 5]));
        }
    }

    void take(std::size_t q, std::size_t g, std::uint64_t rows, const std::uint16_t* distances) override {
        check(q < thresholds.size() && g < n_groups_ && g >= next_[q], "scan_groups: groups of a query in order");
        pass(q, g);
        next_[q] = g + 1;
        check(rows != 0 && rows == nearer(q, g), "scan_groups: rows nearer than the threshold");
        std::uint16_t farthest = 0;
        for (; rows != 0; rows &= rows - 1) {
            const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
            check(distances[i] == group_distances(q, g)[i], "scan_groups: distance");
            farthest = std::max(farthest, distances[i]);
        }
        if (lowers_) thresholds[q] = farthest;
    }
    void finish(const std::vector<std::uint32_t>& queries) {
        for (const std::uint32_t q : queries) {
            pass(q, n_groups_);
            next_[q] = 0;
        }
        for (const std::size_t next : next_) check(next == 0, "scan_groups: no other query scans");
    }

 private:
    // The queries and groups of a scan are the last ones of all: those that end at the fence.
    const int* group_distances(std::size_t q, std::size_t g) const {
        return &data_.distances[(kQueries - thresholds.size() + q) * kRows + (kGroups - n_groups_ + g) * kGroup];
    }
    std::uint64_t nearer(std::size_t q, std::size_t g) const {
        std::uint64_t rows = 0;
        for (std::size_t i = 0; i < kGroup; ++i) rows |= std::uint64_t{group_distances(q, g)[i] < thresholds[q]} << i;
        return rows;
    }
    void pass(std::size_t q, std::size_t end) const {
        for (std::size_t g = next_[q]; g < end; ++g) check(nearer(q, g) == 0, "scan_groups: no row left out");
    }

    const Data& data_;
    std::size_t n_groups_;
    bool lowers_;
    std::vector<std::size_t> next_;  // per query: the group after the last that was handed over
};

void test_scan_groups(const Data& data) {
    const std::size_t prepared_bytes = width * kernels().prepared_bytes;
    for (std::size_t q = 0; q < kQueries; ++q) {
        kernels().prepare(data.query(q), width, for_queries.place((kQueries - q) * prepared_bytes));
    }
    for (const bool at_fence : {true, false}) {  // else without any alignment
        std::uint8_t* groups = for_codes.place(kRows * width, at_fence ? kOffsets : 1);
        for (std::size_t i = 0; i < kRows * width; ++i) {
            const std::size_t row = i / width, b = i % width;
            groups[(row / kGroup * width + b) * kGroup + row % kGroup] = data.codes[i];
        }
        for (std::size_t n_groups = at_fence ? 0 : kGroups; n_groups <= kGroups; ++n_groups) {
            constexpr std::size_t kBlocks[] = {1, 3, 11, 12, kQueries};  // about where kernels change their ways
            for (std::size_t i = 0; i < 5 * 5 * 2; ++i) {
                const std::size_t n_queries = kBlocks[i % 5];
                GroupCheck sink(data, n_queries, n_groups, i / 5 % 5, i / 5 >= 5);
                std::vector<std::uint32_t> scanning;  // all or every other one, in descending order
                for (std::size_t q = n_queries; q-- > 0;) {
                    if (i % 3 > 0 || q % 2 == 0) scanning.push_back(static_cast<std::uint32_t>(q));
                }
                kernels().scan_groups({for_queries.place(n_queries * prepared_bytes), scanning.data(), scanning.size(),
                                       sink.thresholds.data(), groups + (kGroups - n_groups) * kGroup * width, n_groups,
                                       width, &sink});
                sink.finish(scanning);
            }
        }
    }
}

// Expects the rows within the threshold in the order of the ranges.
class RowCheck final : public RowSink {
 public:
    RowCheck(const int* distances, const std::vector<RowRange>& ranges, std::int32_t threshold, bool lowers)
        : distances_(distances), threshold_(threshold), old_threshold_(threshold), lowers_(lowers) {
        for (const RowRange& range : ranges) {
            for (std::uint32_t row = range.begin; row < range.end; ++row) rows_.push_back(row);
        }
    }

    std::int32_t take(const RowHit* hits, std::size_t n) override {
        check(n > 0 && n <= kMostHits, "scan_rows: number of hits");
        // A kernel that compares eight rows at once may use the old threshold for all of them.
        const std::size_t end_of_old = next_ + 7;
        std::int32_t farthest = 0;
        for (std::size_t i = 0; i < n; ++i) {
            pass(hits[i].row);
            check(hits[i].distance == distances_[hits[i].row], "scan_rows: distance");
            check(hits[i].distance <= (next_ < end_of_old ? old_threshold_ : threshold_),
                  "scan_rows: row within the threshold");
            farthest = std::max(farthest, hits[i].distance);
            ++next_;
        }
        old_threshold_ = threshold_;
        if (lowers_) threshold_ = std::min(threshold_, farthest - 1);
        return threshold_;
    }
    void finish() { pass(UINT32_MAX); }

 private:
    void pass(std::uint32_t row) {
        for (; next_ < rows_.size() && rows_[next_] != row; ++next_) {
            check(distances_[rows_[next_]] > threshold_, "scan_rows: no row left out");
        }
        check(next_ < rows_.size() || row == UINT32_MAX, "scan_rows: rows in order");
    }

    const int* distances_;
    std::int32_t threshold_, old_threshold_;
    bool lowers_;
    std::vector<std::uint32_t> rows_;
    std::size_t next_ = 0;
};

void test_scan_rows(const Data& data) {
    constexpr std::uint32_t n = 203;  // of the rows: more than three times kMostHits
    static const std::vector<std::vector<RowRange>> each_ranges{
        {}, {{0, n}}, {{0, 0}, {n, n}}, {{n - 1, n}, {0, 1}, {5, 5}, {7, 8}, {1, 7}, {20, 37}, {90, 190}, {40, 75}}};
    const auto n_bits = static_cast<std::int32_t>(width * 8);
    std::uint8_t* query = for_queries.place(width);
    for (std::size_t offset = 0; offset <= kOffsets; ++offset) {
        const std::size_t q = offset % kQueries;
        std::memcpy(query, data.query(q), width);
        std::uint8_t* codes = for_codes.place(n * width, offset);
        std::memcpy(codes, data.codes.data(), n * width);
        for (const auto& ranges : each_ranges) {
            for (const std::int32_t threshold : {0, n_bits / 2, n_bits}) {
                for (const bool lowers : {false, true}) {
                    RowCheck sink(data.distances.data() + q * kRows, ranges, threshold, lowers);
                    kernels().scan_rows(query, codes, width, ranges.data(), ranges.size(), threshold, sink);
                    sink.finish();
                }
            }
        }
    }
}

void test_distances(const Data& data) {
    std::uint8_t* query = for_queries.place(width);
    for (std::size_t offset = 0; offset <= kOffsets; ++offset) {
        const std::size_t q = offset % kQueries;
        std::memcpy(query, data.query(q), width);
        for (std::size_t n = 0; n <= 70; ++n) {
            std::uint8_t* codes = for_codes.place(n * width, offset);
            std::memcpy(codes, data.codes.data(), n * width);
            const auto base = static_cast<std::uint16_t>(1 + n * 7);
            auto* out = for_results.place<std::uint16_t>(n);
            kernels().distances(query, codes, n, width, base, out);
            for (std::size_t i = 0; i < n; ++i) check(out[i] == base + data.distances[q * kRows + i], "distances");
        }
    }
}

std::uint8_t expected_total(const Data& data, std::size_t q, std::size_t row, const std::vector<CodePart>& parts,
                            std::size_t before, bool by_part) {
    std::size_t total = before;
    bool dropped = false;
    for (const CodePart& part : parts) {
        std::size_t distance = 0;
        for (std::size_t b = part.first_byte; b < part.first_byte + part.n_bytes; ++b) {
            for (unsigned flips = data.query(q)[b] ^ data.codes[row * width + b]; flips != 0; flips &= flips - 1) {
                ++distance;
            }
        }
        total += distance;
        dropped = dropped || (by_part ? distance : total) > part.cut;
    }
    return dropped ? kDropped : static_cast<std::uint8_t>(total);
}

// Two runs with a gap, and one after another; their last groups are whole or not.
const std::vector<CodeRun> kRuns{{0, 2 * kGroup, 0}, {3, kGroup + 1, 3}, {5, 4 * kGroup - 5, 1}};
constexpr std::uint8_t kUnset = 77;  // what follows the totals

// The totals that scan_parts should set for kRuns, one run after the other.
std::vector<std::uint8_t> expected_totals(const Data& data, std::size_t q, const std::vector<CodePart>& parts,
                                          bool by_part) {
    std::vector<std::uint8_t> totals;
    for (const CodeRun& run : kRuns) {
        const std::size_t first = run.first_group * kGroup;
        for (std::size_t i = 0; i < groups_of(run) * kGroup; ++i) {
            totals.push_back(i < run.n_codes ? expected_total(data, q, first + i, parts, run.before, by_part)
                                             : kDropped);
        }
    }
    totals.resize(kRows, kUnset);
    return totals;
}

// The weights of the codes of kRuns, in the order of their totals.
std::vector<std::uint8_t> weights_of_totals(const std::vector<std::uint8_t>& weights) {
    std::vector<std::uint8_t> ordered;
    for (const CodeRun& run : kRuns) {
        const auto first = weights.begin() + static_cast<std::ptrdiff_t>(run.first_group * kGroup);
        ordered.insert(ordered.end(), first, first + static_cast<std::ptrdiff_t>(groups_of(run) * kGroup));
    }
    return ordered;
}

void compare_totals(const std::vector<std::uint8_t>& totals, const std::uint8_t* placed, const std::uint8_t* weights,
                    std::size_t n_groups, std::uint8_t first, std::uint8_t last) {
    std::size_t n_at_most = 0, weight = 0;
    std::vector<std::uint32_t> expected;
    for (std::size_t i = 0; i < n_groups * kGroup; ++i) {
        n_at_most += totals[i] <= last;
        weight += totals[i] <= last ? weights[i] : 0u;
        if (totals[i] >= first && totals[i] <= last) expected.push_back(static_cast<std::uint32_t>(i));
    }
    auto* positions = for_results.place<std::uint32_t>(expected.size());
    check(kernels().count_at_most(placed, n_groups, last) == n_at_most, "count_at_most");
    check(kernels().sum_at_most(placed, weights, n_groups, last) == weight, "sum_at_most");
    check(kernels().find_between(placed, n_groups, first, last, positions) == expected.size(), "find_between: number");
    check(std::equal(expected.begin(), expected.end(), positions), "find_between: positions");
}

// The codes of the groups, byte by byte.
std::uint8_t* placed_groups(const Data& data) {
    std::uint8_t* groups = for_codes.place(kRows * width);
    for (std::size_t i = 0; i < kRows * width; ++i) {
        const std::size_t row = i / width, b = i % width;
        groups[(row / kGroup * width + b) * kGroup + row % kGroup] = data.codes[i];
    }
    return groups;
}

// Compares some parts first, and goes on with the others, with the cut of the last part in between.
void test_going_on(const std::uint8_t* groups, const std::uint8_t* prepared, const std::vector<CodePart>& parts,
                   const std::vector<std::uint8_t>& expected) {
    std::ptrdiff_t n_totals = 0;
    for (const CodeRun& run : kRuns) n_totals += static_cast<std::ptrdiff_t>(groups_of(run) * kGroup);
    for (std::size_t n_before = 1; n_before < parts.size(); ++n_before) {
        std::vector<CodePart> before(parts.data(), parts.data() + n_before);
        std::vector<CodePart> after(parts.data() + n_before, parts.data() + parts.size());
        const std::uint8_t cut_before = std::exchange(before.back().cut, kDropped);
        const std::size_t first = after[0].first_byte;
        for (CodePart& part : after) part.first_byte -= first;
        std::uint8_t* totals = for_results.place(kRows);
        std::fill_n(totals, kRows, kUnset);
        kernels().scan_parts(
            {prepared, groups, width, kRuns.data(), kRuns.size(), before.data(), before.size(), false, totals},
            nullptr);
        TotalCount count{nullptr, 1, {cut_before, 3}, {0, 0}};
        kernels().scan_parts({prepared + first * kernels().prepared_bytes, groups + first * kGroup, width, kRuns.data(),
                              kRuns.size(), after.data(), after.size(), false, totals, true, cut_before},
                             &count);
        check(std::equal(expected.begin(), expected.end(), totals), "scan_parts that goes on: totals");
        for (std::size_t j = 0; j < 2; ++j) {
            const auto is_within = [&](std::uint8_t total) { return total <= count.largest[j]; };
            const auto n_within = std::count_if(expected.begin(), expected.begin() + n_totals, is_within);
            check(count.counts[j] == static_cast<std::uint64_t>(n_within), "scan_parts that goes on: counts");
        }
    }
}

// Listed groups in place of runs, the last one whole or not: their totals, and those found or counted. The comparison
// may go on after the first part, which may be all.
void test_list(const Data& data, std::size_t q, const std::uint8_t* groups, const std::uint8_t* prepared,
               const std::vector<CodePart>& parts, const std::vector<std::uint8_t>& weights) {
    std::vector<std::uint32_t> listed;
    for (std::uint32_t g = 0; g < kGroups; ++g) {
        if (generator() % 2 == 0) listed.push_back(g);
    }
    if (listed.empty()) listed.push_back(static_cast<std::uint32_t>(kGroups - 1));
    const std::size_t n_last = 1 + generator() % (2 * kGroup);  // codes from the last listed group on
    const GroupList list{listed.data(), listed.size(), listed.back() * kGroup + n_last};
    std::vector<std::uint8_t> expected(kRows, kUnset);
    for (std::size_t i = 0; i < listed.size() * kGroup; ++i) {
        const std::size_t row = listed[i / kGroup] * kGroup + i % kGroup;
        expected[i] = row < list.n_codes ? expected_total(data, q, row, parts, 0, false) : kDropped;
    }
    for (const bool goes_on : {false, true}) {
        std::uint8_t* totals = for_results.place(kRows);
        std::fill_n(totals, kRows, kUnset);
        std::vector<CodePart> after(parts.begin() + (goes_on ? 1 : 0), parts.end());
        const std::size_t first = after.empty() ? 0 : after[0].first_byte;
        if (goes_on) {
            CodePart before = parts[0];
            before.cut = kDropped;
            PartScan scan{prepared, groups, width, nullptr, 0, &before, 1, false, totals};
            scan.list = list;
            kernels().scan_parts(scan, nullptr);
            for (CodePart& part : after) part.first_byte -= first;
        }
        PartScan scan{prepared + first * kernels().prepared_bytes,
                      groups + first * kGroup,
                      width,
                      nullptr,
                      0,
                      after.data(),
                      after.size(),
                      false,
                      totals,
                      goes_on};
        if (goes_on) scan.cut_before = parts[0].cut;
        scan.list = list;
        const bool counts = generator() % 2 == 0, weighed = generator() % 2 == 0;
        TotalCount count{weighed ? weights.data() : nullptr, 255, {parts[0].cut, 3}, {0, 0}};
        std::vector<std::uint64_t> found(kGroups, kUnset);
        if (!counts) scan.found = found.data();
        scan.largest_found = parts[0].cut;
        kernels().scan_parts(scan, counts ? &count : nullptr);
        check(std::equal(expected.begin(), expected.end(), totals), "scan_parts of a list: totals");
        for (std::size_t g = 0; g < kGroups; ++g) {
            std::uint64_t within = g < listed.size() && !counts ? 0 : kUnset;
            for (std::size_t i = 0; i < kGroup && g < listed.size() && !counts; ++i) {
                within |= std::uint64_t{expected[g * kGroup + i] <= scan.largest_found} << i;
            }
            check(found[g] == within, "scan_parts of a list: found");
        }
        for (std::size_t j = 0; j < 2 && counts; ++j) {
            std::uint64_t sum = 0;
            for (std::size_t i = 0; i < listed.size() * kGroup; ++i) {
                const std::size_t row = listed[i / kGroup] * kGroup + i % kGroup;
                if (expected[i] <= count.largest[j]) sum += weighed ? weights[row] : 1u;
            }
            check(count.counts[j] == sum, "scan_parts of a list: counts");
        }
    }
}

// Runs of codes in one part, in two, in three or whole, with cuts from none to all codes.
void test_parts(const Data& data) {
    if (width < 2 || width > kMostPartBytes) return;
    const std::uint8_t* groups = placed_groups(data);
    std::vector<std::uint8_t> weights(kRows);
    const auto most_weight = static_cast<std::uint8_t>(generator() % 2 == 0 ? 255 : 1 + generator() % 3);
    for (std::uint8_t& weight : weights) weight = static_cast<std::uint8_t>(generator() % (most_weight + 1u));
    const std::vector<std::uint8_t> ordered = weights_of_totals(weights);
    const std::size_t first = width == 7 ? 2 : width == 3 || width == 8 ? 1 : 1 + generator() % (width - 1);
    const std::size_t second = width == 8 ? 2 : 1 + generator() % (width - first);  // 1, 2 and 5 bytes are usual levels
    for (const int share : {0, 3, 5, 8}) {                                          // of the bits, in eighths
        for (const bool by_part : {false, true}) {
            const auto cut = [&](std::size_t n_bytes) { return static_cast<std::uint8_t>(n_bytes * share); };
            const auto cut_of = [&](std::size_t n_bytes, std::size_t end) { return cut(by_part ? n_bytes : end); };
            const std::vector<CodePart> parts{{0, first, cut(first)},
                                              {first, width - first, cut_of(width - first, width)}};
            const std::size_t rest = width - first - second;
            std::vector<CodePart> three{parts[0], {first, second, cut_of(second, first + second)}};
            if (rest > 0) three.push_back({first + second, rest, share == 5 ? kDropped : cut_of(rest, width)});
            for (std::size_t q = 0; q < kQueries; ++q) {
                std::uint8_t* prepared = for_queries.place(width * kernels().prepared_bytes);
                kernels().prepare(data.query(q), width, prepared);
                for (const std::vector<CodePart>& used :
                     {std::vector<CodePart>{parts[0]}, parts, three, std::vector<CodePart>{{0, width, cut(width)}}}) {
                    const bool weighed = used.size() > 1;
                    const std::vector<std::uint8_t> expected = expected_totals(data, q, used, by_part);
                    std::uint8_t* totals = for_results.place(kRows);
                    std::fill_n(totals, kRows, kUnset);
                    const PartScan scan{prepared,    groups,      width,   kRuns.data(), kRuns.size(),
                                        used.data(), used.size(), by_part, totals};
                    TotalCount count{weighed ? weights.data() : nullptr, most_weight, {parts[0].cut, 3}, {5, 7}};
                    kernels().scan_parts(scan, share == 3 ? nullptr : &count);
                    check(std::equal(expected.begin(), expected.end(), totals), "scan_parts: totals");
                    for (std::size_t j = 0; j < 2 && share != 3; ++j) {
                        std::uint64_t sum = j == 0 ? 5 : 7;
                        for (std::size_t i = 0; i < ordered.size(); ++i) {
                            if (expected[i] <= count.largest[j]) sum += weighed ? ordered[i] : 1u;
                        }
                        check(count.counts[j] == sum, "scan_parts: counts");
                    }
                    const std::vector<std::uint8_t> placed(totals, totals + kRows);
                    if (!by_part) test_going_on(groups, prepared, used, expected);
                    if (!by_part) test_list(data, q, groups, prepared, used, weights);
                    compare_totals(expected, placed.data(), weights.data(), kGroups, 0, cut(width));
                    compare_totals(expected, placed.data(), weights.data(), kGroups - 1, cut(first), cut(width));
                }
            }
        }
    }
}

// Expects the near codes within the threshold, which it lowers; those compared before may still arrive.
class ThreePartCheck final : public ThreePartSink {
 public:
    using Totals = std::vector<std::vector<std::uint8_t>>;  // of each query, kDropped where a code is left out

    ThreePartCheck(const Totals& prefix_totals, const Totals& totals, const std::vector<ThreePartQuery>& queries)
        : prefix_totals_(prefix_totals), totals_(totals), queries_(queries), next_(queries.size()) {
        for (const ThreePartQuery& query : queries) first_thresholds_.push_back(query.threshold);
    }

    void take(ThreePartQuery& query, std::size_t group, std::uint64_t rows, const std::uint8_t* prefix_totals,
              const std::uint8_t* totals) override {
        const auto q = static_cast<std::size_t>(&query - queries_.data());
        expect_none(q, group);
        const std::uint64_t least = rows_within(q, group, query.threshold);
        check(rows != 0 && (rows & ~rows_within(q, group, first_thresholds_[q])) == 0,
              "scan_three_parts: a row beyond");
        check((least & ~rows) == 0, "scan_three_parts: a row left out");
        for (; rows != 0; rows &= rows - 1) {
            const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
            check(totals[i] == totals_[q][group * kGroup + i], "scan_three_parts: total");
            check(prefix_totals[i] == prefix_totals_[q][group * kGroup + i],
                  "scan_three_parts: total over the first two parts");
        }
        next_[q] = group + 1;
        if (query.threshold > 0) query.threshold = static_cast<std::uint8_t>(query.threshold - generator() % 2);
    }
    void expect_none(std::size_t q, std::size_t end) {
        check(next_[q] <= end, "scan_three_parts: groups in order");
        for (; next_[q] < end; ++next_[q]) {
            check(rows_within(q, next_[q], queries_[q].threshold) == 0, "scan_three_parts: a group left out");
        }
    }

 private:
    std::uint64_t rows_within(std::size_t q, std::size_t group, std::uint8_t threshold) const {
        std::uint64_t rows = 0;
        for (std::size_t i = 0; i < kGroup && (queries_[q].wanted >> group & 1) != 0; ++i) {
            rows |= std::uint64_t{totals_[q][group * kGroup + i] <= threshold} << i;
        }
        return rows;
    }

    const Totals &prefix_totals_, &totals_;
    const std::vector<ThreePartQuery>& queries_;
    std::vector<std::uint8_t> first_thresholds_;
    std::vector<std::size_t> next_;
};

void test_three_parts(const Data& data) {
    if (width < 3 || width > kMostPartBytes) return;
    const std::uint8_t* groups = placed_groups(data);
    std::uint8_t* weights = for_queries.place(kRows);
    const std::size_t first = width == 8 ? 1 : 1 + generator() % (width - 2);  // 1, 2 and 5 bytes are usual levels
    const std::size_t second = width == 8 ? 2 : 1 + generator() % (width - first - 1);
    // Small weights may be added up in bytes.
    for (const unsigned most_weight : {1u, 3u, 255u}) {
        for (std::size_t i = 0; i < kRows; ++i) weights[i] = static_cast<std::uint8_t>(generator() % (most_weight + 1));
        const std::size_t n_counted = 1 + generator() % 2;
        ThreePartCheck::Totals prepared(kQueries), prefix_totals(kQueries), totals(kQueries);
        std::vector<ThreePartQuery> queries(kQueries);
        std::vector<ThreePartQuery*> wanted;
        for (std::size_t q = 0; q < kQueries; ++q) {
            const auto first_cut = static_cast<std::uint8_t>(generator() % (first * 8 + 1));
            const std::vector<CodePart> two{{0, first, first_cut}, {first, second, kDropped}};
            const std::vector<CodePart> all_parts{two[0], {first, width - first, kDropped}};
            for (std::size_t row = 0; row < kRows; ++row) {
                prefix_totals[q].push_back(expected_total(data, q, row, two, 0, false));
                totals[q].push_back(expected_total(data, q, row, all_parts, 0, false));
            }
            prepared[q].resize(width * kernels().prepared_bytes);
            kernels().prepare(data.query(q), width, prepared[q].data());
            const std::uint64_t all = kGroups < 64 ? (std::uint64_t{1} << kGroups) - 1 : ~std::uint64_t{0};
            const auto largest = static_cast<std::uint8_t>(1 + generator() % ((first + second) * 8));
            queries[q] = {prepared[q].data(),
                          (q % 4 == 0 ? ~std::uint64_t{0} : generator()) & all,
                          first_cut,
                          static_cast<std::uint8_t>(generator() % (width * 8)),
                          {largest, static_cast<std::uint8_t>(largest - 1)},
                          {{5}, {7}}};
        }
        for (std::size_t q = 0; q < kQueries && wanted.size() < ThreePartScan::kMostQueries; q += 1 + generator() % 2) {
            wanted.push_back(&queries[q]);
        }
        ThreePartCheck sink(prefix_totals, totals, queries);
        kernels().scan_three_parts({groups, kGroups, width, first, second, weights,
                                    static_cast<std::uint8_t>(most_weight), n_counted, wanted.data(), wanted.size(),
                                    &sink});
        for (const ThreePartQuery* query : wanted) {
            const auto q = static_cast<std::size_t>(query - queries.data());
            sink.expect_none(q, kGroups);
            for (std::size_t i = 0; i < n_counted; ++i) {
                std::uint64_t expected = i == 0 ? 5 : 7, count = 0;
                for (std::size_t row = 0; row < kRows; ++row) {
                    const bool compared = (query->wanted >> (row / kGroup) & 1) != 0;
                    if (compared && prefix_totals[q][row] <= query->largest[i]) expected += weights[row];
                }
                for (const std::uint64_t lane : query->counts[i]) count += lane;
                check(count == expected, "scan_three_parts: counts");
            }
        }
    }
}

// Weights of all groups of a scan, which are added up in bytes as long as they fit.
void test_three_parts_of_many_groups() {
    constexpr std::size_t kMany = ThreePartScan::kMostGroups;
    if (width < 3 || width > kMostPartBytes) return;
    const std::vector<std::uint8_t> groups(kMany * kGroup * width), code(width);
    std::vector<std::uint8_t> prepared(width * kernels().prepared_bytes);
    kernels().prepare(code.data(), width, prepared.data());
    struct AllHits final : ThreePartSink {
        void take(ThreePartQuery&, std::size_t, std::uint64_t rows, const std::uint8_t*, const std::uint8_t*) override {
            check(rows == ~std::uint64_t{0}, "scan_three_parts: all rows of a group");
            ++n_groups;
        }
        std::size_t n_groups = 0;
    } sink;
    for (const std::uint8_t most_weight : {std::uint8_t{3}, std::uint8_t{4}, std::uint8_t{5}}) {
        const std::vector<std::uint8_t> weights(kMany * kGroup, most_weight);
        ThreePartQuery query{prepared.data(), ~std::uint64_t{0}, 0, 0, {1, 0}, {}};
        ThreePartQuery* wanted = &query;
        sink.n_groups = 0;
        kernels().scan_three_parts(
            {groups.data(), kMany, width, 1, 1, weights.data(), most_weight, 2, &wanted, 1, &sink});
        check(sink.n_groups == kMany, "scan_three_parts: all groups");
        for (const auto& counts : query.counts) {
            check(std::accumulate(counts, counts + ThreePartQuery::kLanes, std::uint64_t{0}) ==
                      kMany * kGroup * most_weight,
                  "scan_three_parts: counts of many groups");
        }
    }
}

void test_count_shared(const Data& data) {
    const std::size_t n_bits = width * 8;
    const auto bit_of = [](const std::uint8_t* code, std::size_t bit) { return code[bit / 8] >> (7 - bit % 8) & 1; };
    for (std::size_t n_words = 1; n_words <= kPlaneWords; ++n_words) {
        std::uint64_t* planes = for_codes.place<std::uint64_t>(n_bits * n_words);
        for (std::size_t i = 0; i < n_bits * n_words; ++i) {
            planes[i] = 0;
            for (std::size_t code = i % n_words * 64; code < (i % n_words + 1) * 64; ++code) {
                planes[i] |= std::uint64_t(bit_of(data.codes.data() + code * width, i / n_words)) << code % 64;
            }
        }
        for (std::size_t q = 0; q < kQueries; ++q) {
            std::vector<std::uint16_t> set;
            for (std::size_t bit = 0; bit < n_bits; ++bit) {
                if (bit_of(data.query(q), bit) != 0) set.push_back(static_cast<std::uint16_t>(bit));
            }
            std::uint16_t* bits = for_queries.place<std::uint16_t>(set.size());
            std::copy(set.begin(), set.end(), bits);
            for (const std::size_t least : {std::size_t{0}, set.size() / 4, set.size() / 2, set.size()}) {
                std::uint64_t* found = for_results.place<std::uint64_t>(n_words, 0);
                std::uint64_t sums[kSumDigits * kPlaneWords];
                const bool any = kernels().count_shared({planes, n_words, bits, set.size(), least, found, sums});
                bool expected_any = false;
                for (std::size_t code = 0; code < n_words * 64; ++code) {
                    std::size_t shared = 0, sum = 0;
                    for (const std::uint16_t bit : set) shared += bit_of(data.codes.data() + code * width, bit) != 0;
                    const bool is_found = (found[code / 64] >> code % 64 & 1) != 0;
                    check(is_found == (shared >= least), "count_shared: codes");
                    expected_any |= is_found;
                    if (!is_found) continue;
                    for (std::size_t digit = 0; set.size() >> digit != 0; ++digit) {
                        sum |= static_cast<std::size_t>(sums[digit * kPlaneWords + code / 64] >> code % 64 & 1)
                               << digit;
                    }
                    check(sum == shared, "count_shared: sums");
                }
                check(any == expected_any, "count_shared: any");
            }
        }
    }
}

// Calls `test` with every level that is offered; returns which ran.
template <typename Test>
std::vector<SimdLevel> for_each_level(Test test) {
    std::vector<SimdLevel> ran;
    for (const SimdLevel level : simd_levels()) {
        set_simd_level(simd_name(level));
        check(kernels().level == level, "the level asked for");
        test();
        ran.push_back(kernels().level);
    }
    check(ran == simd_levels() && ran[0] == SimdLevel::scalar, "every level ran");
    return ran;
}

}  // namespace
}  // namespace fasthash

int main() {
    using namespace fasthash;
    for (width = 1; width <= kMaxBytes; ++width) {
        if (width > 129 && width % 256 != 0 && width % 256 != 255) continue;
        const Data data;
        for_each_level([&] {
            test_scan_groups(data);
            test_scan_rows(data);
            test_distances(data);
            test_parts(data);
            test_three_parts(data);
            test_three_parts_of_many_groups();
            if (width <= 33 || width % 128 == 0) test_count_shared(data);
        });
    }
    const auto levels = for_each_level([] {});
    std::printf("kernels_test: all passed, levels:");
    for (const SimdLevel level : levels) std::printf(" %s", simd_name(level));
    std::puts("");
}
