#include "file_format.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "fasthash/error.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "fasthash/ids.h"
#include "sliced_codes.h"
#include "sorted_codes.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "index files are little-endian; a big-endian machine needs a reader that swaps bytes"
#endif

namespace fasthash {
namespace {

constexpr char kMagic[8] = {'F', 'A', 'S', 'T', 'H', 'A', 'S', 'H'};
constexpr std::uint16_t kMajor = 1;
constexpr std::uint16_t kMinor = 0;
constexpr std::uint64_t kMaxCodes = std::uint64_t{1} << 40;
constexpr std::uint64_t kAlignment = 64;
constexpr std::size_t kChunk = std::size_t{1} << 20;  // bytes read or written at once

// The first bytes of a file, as they stand in it.
struct RawHeader {
    char magic[8];
    std::uint16_t major;
    std::uint16_t minor;
    std::uint32_t header_bytes;
    std::uint8_t kind;
    std::uint8_t has_ids;
    std::uint16_t n_levels;
    std::uint8_t memory;
    std::uint8_t reserved_0[3];
    std::uint64_t n_codes;
    std::uint64_t levels_hash;
    std::uint64_t codes_hash;
    std::uint64_t ids_hash;
    std::uint8_t reserved_1[64];
    std::uint64_t header_hash;  // of all bytes before it
};
static_assert(sizeof(RawHeader) == 128 && offsetof(RawHeader, header_hash) == 120, "the format fixes the header");

// Where the sections lie: computed from the header, never stored, so that no two fields can disagree.
struct Sections {
    std::uint64_t levels = sizeof(RawHeader);
    std::uint64_t codes;
    std::uint64_t ids;
    std::uint64_t end;

    // Below 2^52 with n_codes <= 2^40 and n_bytes <= 512, so nothing wraps around.
    Sections(std::size_t n_levels, std::size_t n_bytes, std::uint64_t n_codes, bool has_ids) {
        codes = align(levels + n_levels * sizeof(std::uint16_t));
        ids = align(codes + n_codes * n_bytes);
        end = ids + (has_ids ? n_codes * sizeof(std::int64_t) : 0);
    }

    static std::uint64_t align(std::uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }
};

[[noreturn]] void refuse(const std::string& what) { throw FormatError(what); }

// Reads a section piece by piece and checks it at its end.
class SectionReader {
 public:
    SectionReader(const InputFile& file, const char* name, std::uint64_t begin, std::uint64_t n_bytes)
        : file_(file), name_(name), offset_(begin), end_(begin + n_bytes) {}

    void read(void* data, std::size_t n_bytes) {
        file_.read(data, n_bytes, offset_);
        hash_.update(data, n_bytes);
        offset_ += n_bytes;
    }

    /// The whole section has been read: compare its checksum, and see that zeros fill the gap up to `next`.
    void finish(std::uint64_t checksum, std::uint64_t next) {
        if (hash_.digest() != checksum) refuse(std::string("checksum of the section '") + name_ + "' does not match");
        std::uint8_t gap[kAlignment];
        const std::size_t n_gap = static_cast<std::size_t>(next - end_);
        file_.read(gap, n_gap, end_);
        for (std::size_t i = 0; i < n_gap; ++i) {
            if (gap[i] != 0) refuse(std::string("bytes after the section '") + name_ + "' are not zero");
        }
    }

 private:
    const InputFile& file_;
    const char* name_;
    std::uint64_t offset_;
    std::uint64_t end_;
    Xxh64 hash_;
};

// Everything up to the codes, checked, and the length of the file with it.
struct OpenedFile {
    InputFile file;
    RawHeader raw;
    std::vector<std::size_t> level_bits;

    explicit OpenedFile(const std::string& path) : file(path) {
        read_header();
        read_levels();
        if (const std::uint64_t expected = sections().end; file.size() != expected) {
            refuse("file has " + std::to_string(file.size()) + " bytes, its header describes " +
                   std::to_string(expected));
        }
    }

    LevelLayout layout() const { return LevelLayout(level_bits); }
    IndexKind kind() const { return static_cast<IndexKind>(raw.kind); }

    Sections sections() const { return {level_bits.size(), layout().n_bytes(), raw.n_codes, raw.has_ids == 1}; }

