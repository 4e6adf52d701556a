// Fuzzer of loading: nearly valid index files.
//
// An input chooses a valid file and edits of it, or is itself a file. It may also ask to have lengths and checksums
// repaired, so that the checks behind them are reached. Every file must be refused or load as a working index.
#include <cstring>

#include "../tests/testing.h"
#include "fasthash/threads.h"
#include "input.h"
#include "io/file_layout.h"
#include "io/xxh64.h"

#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace fasthash::testing {

const char* const kTestName = "load_fuzz";

namespace {

using Bytes = std::vector<std::uint8_t>;

std::vector<Bytes> good_files() {
    std::vector<Bytes> files;
    std::mt19937 generator(1);
    for (const std::size_t n : {std::size_t{0}, std::size_t{3}, std::size_t{130}}) {
        for (const auto& index : indices_of_every_kind(LevelLayout({8, 16}))) {
            const auto codes = random_codes(n * 3, generator, 3);
            index->add(view(codes, 3), nullptr);
            files.push_back(index->to_bytes());
            files.push_back(index->to_bytes({}, true));
            if (n < 4) continue;
            const std::vector<std::int64_t> gone{1, 64, 100};
            index->remove(gone.data(), gone.size());
            files.push_back(index->to_bytes());
            const std::vector<std::int64_t> ids{INT64_MIN, -2, INT64_MAX};
            index->add({codes.data(), 3, 3}, ids.data());
            files.push_back(index->to_bytes());
            files.push_back(index->to_bytes({}, true));
        }
    }
    return files;
}

void edit(Bytes& file, Input& input) {
    constexpr std::uint64_t kHostile[] = {0,          1,
                                          7,          64,
                                          0x7fff,     0x8000,
                                          0x7fffffff, 0x80000000,
                                          0xffffffff, 0x100000000,
                                          INT64_MAX,  0x8000000000000000,
                                          UINT64_MAX, 0x7ff8000000000000};
    const unsigned what = input.byte() % 8;
    // Half of the edits go to the header, which decides most.
    const std::size_t limit = what < 4 ? std::min<std::size_t>(file.size(), sizeof(RawHeader)) : file.size();
    if (limit == 0) return file.resize(input.byte());
    const std::size_t at = static_cast<std::size_t>(input.number(2)) % limit;
    const std::size_t width = std::min<std::size_t>(std::size_t{1} << input.byte() % 4, file.size() - at);
    switch (what) {
        case 0:
        case 4: {  // another value
            const std::uint64_t value = input.number(width);
            std::memcpy(file.data() + at, &value, width);
            break;
        }
        case 1:
        case 5:  // an extreme value
            std::memcpy(file.data() + at, &kHostile[input.below(std::size(kHostile))], width);
            break;
        case 2:
        case 6:  // a small increment
            file[at] = static_cast<std::uint8_t>(file[at] + input.byte());
            break;
        case 3:  // a bit
            file[at] ^= static_cast<std::uint8_t>(1 << input.byte() % 8);
            break;
        default:  // another length
            file.resize(file.size() + input.byte() % 200);
            file.resize(file.size() - std::min<std::size_t>(file.size(), input.byte() % 200));
    }
}

// Repairs lengths and checksums as far as the header is valid.
void repair(Bytes& file, bool length_too) {
    if (file.size() < sizeof(RawHeader)) return;
    RawHeader raw;
    std::memcpy(&raw, file.data(), sizeof raw);
    if (raw.n_codes <= kMaxCodes && raw.n_rows <= kMaxCodes && raw.n_runs <= kMaxCodes) {
        std::size_t n_bytes = 0;
        const SectionRange levels = SectionTable(raw, 0)[0];
        for (std::uint64_t at = levels.begin; at + 2 <= std::min<std::uint64_t>(levels.end(), file.size()); at += 2) {
            std::uint16_t bits;
            std::memcpy(&bits, file.data() + at, sizeof bits);
            n_bytes += bits / 8;
        }
        const SectionTable table(raw, std::min<std::size_t>(n_bytes, kMaxBits / 8));
        constexpr std::uint64_t kLongest = 1 << 16;
        if (length_too && table.file_bytes() <= kLongest) file.resize(static_cast<std::size_t>(table.file_bytes()));
        for (std::size_t i = 0; i < table.n; ++i) {
            if (table[i].end() > file.size()) continue;
            raw.hashes[i] = xxh64(file.data() + table[i].begin, static_cast<std::size_t>(table[i].n_bytes));
        }
    }
    raw.header_hash = xxh64(&raw, offsetof(RawHeader, header_hash));
    std::memcpy(file.data(), &raw, sizeof raw);
}

// An index with an id map is the same index.
void check_with_map(const Index& index, const Bytes& without) {
    const Bytes with_map = index.to_bytes({}, true);
    check(index_from_bytes(with_map.data(), with_map.size())->to_bytes() == without, "with an id map");
}

// Checks that a loaded index works like any other.
void use(Index& index, Input& input) {
    std::mt19937 generator(input.byte());
    const std::size_t n_bytes = index.layout().n_bytes();
    const Export entries = index.export_entries();
    PlainIndex plain(n_bytes);
    plain.add({entries.codes.data(), entries.ids.size(), n_bytes}, entries.ids.data());
    check(plain.size() == index.size() && plain.next_id() <= index.next_id(), "size and next id");
    auto queries = random_codes(2 * n_bytes, generator, 3);
    if (plain.size() > 0) std::copy_n(entries.codes.begin(), n_bytes, queries.begin());
    const auto expected = [&] {
        std::vector<std::int64_t> some = plain.ids();
        some.resize(some.size() / (1 + input.below(30)));
        std::vector<std::unique_ptr<IdFilter>> filters;
        filters.push_back(std::make_unique<IdFilter>(std::move(some)));
        if (input.one_in(2)) filters.back()->set_reusable();
        return Expected(plain, view(queries, n_bytes), std::move(filters));
    };
    expected().check_searches(index, "loaded");

    const Bytes again = index.to_bytes();
    check(index_from_bytes(again.data(), again.size())->to_bytes() == again, "saved, loaded and saved again");
    check_with_map(index, again);
    if (entries.ids.size() > 0) {
        std::vector<std::int64_t> some;
        for (const std::int64_t id : entries.ids) {
            if (input.one_in(4)) some.push_back(id);
        }
        const auto codes = random_codes(some.size() * n_bytes, generator, 3);
        index.update(some.data(), view(codes, n_bytes));
        plain.update(some, view(codes, n_bytes));
        some.resize(some.size() / 2);
        index.remove(some.data(), some.size());
        plain.remove(some);
    }
    if (!index.contains(5)) {
        const std::int64_t added = 5;
        index.add({queries.data(), 1, n_bytes}, &added);
        plain.add({queries.data(), 1, n_bytes}, &added);
    }
    if (input.one_in(2)) index.compact();
    expected().check_searches(index, "changed");
    const std::vector<std::int64_t> rest = plain.ids();
    index.remove(rest.data(), rest.size());
    check(index.size() == 0 && index.export_entries().ids.empty(), "emptied");
}

#if defined(__linux__)
// A file in memory.
std::string file_of(const Bytes& bytes) {
    static const int descriptor = memfd_create("load_fuzz", MFD_CLOEXEC);
    check(descriptor >= 0 && ftruncate(descriptor, 0) == 0, "memfd_create");
    check(pwrite(descriptor, bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()), "pwrite");
    return "/proc/self/fd/" + std::to_string(descriptor);
}

// A file loaded without all checks may give wrong results, and nothing worse.
void search_unchecked(const std::string& path, Input& input) {
    std::unique_ptr<Index> index;
    try {
        index = load_index(path, true, false);
    } catch (const FormatError&) {
        return;
    }
    std::mt19937 generator(input.byte());
    const std::size_t n_bytes = index->layout().n_bytes(), k = 1 + input.below(20);
    const auto queries = random_codes(2 * n_bytes, generator, 3);
    std::vector<std::int32_t> distances(2 * k);
    std::vector<std::int64_t> ids(2 * k), counts(2);
    index->search(view(queries, n_bytes), k, {}, nullptr, distances.data(), ids.data(), nullptr);
    const IdFilter filter({ids[0], ids[1], 1, 2, 3, 4, 5, 6, 7, 8, 9});
    index->search(view(queries, n_bytes), k, {}, &filter, distances.data(), ids.data(), nullptr);
    index->count_within(view(queries, n_bytes), static_cast<std::int32_t>(k), nullptr, counts.data());
    index->range_search(view(queries, n_bytes), static_cast<std::int32_t>(k), nullptr, nullptr);
    std::vector<std::int64_t> segments(ids.size()), entries(ids.size());
    index->places(ids.data(), ids.size(), segments.data(), entries.data());
    index->entry_ids(entries.data(), entries.size(), ids.data());
    try {
        index->compact();
        index->without(entries.data(), 1);
    } catch (const ArgumentError&) {  // entries that are not in order, or none
    }
}

// A mapped file must give the same index or the same error.
void check_mapped(const Bytes& file, const Index* loaded, Input& input) {
    const std::string path = file_of(file);
    search_unchecked(path, input);
    std::unique_ptr<Index> mapped;
    try {
        mapped = load_index(path, true);
    } catch (const FormatError&) {
    }
    check((mapped == nullptr) == (loaded == nullptr), "a file is good, mapped or not");
    try {
        check(verify_file(path).fault.empty() == (loaded != nullptr), "what verifying tells");
    } catch (const FormatError&) {
        check(loaded == nullptr, "a file that cannot be verified");
    }
    if (mapped == nullptr) return;
    check(mapped->to_bytes() == loaded->to_bytes(), "mapped");
    use(*mapped, input);
}
#else
void check_mapped(const Bytes&, const Index*, Input&) {}
#endif

}  // namespace
}  // namespace fasthash::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fasthash;
    using namespace fasthash::testing;
    static const std::vector<Bytes> files = good_files();
    Input input(data, size);
    const unsigned how = input.byte();
    set_num_threads(how % 16 == 0 ? 3 : 1);
    Bytes file;
    if (how / 16 == 0) {
        file.assign(input.rest(), input.rest() + input.n_rest());
    } else {
        file = files[input.below(files.size())];
        while (!input.empty()) edit(file, input);
    }
    if (how / 16 % 4 != 0) repair(file, how / 16 % 4 == 1);
    std::unique_ptr<Index> index;
    try {
        index = index_from_bytes(file.data(), file.size());
    } catch (const FormatError&) {
    }
    if (how % 16 < 4) check_mapped(file, index.get(), input);
    if (index != nullptr) use(*index, input);
    return 0;
}
