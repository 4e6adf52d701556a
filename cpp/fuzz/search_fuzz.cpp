// Search against scan: an input is a history of changes; afterwards indices of every kind and plain loops must agree.
#include "../tests/testing.h"

namespace fasthash::testing {

const char* const kTestName = "search_fuzz";

namespace {

constexpr std::size_t kMostCodes = 400;

// Numbers from the input, then from a generator that the input has seeded.
class Input {
 public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size), generator_(size > 0 ? data[0] : 0u) {}

    bool empty() const { return position_ >= size_; }
    std::size_t below(std::size_t n) {
        return (empty() ? generator_() : data_[position_++] + std::size_t{256} * (generator_() % 4)) % n;
    }

 private:
    const std::uint8_t* data_;
    std::size_t size_;
    std::size_t position_ = 0;
    std::mt19937 generator_;
};

std::vector<std::uint8_t> codes_of(Input& input, std::size_t n, std::size_t n_bytes) {
    const std::size_t n_values = input.below(2) == 0 ? 2 : 256;
    std::vector<std::uint8_t> codes(n * n_bytes);
    for (auto& byte : codes) byte = static_cast<std::uint8_t>(input.below(n_values));
    return codes;
}

std::vector<std::int64_t> held_ids(Input& input, const PlainIndex& plain) {
    const std::vector<std::int64_t> all = plain.ids();
    std::vector<std::int64_t> some;
    const std::size_t one_of = 1 + input.below(10);
    for (const std::int64_t id : all) {
        if (input.below(one_of) == 0) some.push_back(id);
    }
    return some;
}

}  // namespace
}  // namespace fasthash::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fasthash;
    using namespace fasthash::testing;
    const std::vector<std::vector<std::size_t>> layouts = {{8}, {8, 8}, {64}, {8, 16, 40}, {24, 80}, {136}};
    Input input(data, size);
    const LevelLayout layout(layouts[input.below(layouts.size())]);
    const std::size_t n_bytes = layout.n_bytes();
    const auto indices = indices_of_every_kind(layout);
    PlainIndex plain(n_bytes);
    for (int step = 0; step < 12 && !input.empty(); ++step) {
        switch (input.below(6)) {
            case 0:
            case 1: {
                const std::size_t n = std::min(1 + input.below(200), kMostCodes - std::min(plain.size(), kMostCodes));
                const auto codes = codes_of(input, n, n_bytes);
                for (const auto& index : indices) index->add(view(codes, n_bytes), nullptr);
                plain.add(view(codes, n_bytes));
                break;
            }
            case 2: {
                std::vector<std::int64_t> ids;
                const std::int64_t bases[] = {-1000, 0, INT64_MIN, std::int64_t{1} << 40};
                const std::int64_t base = bases[input.below(4)];
                for (std::size_t i = 0; i < 1 + input.below(20); ++i) {
                    const std::int64_t id = base + static_cast<std::int64_t>(input.below(900));
                    const bool known = std::find(ids.begin(), ids.end(), id) != ids.end();
                    if (id != -1 && !known && !plain.contains(id)) ids.push_back(id);
                }
                const auto codes = codes_of(input, ids.size(), n_bytes);
                for (const auto& index : indices) index->add(view(codes, n_bytes), ids.data());
                plain.add(view(codes, n_bytes), ids.data());
                break;
            }
            case 3: {
                const std::vector<std::int64_t> ids = held_ids(input, plain);
                for (const auto& index : indices) index->remove(ids.data(), ids.size());
                plain.remove(ids);
                break;
            }
            case 4: {
                const std::vector<std::int64_t> ids = held_ids(input, plain);
                const auto codes = codes_of(input, ids.size(), n_bytes);
                for (const auto& index : indices) index->update(ids.data(), view(codes, n_bytes));
                plain.update(ids, view(codes, n_bytes));
                break;
            }
            default:
                for (const auto& index : indices) index->compact();
        }
    }
    auto queries = codes_of(input, 2, n_bytes);
    if (plain.size() > 0) std::copy_n(plain.codes().begin()->second.begin(), n_bytes, queries.begin());
    const Expected expected(plain, view(queries, n_bytes));
    for (const auto& index : indices) {
        expected.check_all(*index, "after a history");
        const auto bytes = index->to_bytes();
        expected.check_all(*index_from_bytes(bytes.data(), bytes.size()), "after a history, saved and loaded");
    }
    return 0;
}