 private:
    void read_header() {
        if (file.size() < sizeof raw) {
            refuse("file has " + std::to_string(file.size()) + " bytes, fewer than a header");
        }
        file.read(&raw, sizeof raw, 0);
        if (std::memcmp(raw.magic, kMagic, sizeof kMagic) != 0) refuse("file does not begin with 'FASTHASH'");
        if (raw.major != kMajor || raw.minor > kMinor) {
            refuse("file was written by a " + std::string(raw.major < kMajor ? "foreign" : "newer") +
                   " fasthash (format " + std::to_string(raw.major) + "." + std::to_string(raw.minor) +
                   "), this one reads format " + std::to_string(kMajor) + "." + std::to_string(kMinor));
        }
        if (xxh64(&raw, offsetof(RawHeader, header_hash)) != raw.header_hash) {
            refuse("checksum of the header does not match");
        }
        const std::uint8_t zeros[sizeof raw.reserved_1] = {};
        const bool reserved_used = std::memcmp(raw.reserved_0, zeros, sizeof raw.reserved_0) != 0 ||
                                   std::memcmp(raw.reserved_1, zeros, sizeof zeros) != 0;
        if (raw.header_bytes != sizeof raw || reserved_used) {
            refuse("header uses fields that format 1.0 does not have");
        }
        if (kind() != IndexKind::flat && kind() != IndexKind::hier) {
            refuse("kind of index " + std::to_string(raw.kind) + " is unknown");
        }
        if (raw.memory > (kind() == IndexKind::hier ? 2 : 0)) {
            refuse("memory setting " + std::to_string(raw.memory) + " is unknown");
        }
        if (raw.has_ids > 1) refuse("flag of ids must be 0 or 1, is " + std::to_string(raw.has_ids));
        if (raw.n_codes > kMaxCodes) refuse("number of codes " + std::to_string(raw.n_codes) + " is out of range");
        if (raw.n_levels < 1 || raw.n_levels > kMaxBits / 8) {
            refuse("number of levels " + std::to_string(raw.n_levels) + " is out of range");
        }
    }

