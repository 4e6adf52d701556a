// Fuzzer of searches. An input is either a sequence of changes, after each of which indices of several kinds must agree
// with plain loops; or an index of short codes with many ties, searched by plans that give up.
#include "../tests/testing.h"
#include "fasthash/threads.h"
#include "input.h"

namespace fasthash::testing {

const char* const kTestName = "search_fuzz";

namespace {

constexpr std::size_t kMostCodes = 700;
constexpr std::size_t kHier = 4;  // indices of that kind at once

std::vector<std::uint8_t> codes_of(Input& input, std::size_t n, std::size_t n_bytes) {
    const std::size_t n_values = input.one_in(2) ? 2 : 256;
    std::mt19937 generator(input.byte());
    std::vector<std::uint8_t> codes(n * n_bytes);
    for (auto& byte : codes) byte = static_cast<std::uint8_t>(generator() % n_values);
    return codes;
}

std::vector<std::int64_t> held_ids(Input& input, const PlainIndex& plain) {
    const std::size_t one_of = 1 + input.below(12), offset = input.below(12);
    const std::vector<std::int64_t> all = plain.ids();
    std::vector<std::int64_t> some;
    for (std::size_t i = 0; i < all.size(); ++i) {
        if ((i * i + offset) % one_of == 0) some.push_back(all[i]);
    }
    std::shuffle(some.begin(), some.end(), std::mt19937(input.byte()));
    return some;
}

std::vector<std::int64_t> new_ids(Input& input, const PlainIndex& plain) {
    const std::int64_t bases[] = {-1000, 0, INT64_MIN, std::int64_t{1} << 40};
    const std::int64_t base = bases[input.below(4)];
    std::vector<std::int64_t> ids;
    for (std::size_t n = input.below(20); n > 0; --n) {
        const std::int64_t id = base + static_cast<std::int64_t>(input.below(1100));
        if (id != -1 && !plain.contains(id) && std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    }
    return ids;
}

std::vector<std::unique_ptr<IdFilter>> filters_of(Input& input, const PlainIndex& plain) {
    std::vector<std::unique_ptr<IdFilter>> filters;
    for (std::size_t i = 0; i < 2; ++i) {
        std::vector<std::int64_t> ids = held_ids(input, plain);
        if (input.one_in(2)) ids.resize(std::min<std::size_t>(ids.size(), input.below(64)));
        if (input.one_in(2)) ids.push_back(input.one_in(2) ? INT64_MIN : 123456789);
        filters.push_back(std::make_unique<IdFilter>(std::move(ids)));
        if (input.one_in(2)) filters.back()->set_reusable();
    }
    return filters;
}

// The flat index and some others.
std::vector<std::unique_ptr<Index>> indices_of(Input& input, const LevelLayout& layout) {
    auto all = indices_of_every_kind(layout);
    std::vector<std::unique_ptr<Index>> some;
    some.push_back(std::move(all[0]));
    for (std::size_t i = 1, first = input.below(12); i <= kHier; ++i)
        some.push_back(std::move(all[1 + (first + 5 * i) % 12]));
    return some;
}

class History {
 public:
    History(Input& input, const LevelLayout& layout)
        : input_(input),
          layout_(layout),
          n_bytes_(layout.n_bytes()),
          indices_(indices_of(input, layout)),
          plain_(n_bytes_) {}

    void step() {
        switch (input_.below(12)) {
            case 0:
            case 1:
                return add(1 + input_.below(250));
            case 2:
            case 3:
                return add(1 + input_.below(12));
            case 4:
                return add(new_ids(input_, plain_));
            case 5:
                return merge(new_ids(input_, plain_));
            case 6:
            case 7: {
                const std::vector<std::int64_t> ids = held_ids(input_, plain_);
                for (const auto& index : indices_) index->remove(ids.data(), ids.size());
                return plain_.remove(ids);
            }
            case 8:
            case 9: {
                const std::vector<std::int64_t> ids = held_ids(input_, plain_);
                const auto codes = codes_of(input_, ids.size(), n_bytes_);
                for (const auto& index : indices_) index->update(ids.data(), view(codes, n_bytes_));
                return plain_.update(ids, view(codes, n_bytes_));
            }
            case 10:
                indices_[input_.below(indices_.size())]->compact();
                return;
            default:
                replace(indices_[input_.below(indices_.size())]);
        }
    }

    void check_now() {
        auto queries = codes_of(input_, 3, n_bytes_);
        if (plain_.size() > 0) std::copy_n(plain_.codes().begin()->second.begin(), n_bytes_, queries.begin());
        const CodeView asked = view(queries, n_bytes_);
        const Expected expected(plain_, asked, filters_of(input_, plain_));
        for (const auto& index : indices_) expected.check_all(*index, "after a history");
    }

    // Pruned searches come last, since they merge all segments.
    void check_pruned() {
        const auto queries = codes_of(input_, 2, n_bytes_);
        const CodeView asked = view(queries, n_bytes_);
        const std::size_t k = 1 + input_.below(20);
        const auto filters = filters_of(input_, plain_);
        const IdFilter* filter = input_.one_in(2) ? nullptr : filters[0].get();
        const auto mode = static_cast<KeepMode>(input_.below(3));
        const double keep = static_cast<double>(1 + input_.below(100)) / 100;
        const Found exact = search(*indices_[0], asked, k, filter);
        const Found pruned = search(*indices_[1], asked, k, filter, Pruning{keep, mode});
        for (std::size_t i = 1; i < indices_.size(); ++i) {
            check(search(*indices_[i], asked, k, filter, Pruning{1.0}) == exact, "keep = 1 is exact");
            check(search(*indices_[i], asked, k, filter, Pruning{keep, mode}) == pruned, "pruned alike");
        }
    }

 private:
    void add(std::size_t n) {
        n = std::min(n, kMostCodes - std::min(plain_.size(), kMostCodes));
        if (plain_.next_id() > std::uint64_t{1} << 62) return;
        const auto codes = codes_of(input_, n, n_bytes_);
        for (const auto& index : indices_) index->add(view(codes, n_bytes_), nullptr);
        plain_.add(view(codes, n_bytes_));
    }
    void add(const std::vector<std::int64_t>& ids) {
        const auto codes = codes_of(input_, ids.size(), n_bytes_);
        for (const auto& index : indices_) index->add(view(codes, n_bytes_), ids.data());
        plain_.add(view(codes, n_bytes_), ids.data());
    }
    void merge(const std::vector<std::int64_t>& ids) {
        const auto codes = codes_of(input_, ids.size(), n_bytes_);
        for (const auto& index : indices_) {
            FlatIndex flat(layout_.n_bits());
            HierIndex hier(layout_);
            Index& other = index->kind() == IndexKind::flat ? static_cast<Index&>(flat) : hier;
            other.add(view(codes, n_bytes_), ids.data());
            index->merge(other);
        }
        plain_.add(view(codes, n_bytes_), ids.data());
    }
    // Replace an index by an equal one: a copy, whose original is then changed, or one loaded from its bytes.
    void replace(std::unique_ptr<Index>& index) {
        if (input_.one_in(2)) {
            const std::unique_ptr<Index> old = std::exchange(index, index->copy());
            const std::vector<std::int64_t> ids = held_ids(input_, plain_);
            old->remove(ids.data(), ids.size());
            old->compact();
        } else {
            const auto bytes = index->to_bytes();
            index = index_from_bytes(bytes.data(), bytes.size());
        }
    }

    Input& input_;
    const LevelLayout& layout_;
    std::size_t n_bytes_;
    std::vector<std::unique_ptr<Index>> indices_;
    PlainIndex plain_;
};

// Forces plans on codes that they do not suit, with k so large that the results end among many ties.
void check_plans_that_give_up(Input& input) {
    static const std::vector<std::vector<std::size_t>> layouts = {{16}, {24}, {32}, {8, 16}};
    const LevelLayout layout(layouts[input.below(layouts.size())]);
    const std::size_t n_bytes = layout.n_bytes(), n = 5000 + input.below(3000), k = 50 + input.below(600);
    const auto codes = codes_of(input, n, n_bytes);
    auto queries = codes_of(input, 6, n_bytes);
    for (std::size_t i = 0; i < 3 * n_bytes; ++i) queries[i] = static_cast<std::uint8_t>(~codes[i]);  // far from all
    std::vector<std::int64_t> ids(n);
    for (std::size_t i = 0; i < n; ++i) ids[i] = static_cast<std::int64_t>(i);
    if (input.one_in(2)) std::shuffle(ids.begin(), ids.end(), std::mt19937(input.byte()));
    PlainIndex plain(n_bytes);
    plain.add(view(codes, n_bytes), ids.data());
    const auto filters = filters_of(input, plain);
    const IdFilter* filter = input.one_in(2) ? nullptr : filters[0].get();
    for (const Plan plan : {Plan::prefix, Plan::multi_index, Plan::clusters}) {
        for (const Memory memory : {Memory::standard, Memory::fast}) {
            HierIndex index(layout, memory, plan);
            index.add(view(codes, n_bytes), ids.data());
            for (std::size_t q = 0; q < 6; ++q) {
                const CodeView one{queries.data() + q * n_bytes, 1, n_bytes};  // alone: a batch might be scanned
                const Found expected = first_of(plain.ranking(one.data, filter), k, n_bytes);
                check(search(index, one, k, filter) == expected, "a plan that gives up");
            }
        }
    }
}

}  // namespace
}  // namespace fasthash::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fasthash;
    using namespace fasthash::testing;
    static const std::vector<std::vector<std::size_t>> layouts = {{8},      {8, 8}, {64},    {8, 16, 40},
                                                                  {24, 80}, {136},  {8, 512}};
    Input input(data, size);
    const unsigned how = input.byte();
    set_num_threads(how % 8 == 0 ? 3 : 1);
    if (how % 8 == 1) {
        check_plans_that_give_up(input);
        return 0;
    }
    const LevelLayout layout(layouts[how / 8 % layouts.size()]);
    History history(input, layout);
    for (int step = 0; step < 16 && !input.empty(); ++step) {
        history.step();
        if (input.one_in(4)) history.check_now();
    }
    history.check_now();
    history.check_pruned();
    return 0;
}
