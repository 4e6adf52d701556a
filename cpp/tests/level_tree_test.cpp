// The tree of levels against sets of prefixes: its nodes, their places and their rows, in every form of the codes.
#include "codes/level_tree.h"

#include <cmath>
#include <set>

#include "segments/merge.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "level_tree_test";

namespace {

using Code = std::vector<std::uint8_t>;
using Bits = std::vector<std::size_t>;

std::set<Code> distinct(const std::vector<std::uint8_t>& codes, std::size_t n_bytes) {
    std::set<Code> all;
    const CodeView rows = view(codes, n_bytes);
    for (std::size_t i = 0; i < rows.n; ++i) all.emplace(rows.row(i), rows.row(i) + n_bytes);
    return all;
}

SortedCodes sorted(const std::set<Code>& codes, std::size_t n_bytes) {
    SortedCodesBuilder builder(n_bytes, codes.size() * 2, 0, static_cast<std::int64_t>(codes.size() * 2));
    std::int64_t id = 0;
    for (const Code& code : codes) {
        check(builder.append(code.data(), id++), "in order");
        if (id % 5 == 0) check(builder.append(code.data(), id++), "in order");  // a row of two entries is one leaf
    }
    return builder.finish();
}

std::vector<Code> prefixes(const std::set<Code>& codes, std::size_t n_bytes) {
    std::set<Code> all;
    for (const Code& code : codes) all.emplace(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(n_bytes));
    return {all.begin(), all.end()};
}

// Those of some sorted codes that begin so.
NumberRange beginning_with(const Code& prefix, const std::vector<Code>& codes) {
    const auto begins = [&](const Code& code) { return std::equal(prefix.begin(), prefix.end(), code.begin()); };
    const auto first = std::find_if(codes.begin(), codes.end(), begins);
    const auto last = std::find_if_not(first, codes.end(), begins);
    return {static_cast<std::size_t>(first - codes.begin()), static_cast<std::size_t>(last - codes.begin())};
}

bool same(NumberRange a, NumberRange b) { return a.begin == b.begin && a.end == b.end; }

// The ranges of a coarse tree: the places and rows below each node of the first level.
void check_ranges(const LevelTree& tree, const std::vector<Code>& rows, const LevelLayout& layout,
                  const std::string& what) {
    const std::vector<Code> first = prefixes({rows.begin(), rows.end()}, layout.offset(1));
    check(tree.n_ranges() == first.size(), what + ": a range for each node of the first level");
    for (std::size_t node = 0; node < first.size(); ++node) {
        check(same(tree.range(node, tree.n_levels()), beginning_with(first[node], rows)), what + ": rows of a range");
        for (std::size_t depth = 1; depth < tree.n_levels(); ++depth) {
            const NumberRange places = tree.range(node, depth);
            check(places.begin % kGroup == 0, what + ": a range begins a group");
            const std::vector<Code> nodes = prefixes({rows.begin(), rows.end()}, layout.offset(depth + 1));
            check(places.size() == beginning_with(first[node], nodes).size(), what + ": nodes of a range");
        }
    }
}

void check_tree(const LevelTree& tree, const std::set<Code>& codes, const LevelLayout& layout,
                const std::string& what) {
    const std::vector<Code> rows(codes.begin(), codes.end());
    check(tree.n_levels() == layout.n_levels() - 1, what + ": all levels but the last");
    if (tree.is_coarse()) check_ranges(tree, rows, layout, what);
    for (std::size_t depth = 0; depth < tree.n_levels(); ++depth) {
        const LevelNodes& level = tree.level(depth);
        const std::vector<Code> expected = prefixes(codes, layout.offset(depth + 1));
        const std::size_t first_byte = tree.is_coarse() && depth > 0 ? layout.offset(1) : 0;
        check(level.n_nodes == expected.size(), what + ": a node for each prefix");
        check(level.prefixes.n_bytes() == layout.offset(depth + 1) - first_byte, what + ": width of a prefix");
        check(level.weights.size() == level.n_groups() * kGroup, what + ": a weight for each place");
        std::size_t node = 0;
        for (std::size_t place = 0; place < level.n_places(); ++place) {
            const NumberRange of_place = level.rows(place);
            if (of_place.size() == 0) {
                check(tree.is_coarse() && depth > 0 && level.weights[place] == 0, what + ": an empty place");
                continue;
            }
            const Code& prefix = expected.at(node++);
            Code stored(level.prefixes.n_bytes());
            level.prefixes.copy_rows(place, 1, stored.data());
            check(std::equal(stored.begin(), stored.end(), prefix.begin() + static_cast<std::ptrdiff_t>(first_byte)),
                  what + ": prefix");
            check(same(of_place, beginning_with(prefix, rows)), what + ": rows");
            check(level.weights[place] >= std::min<std::size_t>(of_place.size(), LevelNodes::kMostWeight),
                  what + ": weight");
        }
        check(node == expected.size(), what + ": a place for each node");
    }
}

// The leaves of a tree against the codes.
void check_leaves(LevelTree& tree, const SortedCodes& codes, const std::set<Code>& rows, const LevelLayout& layout,
                  const std::string& what) {
    tree.add_leaves(codes, layout);
    const Leaves& leaves = tree.leaves();
    const std::size_t n_places = (rows.size() + kGroup - 1) / kGroup * kGroup;
    check(tree.n_depths() == layout.n_levels() && leaves.codes.size() == rows.size(), what + ": a leaf for each code");
    check(leaves.begins.size() == n_places && leaves.entries.size() == n_places, what + ": weights of whole groups");
    std::size_t row = 0;
    Code before;
    for (const Code& code : rows) {
        Code stored(layout.n_bytes());
        leaves.codes.copy_rows(row, 1, stored.data());
        const Code prefix(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(layout.offset(tree.n_levels())));
        check(stored == code, what + ": code of a leaf");
        check(leaves.begins[row] == (prefix != before ? 1 : 0), what + ": first leaves below nodes");
        check(leaves.entries[row] == codes.n_entries(row, row + 1), what + ": entries of a leaf");
        check(leaves.entries[row] <= leaves.most_entries, what + ": most entries of a leaf");
        before = prefix;
        ++row;
    }
    for (; row < n_places; ++row) check(leaves.begins[row] + leaves.entries[row] == 0, what + ": empty places");
}

void check_counts(const std::vector<std::uint8_t>& codes, const std::set<Code>& rows, const LevelLayout& layout,
                  const std::string& what) {
    Stopper stopper;
    const NewEntries entries{view(codes, layout.n_bytes()), nullptr, 0};
    const std::vector<std::size_t> counts = count_nodes(MergeCursor({}, entries, stopper), layout);
    check(counts.size() == layout.n_levels(), what + ": a number for each level");
    for (std::size_t depth = 0; depth < layout.n_levels(); ++depth) {
        check(counts[depth] == prefixes(rows, layout.offset(depth + 1)).size(), what + ": number of nodes");
    }
}

void test_trees() {
    std::mt19937 generator(1);
    for (const Bits& bits : {Bits{8, 16}, Bits{8, 16, 40}, Bits{16, 8, 8}, Bits{8, 8, 8, 8, 8}, Bits{32}}) {
        const LevelLayout layout(bits);
        for (const std::size_t n : {1, 2, 30, 500}) {
            for (const unsigned n_values : {1U, 2U, 4U, 256U}) {
                const auto codes = random_codes(n * layout.n_bytes(), generator, n_values);
                const std::set<Code> rows = distinct(codes, layout.n_bytes());
                const std::string what = layout.str() + ", " + std::to_string(rows.size()) + " codes";
                SortedCodes as_slices = sorted(rows, layout.n_bytes());
                check_tree(LevelTree(as_slices, layout), rows, layout, what);
                as_slices.hold_byte_major();
                LevelTree tree(as_slices, layout);
                check_tree(tree, rows, layout, what + " in slices");
                check_leaves(tree, as_slices, rows, layout, what);
                SortedCodes as_tails = sorted(rows, layout.n_bytes());
                as_tails.add_directory(8);
                as_tails.drop_prefix(1);
                check_tree(LevelTree(as_tails, layout), rows, layout, what + " without their first byte");
                check_counts(codes, rows, layout, what);
            }
        }
    }
}

// Codes are read in pieces of some thousand: a node goes on from one piece into the next.
void test_many_codes() {
    const LevelLayout layout({8, 8, 16});
    std::set<Code> rows;
    for (unsigned i = 0; i < 20'000; ++i) {
        rows.insert(
            {static_cast<std::uint8_t>(i / 9'000), 0, static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)});
    }
    const SortedCodes codes = sorted(rows, layout.n_bytes());
    const LevelTree tree(codes, layout);
    check(tree.is_coarse(), "many rows of a node");
    check_tree(tree, rows, layout, "many codes");
}

// The sums for all values of a first level of one byte against the nodes themselves.
void test_near_weights() {
    std::mt19937 generator(5);
    for (const Bits& bits : {Bits{8, 16, 8}, Bits{8, 24}, Bits{16, 8, 8}}) {
        const LevelLayout layout(bits);
        std::vector<std::uint8_t> codes = random_codes(9'000 * layout.n_bytes(), generator, 256);
        for (std::size_t i = 0; i < codes.size(); i += layout.n_bytes()) codes[i] %= 90;
        const std::set<Code> rows = distinct(codes, layout.n_bytes());
        const SortedCodes sorted_codes = sorted(rows, layout.n_bytes());
        const LevelTree tree(sorted_codes, layout);
        check(tree.near_weights().empty() == (bits[0] != 8), layout.str() + ": sums for one byte");
        if (tree.near_weights().empty()) continue;
        const std::vector<Code> ordered(rows.begin(), rows.end()), below = prefixes(rows, layout.offset(2));
        for (const unsigned byte : {0U, 1U, 77U, 200U, 255U}) {
            const Weights* sums = tree.near_weights().at(static_cast<std::uint8_t>(byte));
            for (int distance = 0; distance <= 8; ++distance) {
                const auto is_near = [&](const Code& code) { return __builtin_popcount(code[0] ^ byte) <= distance; };
                std::size_t n_nodes = 0, n_entries = 0, n_below = 0;
                for (const Code& node : prefixes(rows, 1)) n_nodes += is_near(node);
                for (const Code& node : below) n_below += is_near(node);
                for (std::size_t row = 0; row < ordered.size(); ++row) {
                    if (is_near(ordered[row])) n_entries += sorted_codes.n_entries(row, row + 1);
                }
                check(sums[distance].n_nodes == n_nodes, "near weights: nodes");
                check(sums[distance].n_entries == n_entries, "near weights: entries");
                if (bits.size() > 2) check(sums[distance].n_below == n_below, "near weights: nodes below");
            }
        }
    }
    const LevelLayout layout({8, 16, 8});
    const std::set<Code> few = distinct(random_codes(400, generator, 2), 4);
    check(LevelTree(sorted(few, 4), layout).near_weights().empty(), "no sums for few codes");
}

// The counts on the byte after the first level against the nodes themselves.
void test_near_nodes() {
    std::mt19937 generator(3);
    for (const Bits& bits : {Bits{8, 16, 8}, Bits{8, 8, 16, 8}, Bits{16, 16, 8}}) {
        const LevelLayout layout(bits);
        std::vector<std::uint8_t> codes = random_codes(9'000 * layout.n_bytes(), generator, 256);
        const std::size_t n_bytes = layout.n_bytes(), next = layout.offset(1);
        for (std::size_t i = 0; i < 9'000; ++i) std::fill_n(codes.begin() + i * n_bytes, next, i % 3 == 0 ? 7 : 200);
        const std::set<Code> rows = distinct(codes, n_bytes);
        const LevelTree tree(sorted(rows, n_bytes), layout);
        check(tree.near_nodes().empty() == (bits[1] == 8), layout.str() + ": counts where nodes are many");
        if (tree.near_nodes().empty()) continue;
        const std::vector<Code> nodes = prefixes(rows, layout.offset(2));
        for (unsigned byte = 0; byte < 256; ++byte) {
            std::size_t expected[2][NearNodes::kDistances] = {};
            for (const Code& node : nodes) {
                const auto distance = static_cast<std::size_t>(__builtin_popcount(node[next] ^ byte));
                if (distance < NearNodes::kDistances) ++expected[node[0] == 200][distance];
            }
            const std::uint32_t* counts = tree.near_nodes().at(static_cast<std::uint8_t>(byte));
            for (std::size_t i = 0; i < 2 * NearNodes::kDistances; ++i) {
                check(counts[i] == expected[i / NearNodes::kDistances][i % NearNodes::kDistances], "near nodes");
            }
        }
    }
}

// Mean, variance and the bound they give, against the distances of all prefixes.
void test_moments() {
    std::mt19937 generator(4);
    for (const Bits& bits : {Bits{8, 16, 40}, Bits{8, 8, 8, 40}, Bits{16, 64, 8}}) {
        const LevelLayout layout(bits);
        const std::size_t n_bytes = layout.n_bytes(), last = layout.n_levels() - 1;
        std::vector<std::uint8_t> codes = random_codes(5'000 * n_bytes, generator, 256);
        for (std::size_t i = 0; i < codes.size(); ++i) {
            if (i % n_bytes < layout.offset(1)) codes[i] %= 5;                        // a coarse tree
            if (codes[i - i % n_bytes] < 2) codes[i] |= codes[i - i % n_bytes] * 60;  // bits that vary together
        }
        const std::set<Code> rows = distinct(codes, n_bytes);
        const LevelTree tree(sorted(rows, n_bytes), layout);
        const std::vector<Code> nodes = prefixes(rows, layout.offset(last));
        for (int i = 0; i < 30; ++i) {
            const std::vector<std::uint8_t> query = random_codes(n_bytes, generator, 256);
            for (std::size_t depth = 1; depth < last; ++depth) {
                const std::size_t end = std::min(layout.offset(depth + 1), PrefixMoments::kMostBytes);
                std::vector<double> distances;
                for (const Code& node : nodes) {
                    unsigned distance = 0;
                    for (std::size_t b = 0; b < end; ++b) {
                        distance += static_cast<unsigned>(__builtin_popcount(node[b] ^ query[b]));
                    }
                    distances.push_back(distance);
                }
                double mean = 0, variance = 0;
                for (const double d : distances) mean += d / static_cast<double>(nodes.size());
                for (const double d : distances)
                    variance += (d - mean) * (d - mean) / static_cast<double>(nodes.size());
                const DistanceMoments moments = tree.moments().of(query.data(), layout.offset(depth + 1));
                check(moments.n == static_cast<double>(nodes.size()), "number of prefixes");
                check(moments.mean < mean && mean - moments.mean < 1e-5, "mean");
                check(moments.variance > variance && moments.variance - variance < 0.02, "variance");
                for (const double share : {0.0, 0.01, 0.2, 0.5, 0.9, 1.0}) {
                    const double needed = std::ceil(share * moments.n), radius = moments.least_radius(needed);
                    const auto is_nearer = [radius](double d) { return d < radius; };
                    const auto n_nearer = std::count_if(distances.begin(), distances.end(), is_nearer);
                    check(n_nearer == 0 || static_cast<double>(n_nearer) < needed, "fewer within the radius");
                    check(radius > mean / 4 || share < 0.2, "no trivial radius");
                }
            }
        }
    }
}

void test_no_codes() {
    const LevelLayout layout({8, 16, 40});
    const LevelTree tree(sorted({}, layout.n_bytes()), layout);
    for (std::size_t depth = 0; depth < 2; ++depth) check(tree.level(depth).n_nodes == 0, "no codes, no nodes");
    check_counts({}, {}, layout, "no codes");
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    test_trees();
    test_many_codes();
    test_near_weights();
    test_near_nodes();
    test_moments();
    test_no_codes();
    std::puts("level_tree_test: all passed");
}
