// Tests of the GPU's search by Jaccard distance, run by the emulator: same results as the index on the CPU.
#include <cmath>
#include <cstring>
#include <numeric>

#include "gpu/emulator.h"
#include "gpu/gallery.h"
#include "gpu/pair_keys.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "gpu_jaccard_test";

namespace {

/// Distances by their bits, so that -0 is not 0.
struct Near {
    std::vector<std::uint32_t> distances;
    std::vector<std::int64_t> ids;

    bool operator==(const Near& other) const { return distances == other.distances && ids == other.ids; }
};

std::vector<std::uint32_t> bits_of(const std::vector<float>& values) {
    std::vector<std::uint32_t> bits(values.size());
    if (!values.empty()) std::memcpy(bits.data(), values.data(), values.size() * sizeof(float));
    return bits;
}

/// Codes whose numbers of bits set vary much; a tenth of them equal, some empty, one full.
std::vector<std::uint8_t> sparse_codes(std::size_t n, std::size_t n_bits, std::mt19937& generator) {
    const std::size_t n_bytes = (n_bits + 7) / 8;
    std::vector<std::uint8_t> codes(n * n_bytes);
    for (std::size_t i = 0; i < n; ++i) {
        const std::size_t rarity = 2 + generator() % 30;
        for (std::size_t b = 0; b < n_bits && i % 50 != 3; ++b) {
            if (generator() % rarity != 0 && i != 7) continue;
            codes[i * n_bytes + b / 8] |= static_cast<std::uint8_t>(0x80 >> b % 8);
        }
        if (i % 10 == 9) std::copy_n(codes.begin(), n_bytes, codes.begin() + static_cast<std::ptrdiff_t>(i * n_bytes));
    }
    return codes;
}

std::vector<std::uint8_t> some_of(const std::vector<std::uint8_t>& codes, std::size_t n, std::size_t n_bytes) {
    std::vector<std::uint8_t> some(codes.begin(), codes.begin() + static_cast<std::ptrdiff_t>(n * n_bytes));
    some.resize((n + 1) * n_bytes);  // and an empty one
    return some;
}

std::vector<std::int64_t> shuffled_ids(std::size_t n, std::mt19937& generator) {
    std::vector<std::int64_t> ids(n);
    std::iota(ids.begin(), ids.end(), 7);
    std::shuffle(ids.begin(), ids.end(), generator);
    return ids;
}

gpu::Gallery on_gpu(const Index& index, std::size_t room = gpu::Gallery::kAllRoom,
                    const gpu::Gallery* previous = nullptr, gpu::Share share = {}) {
    return {*index.state(), index.layout().n_bits(), index.metric(), nullptr, room, previous, share};
}

gpu::Allowed allowed_by(const gpu::Gallery& gallery, const Index& index, const IdFilter& filter) {
    const auto bits = allowed_entries(*index.state(), filter);
    std::vector<const std::uint32_t*> words;
    for (const auto& of_segment : bits) words.push_back(of_segment.data());
    return gallery.allowed(words, nullptr);
}

Near nearest_on_cpu(const Index& index, CodeView queries, std::size_t k, const IdFilter* filter = nullptr) {
    std::vector<float> distances(queries.n * k);
    std::vector<std::int64_t> ids(queries.n * k);
    index.search_jaccard(queries, k, filter, distances.data(), ids.data(), nullptr);
    return {bits_of(distances), ids};
}

Near nearest_on_gpu(const gpu::Gallery& gallery, CodeView queries, std::size_t k, const gpu::Allowed* allowed) {
    std::vector<float> distances(queries.n * k);
    std::vector<std::int64_t> ids(queries.n * k);
    gallery.search(queries, static_cast<std::uint32_t>(k), allowed, nullptr, distances.data(), ids.data(), nullptr);
    return {bits_of(distances), ids};
}

void finds_what_the_index_finds(const gpu::Gallery& gallery, const Index& index, CodeView queries,
                                const std::string& where, const IdFilter* filter = nullptr) {
    const gpu::Allowed there = filter == nullptr ? gpu::Allowed() : allowed_by(gallery, index, *filter);
    const gpu::Allowed* const allowed = filter == nullptr ? nullptr : &there;
    for (const std::size_t k : {std::size_t{1}, std::size_t{10}, index.size() + 3}) {
        check(nearest_on_gpu(gallery, queries, k, allowed) == nearest_on_cpu(index, queries, k, filter),
              where + ", k = " + std::to_string(k));
    }
    for (const float radius : {0.0f, 0.3f, 0.75f, std::nextafter(1.0f, 0.0f), 1.0f}) {
        const JaccardRangeResult range = index.range_search_jaccard(queries, radius, filter, nullptr);
        std::vector<std::int64_t> counts(queries.n), offsets{0};
        gallery.count_within(queries, radius, allowed, counts.data(), nullptr);
        for (const std::int64_t count : counts) offsets.push_back(offsets.back() + count);
        check(offsets == range.offsets, where + ", counts within " + std::to_string(radius));
        std::vector<float> distances(range.ids.size());
        std::vector<std::int64_t> ids(range.ids.size());
        gallery.range_search(queries, radius, allowed, offsets.data(), distances.data(), ids.data(), nullptr);
        check(Near{bits_of(distances), ids} == Near{bits_of(range.distances), range.ids},
              where + ", all within " + std::to_string(radius));
    }
}

void search_is_the_cpu_s() {
    std::mt19937 generator(0);
    for (const std::size_t n_bits : {1, 8, 42, 64, 166, 881, 1024, 2048, 4096}) {
        const std::size_t n_bytes = (n_bits + 7) / 8;
        for (const std::size_t n : {0, 1, 5, 63, 65, 700}) {
            const auto codes = sparse_codes(n, n_bits, generator);
            const auto ids = shuffled_ids(n, generator);
            const auto queries = some_of(sparse_codes(9, n_bits, generator), 9, n_bytes);
            FlatIndex index(n_bits, Metric::jaccard);
            index.add(view(codes, n_bytes), ids.data());
            const std::string where = std::to_string(n) + " codes of " + std::to_string(n_bits) + " bits";
            finds_what_the_index_finds(on_gpu(index), index, view(queries, n_bytes), where);
        }
    }
}

/// There are more queries than a tile holds, and so many codes that a search compares samples first; for k = 1000,
/// several.
void samples_give_thresholds() {
    std::mt19937 generator(1);
    const std::size_t n_bits = 40, n_bytes = 5, n = 60000;
    const auto codes = sparse_codes(n, n_bits, generator);
    const auto queries = some_of(sparse_codes(70, n_bits, generator), 70, n_bytes);
    const auto ids = shuffled_ids(n, generator);
    FlatIndex index(n_bits, Metric::jaccard);
    index.add({codes.data(), 40000, n_bytes}, ids.data());
    index.add({codes.data() + 40000 * n_bytes, 20000, n_bytes}, ids.data() + 40000);
    const gpu::Gallery gallery = on_gpu(index);
    for (const std::size_t k : {1, 10, 1000}) {
        check(nearest_on_gpu(gallery, view(queries, n_bytes), k, nullptr) ==
                  nearest_on_cpu(index, view(queries, n_bytes), k),
              "samples, k = " + std::to_string(k));
    }
    const auto one = view(queries, n_bytes);
    const gpu::EmulatedWork before = gpu::emulated_work();
    nearest_on_gpu(gallery, {one.data, 1, n_bytes}, 10, nullptr);
    const gpu::EmulatedWork& now = gpu::emulated_work();
    const std::size_t n_parts = gallery.n_segments(), n_launches = now.n_launches - before.n_launches;
    check(n_launches == 1 + (n_parts + 2) + (n_parts + 1) + 1, "prepare, a sample, all, write");
    check(now.n_waits - before.n_waits == 1, "one wait");
}

/// Codes near a query that no sample shows: more candidates than there is room for, the nearest of them at many places.
void bursts_are_survived() {
    const std::size_t n_bytes = 8, n = 30000, n_burst = 7000;
    std::vector<std::uint8_t> query(n_bytes);
    query[0] = 0xff;
    std::size_t n_again = 0;
    for (std::size_t nearest = 1000; nearest < n_burst; nearest += 1500) {
        std::vector<std::uint8_t> codes(n * n_bytes);  // all with 8 bits set: their order is that of their ids
        for (std::size_t i = 0; i < n; ++i) {
            std::uint8_t* const code = codes.data() + i * n_bytes;
            const std::size_t quad = i / 4 + 1;
            if (i == nearest) {
                code[0] = 0xff;
            } else if (i < n_burst && quad % 157 != 0 && quad % 18 != 0) {  // samples for k = 1 and k = 100
                code[0] = code[1] = 0x0f;
            } else {
                code[1 + i % 7] = 0xff;
            }
        }
        FlatIndex index(64, Metric::jaccard);
        index.add(view(codes, n_bytes), nullptr);
        const gpu::Gallery gallery = on_gpu(index);
        for (const std::size_t k : {1, 100, 3000}) {
            const std::size_t n_waits = gpu::emulated_work().n_waits;
            check(nearest_on_gpu(gallery, view(query, n_bytes), k, nullptr) ==
                      nearest_on_cpu(index, view(query, n_bytes), k),
                  "a burst, k = " + std::to_string(k) + ", the nearest at " + std::to_string(nearest));
            n_again += gpu::emulated_work().n_waits - n_waits > 1;
        }
    }
    check(n_again == 8, "queries compared again: " + std::to_string(n_again));
}

/// 1 of 2, 2 of 4 and 3 of 6 bits tie, and ids decide; 1365 / 4095 and 1365 / 4096 do not.
void fractions_are_compared_as_fractions() {
    std::vector<std::uint8_t> codes;
    const auto add = [&](std::size_t n_set) {
        std::vector<std::uint8_t> code(512);
        for (std::size_t b = 0; b < n_set; ++b) code[b / 8] |= static_cast<std::uint8_t>(0x80 >> b % 8);
        codes.insert(codes.end(), code.begin(), code.end());
    };
    for (std::size_t n_set = 2700; n_set <= 4096; ++n_set) add(n_set);
    const std::size_t n_codes = codes.size() / 512;
    std::mt19937 generator(3);
    const auto ids = shuffled_ids(n_codes, generator);
    FlatIndex index(4096, Metric::jaccard);
    index.add(view(codes, 512), ids.data());
    codes.clear();
    for (const std::size_t n_set : {1365, 2730, 2731, 4095, 4096, 0}) add(n_set);
    finds_what_the_index_finds(on_gpu(index), index, view(codes, 512), "long fractions");

    const std::vector<std::uint8_t> few{0xc0, 0x40, 0xa0}, query{0x80};
    FlatIndex ties(8, Metric::jaccard);
    ties.add(view(few, 1), std::vector<std::int64_t>{9, 1, 4}.data());
    check(nearest_on_gpu(on_gpu(ties), view(query, 1), 3, nullptr) == Near{bits_of({.5f, .5f, 1.0f}), {4, 9, 1}},
          "ties by id");
}

/// Keys of all fractions of numbers up to 4,096 that neighbour one of these ascend, and hold what they were made of.
void keys_are_ordered_as_pairs_are() {
    for (const std::uint32_t united : {1u, 2u, 3u, 4093u, 4095u, 4096u}) {
        for (std::uint32_t differing = 0; differing < united; ++differing) {
            const float a = static_cast<float>(differing) / static_cast<float>(united);
            const float b = static_cast<float>(differing + 1) / static_cast<float>(united);
            check(gpu::pair_key(a, 0xffffffff) < gpu::pair_key(b, 0), "fractions before ids");
            check(gpu::key_beyond(a) > gpu::pair_key(a, 0xffffffff) && gpu::key_beyond(a) <= gpu::pair_key(b, 0),
                  "beyond a distance");
            check(gpu::key_distance<float>(gpu::pair_key(b, 5)) == b, "the distance of a key");
            check(gpu::key_number<float>(gpu::pair_key(b, 0xfffffffe)) == 0xfffffffe, "the number of a key");
        }
    }
    check(gpu::key_beyond(1.0f) >> 62 == 0, "62 bits are sorted");
}

/// Filters, changes, shares of several devices, codes on the host, and ids that keys have no room for.
void filters_changes_and_shares() {
    std::mt19937 generator(4);
    const std::size_t n_bits = 166, n_bytes = 21, n = 5000;
    const auto codes = sparse_codes(n, n_bits, generator);
    const auto queries = some_of(sparse_codes(4, n_bits, generator), 4, n_bytes);
    const CodeView wanted = view(queries, n_bytes);
    for (const bool far_apart : {false, true}) {
        auto ids = shuffled_ids(n, generator);
        if (far_apart) {  // a range of more than 32 bits
            for (auto& id : ids) id = id * (std::int64_t{1} << 30) - (std::int64_t{1} << 40);
        }
        HierIndex index(LevelLayout({n_bits}), Memory::standard, {}, Metric::jaccard);
        index.add(view(codes, n_bytes), ids.data());
        std::vector<gpu::Gallery> galleries;
        galleries.push_back(on_gpu(index));
        const auto expect = [&](std::size_t n_reused, const std::string& what) {
            galleries.push_back(on_gpu(index, gpu::Gallery::kAllRoom, &galleries.back()));
            check(galleries.back().n_reused() == n_reused, what + ": segments used again");
            finds_what_the_index_finds(galleries.back(), index, wanted, what);
            std::vector<std::int64_t> some{-5, 3};
            for (std::size_t i = 0; i < ids.size(); i += 3) some.push_back(ids[i]);
            const IdFilter wide(some), none({-8});
            finds_what_the_index_finds(galleries.back(), index, wanted, what + ", a filter", &wide);
            finds_what_the_index_finds(galleries.back(), index, wanted, what + ", an empty filter", &none);
        };
        expect(1, "nothing changed");
        const std::vector<std::int64_t> new_ids{-2, 1, 2, 4, 5};
        index.add(wanted, new_ids.data());
        expect(1, "an addition");
        index.remove(ids.data() + 100, 40);
        expect(2, "a removal");
        index.update(ids.data(), {codes.data() + 40 * n_bytes, 2, n_bytes});
        expect(1, "an update");

        const gpu::Gallery streamed = on_gpu(index, 50000);
        check(streamed.streamed(), "codes on the host");
        finds_what_the_index_finds(streamed, index, wanted, "streamed");
        std::vector<std::int64_t> found;
        for (std::size_t number = 0; number < 3; ++number) {
            const gpu::Gallery share = on_gpu(index, gpu::Gallery::kAllRoom, nullptr, {number, 3});
            const Near here = nearest_on_gpu(share, {wanted.data, 1, n_bytes}, index.size(), nullptr);
            for (const std::int64_t id : here.ids) {
                if (id != -1) found.push_back(id);
            }
        }
        std::sort(found.begin(), found.end());
        check(found == index.export_entries().ids, "each entry is in one share");
    }
}

void distances_have_a_type() {
    FlatIndex flat(64, Metric::jaccard), hamming(64);
    const std::vector<std::uint8_t> query(8);
    std::int64_t count = 0;
    check_throws<std::logic_error>([&] { on_gpu(flat).count_within(view(query, 8), 3, nullptr, &count, nullptr); },
                                   "the gallery's metric");
    check_throws<std::logic_error>(
        [&] { on_gpu(hamming).count_within(view(query, 8), 0.3f, nullptr, &count, nullptr); }, "the gallery's metric");
}

}  // namespace

}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    keys_are_ordered_as_pairs_are();
    fractions_are_compared_as_fractions();
    search_is_the_cpu_s();
    samples_give_thresholds();
    bursts_are_survived();
    filters_changes_and_shares();
    distances_have_a_type();
    std::printf("gpu_jaccard_test: all passed\n");
}
