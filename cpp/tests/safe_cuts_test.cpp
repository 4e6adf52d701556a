// The bounds of a pruned search's cuts against the cuts themselves, found from lists of all nodes: no code may be kept
// or dropped for certain that the search drops or keeps.
#include "search/safe_cuts.h"

#include <cmath>
#include <map>
#include <set>

#include "search/keep_rule.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "safe_cuts_test";

namespace {

using Code = std::vector<std::uint8_t>;
using Gallery = std::map<Code, std::size_t>;  // entries of each distinct code

unsigned distance(const std::uint8_t* a, const std::uint8_t* b, std::size_t begin, std::size_t end) {
    unsigned sum = 0;
    for (std::size_t byte = begin; byte < end; ++byte)
        sum += static_cast<unsigned>(__builtin_popcount(a[byte] ^ b[byte]));
    return sum;
}

// The codes that the pruned search keeps, level by level.
std::set<Code> kept_codes(const Gallery& gallery, const LevelLayout& layout, const Pruning& pruning, const Code& query,
                          std::size_t k) {
    std::size_t n_entries = 0;
    for (const auto& [code, n] : gallery) n_entries += n;
    Gallery left = gallery;
    for (std::size_t depth = 0; depth + 1 < layout.n_levels(); ++depth) {
        const std::size_t end = layout.offset(depth + 1);
        const bool by_level = pruning.mode == KeepMode::radius;
        const auto score = [&](const Code& code) {
            return distance(code.data(), query.data(), by_level ? layout.offset(depth) : 0, end);
        };
        std::set<Code> nodes;
        std::vector<std::size_t> n_nodes(layout.n_bytes() * 8 + 1), n_within(layout.n_bytes() * 8 + 1);
        for (const auto& [code, n] : left) {
            n_within[score(code)] += n;
            n_nodes[score(code)] += nodes.emplace(code.begin(), code.begin() + static_cast<std::ptrdiff_t>(end)).second;
        }
        const auto reached = [](const std::vector<std::size_t>& counts, double needed) {
            double sum = 0;
            unsigned d = 0;
            for (; d < counts.size() && (sum += static_cast<double>(counts[d])) < needed; ++d) {
            }
            return d;
        };
        unsigned cut = reached(n_within, static_cast<double>(std::min(k, n_entries)));
        if (by_level) {
            cut = std::max(cut, static_cast<unsigned>(
                                    keep_at_most(pruning.keep, static_cast<double>(layout.level_bytes(depth) * 8))));
        } else if (pruning.mode == KeepMode::node_ratio) {
            cut = std::max(cut, reached(n_nodes, keep_at_least(pruning.keep, static_cast<double>(nodes.size()))));
        } else {
            cut = std::max(cut, reached(n_within, keep_at_least(pruning.keep, static_cast<double>(n_entries))));
        }
        for (auto each = left.begin(); each != left.end();) {
            each = score(each->first) > cut ? left.erase(each) : std::next(each);
        }
    }
    std::set<Code> codes;
    for (const auto& [code, n] : left) codes.insert(code);
    return codes;
}

// One node of the first level has most codes. The many nodes below it differ mostly on their first byte, so that counts
// on that byte give close bounds. Some codes have several entries.
Gallery make_gallery(const LevelLayout& layout, std::mt19937& generator) {
    Gallery gallery;
    const std::size_t first = layout.offset(1), most_entries = 1 + generator() % 8;
    const std::size_t n = 500 + generator() % 6000;
    while (gallery.size() < n) {
        Code code(layout.n_bytes());
        for (std::uint8_t& byte : code) byte = static_cast<std::uint8_t>(generator() & generator() & 0x31);
        std::fill_n(code.begin(), first, generator() % 8 == 0 ? 7 : 0);
        code[first] = static_cast<std::uint8_t>(generator());
        code.back() = static_cast<std::uint8_t>(generator());
        gallery[code] = generator() % 2 == 0 ? 1 : most_entries;
    }
    return gallery;
}

// Returns how many fates were known, and how many there were.
std::pair<std::size_t, std::size_t> test_fates(const LevelLayout& layout, std::mt19937& generator) {
    std::size_t n_known = 0, n_judged = 0;
    const Gallery gallery = make_gallery(layout, generator);
    const std::size_t n_bytes = layout.n_bytes();
    SortedCodesBuilder builder(n_bytes, gallery.size() * 8, 0, static_cast<std::int64_t>(gallery.size() * 8));
    std::vector<Code> codes;
    std::vector<std::uint8_t> rows;
    std::int64_t id = 0;
    for (const auto& [code, n] : gallery) {
        for (std::size_t i = 0; i < n; ++i) check(builder.append(code.data(), id++), "in order");
        codes.push_back(code);
        rows.insert(rows.end(), code.begin(), code.end());
    }
    const SortedCodes sorted = builder.finish();
    const LevelTree tree(sorted, layout);
    Array<std::uint8_t> groups(sorted.n_groups() * kGroup * n_bytes);
    to_byte_major(view(rows, n_bytes), groups.data());
    for (const KeepMode mode : {KeepMode::node_ratio, KeepMode::gallery_ratio, KeepMode::radius}) {
        for (int i = 0; i < 4; ++i) {
            const Pruning pruning{std::pow(10.0, -static_cast<double>(generator() % 300) / 100), mode};
            const std::size_t k = 1 + generator() % 30;
            Code query = codes[generator() % codes.size()];
            query[generator() % n_bytes] ^= static_cast<std::uint8_t>(generator());
            const SafeCuts cuts = SafeCuts::bounds(tree, layout, pruning, view(query, n_bytes), k);
            check(!cuts.empty(), layout.str() + ": a coarse tree");
            const std::set<Code> kept = kept_codes(gallery, layout, pruning, query, k);
            const SafeCuts exact = SafeCuts::exact(sorted, tree, layout, pruning, view(query, n_bytes), k);
            for (std::size_t row = 0; row < codes.size(); ++row) {
                const std::uint8_t* group = groups.data() + row / kGroup * kGroup * n_bytes;
                const Fate fate = exact.fate(0, query.data(), group, row % kGroup);
                check(fate == (kept.count(codes[row]) > 0 ? Fate::kept : Fate::dropped),
                      layout.str() + ": by the cuts");
                check(static_cast<std::int32_t>(distance(codes[row].data(), query.data(), 0, n_bytes)) >
                              exact.radius(0) ||
                          fate == Fate::kept,
                      layout.str() + ": within the radius of the cuts");
            }
            std::size_t n_kept = 0;  // entries, for certain
            std::vector<Fate> fates;
            for (std::size_t row = 0; row < codes.size(); ++row) {
                const std::uint8_t* group = groups.data() + row / kGroup * kGroup * n_bytes;
                fates.push_back(cuts.fate(0, query.data(), group, row % kGroup));
                n_kept += fates.back() == Fate::kept ? gallery.at(codes[row]) : 0;
                check(
                    static_cast<std::int32_t>(distance(codes[row].data(), query.data(), 0, n_bytes)) > cuts.radius(0) ||
                        fates.back() == Fate::kept,
                    layout.str() + ": within the radius");
            }
            if (n_kept < k) continue;  // then the tree answers
            for (std::size_t row = 0; row < codes.size(); ++row) {
                const bool is_kept = kept.count(codes[row]) > 0;
                check(fates[row] == Fate::unknown || is_kept == (fates[row] == Fate::kept), layout.str() + ": a fate");
                n_known += fates[row] != Fate::unknown;
                ++n_judged;
            }
        }
    }
    return {n_known, n_judged};
}

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash;
    std::mt19937 generator(1);
    for (const std::vector<std::size_t>& bits :
         {std::vector<std::size_t>{8, 16, 40}, {8, 16, 8}, {8, 24, 8}, {8, 8, 16, 8}, {16, 16, 8}, {8, 40}}) {
        std::size_t n_known = 0, n_judged = 0;
        for (int i = 0; i < 20; ++i) {
            const auto [known, judged] = testing::test_fates(LevelLayout(bits), generator);
            n_known += known;
            n_judged += judged;
        }
        testing::check(4 * n_known > n_judged, LevelLayout(bits).str() + ": many fates are known");
    }
    std::puts("safe_cuts_test: all passed");
}