    void read_levels() {
        std::vector<std::uint16_t> widths(raw.n_levels);
        const Sections bounds(raw.n_levels, 0, 0, false);
        if (file.size() < bounds.codes) refuse("file ends within the section 'levels'");
        SectionReader reader(file, "levels", bounds.levels, widths.size() * sizeof widths[0]);
        reader.read(widths.data(), widths.size() * sizeof widths[0]);
        reader.finish(raw.levels_hash, bounds.codes);
        level_bits.assign(widths.begin(), widths.end());
        try {
            layout();
        } catch (const ArgumentError& error) {
            refuse(error.what());
        }
        if (kind() == IndexKind::flat && level_bits.size() != 1) {
            refuse("a flat index has one level, the file names " + std::to_string(level_bits.size()));
        }
        if (kind() == IndexKind::hier && raw.has_ids == 0) {
            refuse("a hierarchical index stores its ids, the file has none");
        }
    }
};

// Reads all codes, piece by piece: call(CodeView rows, first row).
template <typename Call>
void read_codes(const OpenedFile& opened, Call call) {
    const std::size_t n_bytes = opened.layout().n_bytes();
    const auto n = static_cast<std::size_t>(opened.raw.n_codes);
    const Sections sections = opened.sections();
    SectionReader reader(opened.file, "codes", sections.codes, n * n_bytes);
    const std::size_t n_piece = kChunk / n_bytes;
    std::vector<std::uint8_t> rows(std::min(n, n_piece) * n_bytes);
    for (std::size_t begin = 0; begin < n; begin += n_piece) {
        const std::size_t n_rows = std::min(n_piece, n - begin);
        reader.read(rows.data(), n_rows * n_bytes);
        call(CodeView{rows.data(), n_rows, n_bytes}, begin);
    }
    reader.finish(opened.raw.codes_hash, sections.ids);
}

std::vector<std::int64_t> read_ids(const OpenedFile& opened) {
    const Sections sections = opened.sections();
    std::vector<std::int64_t> ids(opened.raw.has_ids ? static_cast<std::size_t>(opened.raw.n_codes) : 0);
    SectionReader reader(opened.file, "ids", sections.ids, ids.size() * sizeof ids[0]);
    reader.read(ids.data(), ids.size() * sizeof ids[0]);
    reader.finish(opened.raw.ids_hash, sections.end);
    return ids;
}

std::unique_ptr<Index> load_flat(const OpenedFile& opened) {
    const LevelLayout layout = opened.layout();
    const auto n = static_cast<std::size_t>(opened.raw.n_codes);
    SlicedCodes codes(layout.n_bytes());
    codes.make_room(n);
    read_codes(opened, [&codes](CodeView rows, std::size_t) { codes.append(rows); });
    return FlatIndex::from_codes(std::move(codes), read_ids(opened));
}

std::unique_ptr<Index> load_hier(const OpenedFile& opened) {
    const LevelLayout layout = opened.layout();
    const auto n = static_cast<std::size_t>(opened.raw.n_codes);
    if (n > UINT32_MAX) refuse("a hierarchical index holds fewer than 2^32 codes, the file has more");
    auto index = std::make_unique<HierIndex>(layout, static_cast<Memory>(opened.raw.memory));
    if (n == 0) {
        read_codes(opened, [](CodeView, std::size_t) {});
        read_ids(opened);
        return index;
    }
    std::vector<std::int64_t> ids = read_ids(opened);
    given_ids(ids.data(), n, 0, {});  // for its checks
    const auto [smallest, largest] = std::minmax_element(ids.begin(), ids.end());
    SortedCodesBuilder builder(layout.n_bytes(), n, *smallest, *largest);
    read_codes(opened, [&](CodeView rows, std::size_t begin) {
        for (std::size_t i = 0; i < rows.n; ++i) {
            if (!builder.append(rows.row(i), ids[begin + i])) {
                refuse("codes are out of order at row " + std::to_string(begin + i));
            }
        }
    });
    const std::uint64_t next_id = next_after(0, ids);
    ids = {};
    index->adopt(builder.finish(), next_id);
    return index;
}

// Runs a reader; what it finds wrong with the file is told with the file's name.
template <typename Reader>
auto with_path(const std::string& path, Reader reader) {
    try {
        return reader();
    } catch (const FormatError& error) {
        throw FormatError(path + ": " + error.what());
    } catch (const ArgumentError& error) {  // of an index that was handed unacceptable ids
        throw FormatError(path + ": " + error.what());
    }
}

}  // namespace

IndexWriter::IndexWriter(const std::string& path, IndexHeader header)
    : header_(std::move(header)), file_(path), position_(sizeof(RawHeader)) {
    std::vector<std::uint16_t> widths;
    for (const std::size_t bits : header_.layout.level_bits()) widths.push_back(static_cast<std::uint16_t>(bits));
    append(levels_hash_, widths.data(), widths.size() * sizeof widths[0]);
    pad();
}

void IndexWriter::codes(const std::uint8_t* data, std::size_t n_bytes) { append(codes_hash_, data, n_bytes); }

void IndexWriter::ids(const std::int64_t* data, std::size_t n) {
    if (!ids_begun_) pad();
    ids_begun_ = true;
    append(ids_hash_, data, n * sizeof(std::int64_t));
}

void IndexWriter::finish() {
    if (!header_.has_ids) pad();
    flush();
    RawHeader raw{};
    std::memcpy(raw.magic, kMagic, sizeof kMagic);
    raw.major = kMajor;
    raw.minor = kMinor;
    raw.header_bytes = sizeof raw;
    raw.kind = static_cast<std::uint8_t>(header_.kind);
    raw.has_ids = header_.has_ids ? 1 : 0;
    raw.memory = header_.memory;
    raw.n_levels = static_cast<std::uint16_t>(header_.layout.n_levels());
    raw.n_codes = header_.n_codes;
    raw.levels_hash = levels_hash_.digest();
    raw.codes_hash = codes_hash_.digest();
    raw.ids_hash = ids_hash_.digest();
    raw.header_hash = xxh64(&raw, offsetof(RawHeader, header_hash));
    file_.write(&raw, sizeof raw, 0);
    file_.commit();
}

void IndexWriter::append(Xxh64& hash, const void* data, std::size_t n_bytes) {
    hash.update(data, n_bytes);
    if (n_bytes >= kChunk) {
        flush();
        file_.write(data, n_bytes, position_);
        position_ += n_bytes;
        return;
    }
    const auto* bytes = static_cast<const std::uint8_t*>(data);
    buffer_.insert(buffer_.end(), bytes, bytes + n_bytes);
    if (buffer_.size() >= kChunk) flush();
}

// Zeros up to where the next section begins.
void IndexWriter::pad() {
    const std::uint64_t position = position_ + buffer_.size();
    buffer_.resize(buffer_.size() + static_cast<std::size_t>(Sections::align(position) - position));
}

void IndexWriter::flush() {
    file_.write(buffer_.data(), buffer_.size(), position_);
    position_ += buffer_.size();
    buffer_.clear();
}

std::unique_ptr<Index> load_index(const std::string& path) {
    return with_path(path, [&] {
        const OpenedFile opened(path);
        return opened.kind() == IndexKind::flat ? load_flat(opened) : load_hier(opened);
    });
}

FileInfo peek_file(const std::string& path) {
    return with_path(path, [&]() -> FileInfo {
        const OpenedFile opened(path);
        return {opened.kind(),    opened.level_bits, opened.raw.n_codes, opened.raw.has_ids == 1,
                opened.raw.major, opened.raw.minor,  opened.file.size()};
    });
}

}  // namespace fasthash
