// The tree of levels against sets of prefixes: its nodes, their children and their rows, in every form of the codes.
#include "codes/level_tree.h"

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

void check_tree(const LevelTree& tree, const std::set<Code>& codes, const LevelLayout& layout,
                const std::string& what) {
    const std::vector<Code> rows(codes.begin(), codes.end());
    check(tree.n_levels() == layout.n_levels() - 1, what + ": all levels but the last");
    for (std::size_t depth = 0; depth < tree.n_levels(); ++depth) {
        const LevelNodes& level = tree.level(depth);
        const std::vector<Code> expected = prefixes(codes, layout.offset(depth + 1));
        const std::vector<Code> below = prefixes(codes, layout.offset(depth + 2));
        if (level.of_rows) {
            check(depth + 1 == tree.n_levels() && level.n_nodes == rows.size(), what + ": a node for each row");
            for (std::size_t row = 0; row < rows.size(); ++row) {
                const std::size_t end = layout.offset(depth + 1);
                const bool begins =
                    row == 0 || !std::equal(rows[row].begin(), rows[row].begin() + static_cast<std::ptrdiff_t>(end),
                                            rows[row - 1].begin());
                check(level.first[row] == begins, what + ": rows that begin a prefix");
            }
            continue;
        }
        check(level.n_nodes == expected.size(), what + ": a node for each prefix");
        check(level.prefixes.n_bytes() == layout.offset(depth + 1), what + ": width of a prefix");
        for (std::size_t node = 0; node < expected.size(); ++node) {
            const Code& prefix = expected[node];
            Code stored(prefix.size());
            level.prefixes.copy_rows(node, 1, stored.data());
            check(stored == prefix, what + ": prefix");
            const bool above_rows = depth + 2 == tree.n_levels() && tree.last().of_rows;
            check(same(level.children({node, node + 1}), beginning_with(prefix, above_rows ? rows : below)),
                  what + ": children");
            check(same(level.rows(node), beginning_with(prefix, rows)), what + ": rows");
        }
    }
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
                check_tree(LevelTree(as_slices, layout), rows, layout, what + " in slices");
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
    check_tree(LevelTree(codes, layout), rows, layout, "many codes");
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
    test_no_codes();
    std::puts("level_tree_test: all passed");
}
