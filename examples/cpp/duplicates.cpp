// Lists the near-duplicates in a file of codes.
//
//     duplicates N_BITS CODES RADIUS [FIRST]
//
// CODES holds rows of N_BITS / 8 bytes, as numpy's tofile writes them. Prints each pair of codes at most RADIUS bits
// apart as "id id distance". With FIRST, only pairs whose second code has at least that number: what has come since.
//
// Built with CMakeLists.txt, or in one line:
//
//     c++ -std=c++17 duplicates.cpp -o duplicates $(pkg-config --cflags --libs fasthash)
#include <fasthash/flat_index.h>
#include <fasthash/hier_index.h>
#include <fasthash/id_filter.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <limits>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

namespace {

template <class Integer>
Integer whole_number(const std::string& name, const std::string& text) {
    Integer number{};
    const char* const end = text.data() + text.size();
    const auto [last, error] = std::from_chars(text.data(), end, number);
    if (error == std::errc() && last == end) return number;
    const bool is_large = error == std::errc::result_out_of_range;
    const std::string most = is_large ? " up to " + std::to_string(std::numeric_limits<Integer>::max()) : "";
    throw std::runtime_error(name + " must be a whole number" + most + ", got '" + text + "'");
}

std::vector<std::uint8_t> read_file(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot open " + path);
    return {std::istreambuf_iterator<char>(file), {}};
}

// Both give the same results. A small gallery is compared as a whole; a hierarchical index skips most of a large one.
std::unique_ptr<fasthash::Index> make_index(const fasthash::LevelLayout& layout, std::size_t n_codes) {
    if (n_codes < 10000) return std::make_unique<fasthash::FlatIndex>(layout.n_bits());
    return std::make_unique<fasthash::HierIndex>(layout, fasthash::Memory::fast);
}

void list_duplicates(std::size_t n_bits, const std::string& path, std::int32_t radius, std::size_t first) {
    const fasthash::LevelLayout layout({n_bits});
    const std::vector<std::uint8_t> bytes = read_file(path);
    if (bytes.size() % layout.n_bytes() != 0) throw std::runtime_error(path + " ends within a code");
    const fasthash::CodeView codes{bytes.data(), bytes.size() / layout.n_bytes(), layout.n_bytes()};
    const auto index = make_index(layout, codes.n);
    index->add(codes, nullptr);  // ids 0, 1, 2, ...

    std::vector<std::int64_t> new_ids(codes.n - std::min(first, codes.n));
    std::iota(new_ids.begin(), new_ids.end(), static_cast<std::int64_t>(first));
    const fasthash::IdFilter filter(std::move(new_ids));
    const fasthash::RangeResult near = index->range_search(codes, radius, &filter, nullptr);

    std::printf("%zu codes of %zu bits\n", index->size(), n_bits);
    for (std::size_t q = 0; q < codes.n; ++q) {
        for (auto i = near.offsets[q]; i < near.offsets[q + 1]; ++i) {
            if (near.ids[i] > static_cast<std::int64_t>(q)) {
                std::printf("%zu %lld %d\n", q, static_cast<long long>(near.ids[i]), near.distances[i]);
            }
        }
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 4 && argc != 5) {
        std::fprintf(stderr, "usage: duplicates N_BITS CODES RADIUS [FIRST]\n");
        return 1;
    }
    try {
        const auto n_bits = whole_number<std::size_t>("N_BITS", argv[1]);
        if (n_bits < 1 || n_bits > 4096)
            throw std::runtime_error(std::string("N_BITS must be 1 to 4096, got ") + argv[1]);
        const auto radius = whole_number<std::int32_t>("RADIUS", argv[3]);
        if (radius < 0) throw std::runtime_error(std::string("RADIUS must be at least 0, got ") + argv[3]);
        list_duplicates(n_bits, argv[2], radius, argc == 5 ? whole_number<std::size_t>("FIRST", argv[4]) : 0);
    } catch (const std::exception& error) {  // fasthash throws ArgumentError, FormatError and IoError
        std::fprintf(stderr, "duplicates: %s\n", error.what());
        return 1;
    }
    return 0;
}
