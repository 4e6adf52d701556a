// Load, then use: files that are nearly right. An input names a good file and edits of it; where it says so, all
// checksums are made right again, so that the checks behind them are reached. What loads must work.
#include <cstring>
#include <optional>

#include "../tests/testing.h"
#include "file_layout.h"
#include "xxh64.h"

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
            if (n < 4) continue;
            const std::vector<std::int64_t> gone{1, 64, 100};
            index->remove(gone.data(), gone.size());
            const std::vector<std::int64_t> ids{INT64_MIN, -2, INT64_MAX};
            index->add({codes.data(), 3, 3}, ids.data());
            files.push_back(index->to_bytes());
        }
    }
    return files;
}

// The input, read from the front.
class Input {
 public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}

    bool empty() const { return position_ >= size_; }
    std::uint64_t number(std::size_t n_bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < n_bytes; ++i) value |= std::uint64_t{byte()} << 8 * i;
        return value;
    }
    std::uint8_t byte() { return empty() ? std::uint8_t{0} : data_[position_++]; }

 private:
    const std::uint8_t* data_;
    std::size_t size_;
    std::size_t position_ = 0;
};

void edit(Bytes& file, Input& input) {
    constexpr std::uint64_t kHostile[] = {0,          1,
                                          7,          64,
                                          0x7fff,     0x8000,
                                          0x7fffffff, 0x80000000,
                                          0xffffffff, 0x100000000,
                                          INT64_MAX,  0x8000000000000000,
                                          UINT64_MAX, 0x7ff8000000000000};
    const unsigned what = input.byte() % 8;
    // The header is where most decisions are.
    const std::size_t limit = what < 4 ? std::min<std::size_t>(file.size(), sizeof(RawHeader)) : file.size();
    const std::size_t at = limit == 0 ? 0 : static_cast<std::size_t>(input.number(2)) % limit;
    const std::size_t width = std::min<std::size_t>(std::size_t{1} << input.byte() % 4, file.size() - at);
    switch (what) {
        case 0:
        case 4: {  // another value
            const std::uint64_t value = input.number(8);
            std::memcpy(file.data() + at, &value, width);
            break;
        }
        case 1:
        case 5:  // a hostile one
            std::memcpy(file.data() + at, &kHostile[input.byte() % std::size(kHostile)], width);
            break;
        case 2:
        case 6:  // a little more
            if (!file.empty()) file[at] = static_cast<std::uint8_t>(file[at] + input.byte());
            break;
        case 3:  // a bit
            if (!file.empty()) file[at] ^= static_cast<std::uint8_t>(1 << input.byte() % 8);
            break;
        default:  // another length
            file.resize(file.size() + input.byte() % 200 - std::min<std::size_t>(file.size(), input.byte() % 200));
    }
}

void repair(Bytes& file) {
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
        for (std::size_t i = 0; i < kSections; ++i) {
            if (table[i].end() > file.size()) continue;
            raw.hashes[i] = xxh64(file.data() + table[i].begin, static_cast<std::size_t>(table[i].n_bytes));
        }
    }
    raw.header_hash = xxh64(&raw, offsetof(RawHeader, header_hash));
    std::memcpy(file.data(), &raw, sizeof raw);
}

// Whatever was loaded must be an index like any other.
void use(Index& index) {
    const std::size_t n_bytes = index.layout().n_bytes();
    const Export items = index.export_items();
    PlainIndex plain(n_bytes);
    plain.add({items.codes.data(), items.ids.size(), n_bytes}, items.ids.data());
    check(plain.size() == index.size() && plain.next_id() <= index.next_id(), "size and next id");
    std::mt19937 generator(2);
    const auto queries = random_codes(2 * n_bytes, generator);
    Expected(plain, view(queries, n_bytes)).check_searches(index, "loaded");

    const Bytes again = index.to_bytes();
    const auto same = index_from_bytes(again.data(), again.size());
    check(same->to_bytes() == again, "saved, loaded and saved again");
    if (index.size() > 0) {
        const std::int64_t first = items.ids[items.ids.size() / 2];
        index.remove(&first, 1);
        plain.remove({first});
    }
    if (!index.contains(5)) {
        const std::int64_t added = 5;
        index.add({queries.data(), 1, n_bytes}, &added);
        plain.add({queries.data(), 1, n_bytes}, &added);
    }
    Expected(plain, view(queries, n_bytes)).check_searches(index, "changed");
}

}  // namespace
}  // namespace fasthash::testing

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace fasthash;
    using namespace fasthash::testing;
    static const std::vector<Bytes> files = good_files();
    Input input(data, size);
    const bool repaired = input.byte() % 4 != 0;
    Bytes file = files[input.byte() % files.size()];
    while (!input.empty()) edit(file, input);
    if (repaired) repair(file);
    std::unique_ptr<Index> index;
    try {
        index = index_from_bytes(file.data(), file.size());
    } catch (const FormatError&) {
        return 0;
    }
    use(*index);
    return 0;
}
