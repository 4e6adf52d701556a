// The core used from C++ alone: build, search, save, load, and its errors. The Python tests go deeper.
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>

#include "fasthash/error.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "xxh64.h"

namespace fasthash {
namespace {

void check(bool condition, const char* what) {
    if (condition) return;
    std::printf("core_test: FAILED: %s\n", what);
    std::exit(1);
}

template <typename Error, typename Call>
void check_throws(Call call, const std::string& text) {
    try {
        call();
    } catch (const Error& error) {
        check(std::string(error.what()).find(text) != std::string::npos, error.what());
        return;
    }
    check(false, ("no error: " + text).c_str());
}

struct Found {
    std::vector<std::int32_t> distances;
    std::vector<std::int64_t> ids;
    bool operator==(const Found& other) const { return distances == other.distances && ids == other.ids; }
};

Found search(const Index& index, CodeView queries, std::size_t k, std::optional<Pruning> pruning = std::nullopt) {
    Found found{std::vector<std::int32_t>(queries.n * k), std::vector<std::int64_t>(queries.n * k)};
    index.search(queries, k, pruning, found.distances.data(), found.ids.data(), nullptr);
    return found;
}

std::vector<std::uint8_t> random_bytes(std::size_t n, unsigned seed) {
    std::mt19937 generator(seed);
    std::vector<std::uint8_t> bytes(n);
    for (auto& byte : bytes) byte = static_cast<std::uint8_t>(generator() % 4);  // few values: ties and equal codes
    return bytes;
}

void test_checksum() {
    check(xxh64("", 0) == 0xEF46DB3751D8E999u, "xxh64 of nothing");
    check(xxh64("abc", 3) == 0x44BC2CF5AD770999u, "xxh64 of abc");
    const auto bytes = random_bytes(1000, 1);
    Xxh64 pieces;
    for (std::size_t i = 0; i < 1000; i += 37) pieces.update(bytes.data() + i, std::min<std::size_t>(37, 1000 - i));
    check(pieces.digest() == xxh64(bytes.data(), 1000), "xxh64 in pieces");
}

void test_indices_agree() {
    const auto codes = random_bytes(3000 * 8, 2);
    const auto queries = random_bytes(20 * 8, 3);
    FlatIndex flat(64);
    HierIndex hier(LevelLayout({8, 16, 40}));
    flat.add({codes.data(), 3000, 8}, nullptr);
    hier.add({codes.data(), 1000, 8}, nullptr);
    hier.add({codes.data() + 1000 * 8, 2000, 8}, nullptr);
    const CodeView view{queries.data(), 20, 8};
    for (const std::size_t k : {1, 10, 3000, 3005})
        check(search(flat, view, k) == search(hier, view, k), "tree is scan");
    check(search(hier, view, 10, Pruning{1.0}) == search(hier, view, 10), "keep = 1 is exact");
    check(!(search(hier, view, 10, Pruning{0.01}) == search(hier, view, 10)), "keep = 0.01 prunes");

    for (const Index* index : {static_cast<const Index*>(&flat), static_cast<const Index*>(&hier)}) {
        index->save("core_test.fh");
        const auto loaded = load_index("core_test.fh");
        check(loaded->kind() == index->kind() && loaded->size() == 3000, "loaded index");
        check(search(*loaded, view, 10) == search(*index, view, 10), "loaded index answers alike");
        check(peek_file("core_test.fh").n_codes == 3000, "peek");
    }
    std::remove("core_test.fh");
}

void test_errors() {
    check_throws<ArgumentError>([] { LevelLayout({8, 12}); }, "multiples of 8, got (8, 12)");
    check_throws<ArgumentError>([] { LevelLayout({4096, 8}); }, "at most 4096");
    FlatIndex index(64);
    const std::vector<std::uint8_t> codes(24);
    const std::vector<std::int64_t> ids{1, 2, 1};
    check_throws<ArgumentError>([&] { index.add({codes.data(), 3, 8}, ids.data()); }, "got 1 twice");
    check_throws<ArgumentError>([&] { index.add({codes.data(), 6, 4}, nullptr); }, "codes must be 8 bytes wide");
    check_throws<ArgumentError>([&] { search(index, {codes.data(), 1, 8}, 0); }, "k must be at least 1");
    check_throws<ArgumentError>([&] { search(index, {codes.data(), 1, 8}, 1, Pruning{0.0}); }, "keep must be above 0");
    check_throws<IoError>([] { load_index("does-not-exist.fh"); }, "cannot open");
    check(index.size() == 0, "a refused add adds nothing");
}

}  // namespace
}  // namespace fasthash

int main() {
    fasthash::test_checksum();
    fasthash::test_indices_agree();
    fasthash::test_errors();
    std::puts("core_test: all passed");
}
