#include "io/opened_file.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>

#include "codes/code_bits.h"
#include "fasthash/error.h"
#include "io/code_checks.h"
#include "io/id_checks.h"
#include "io/xxh64.h"

namespace fasthash {
namespace {

RawHeader read_header(const ByteSource& file) {
    RawHeader raw;
    if (file.size() < sizeof raw) refuse("file has " + std::to_string(file.size()) + " bytes, fewer than a header");
    file.read(&raw, sizeof raw, 0);
    if (std::memcmp(raw.magic, kMagic, sizeof kMagic) != 0) refuse("file does not begin with 'FASTHASH'");
    if (raw.major != kMajor || raw.minor > kMinor) {
        refuse("file was written by a " + std::string(raw.major < kMajor ? "foreign" : "newer") + " fasthash (format " +
               std::to_string(raw.major) + "." + std::to_string(raw.minor) + "), this one reads format " +
               std::to_string(kMajor) + "." + std::to_string(kMinor));
    }
    if (xxh64(&raw, offsetof(RawHeader, header_hash)) != raw.header_hash) {
        refuse("checksum of the header does not match");
    }
    const bool has_all_sections = raw.n_sections() == kSections;
    if (raw.header_bytes != sizeof raw || !all_zero(raw.reserved, sizeof raw.reserved) ||
        (!has_all_sections && (raw.hashes[4] != 0 || raw.hashes[5] != 0))) {
        refuse("header uses fields that format 1 does not have");
    }
    const auto check = [](bool good, const char* field, std::uint64_t value, const char* wrong) {
        if (!good) refuse(std::string(field) + " " + std::to_string(value) + " " + wrong);
    };
    const bool hier = raw.kind == static_cast<std::uint8_t>(IndexKind::hier);
    check(raw.is_flat() || hier, "kind of index", raw.kind, "is unknown");
    check(raw.metric <= 1, "metric", raw.metric, "is unknown");
    const bool each = raw.has_row_for_each_code();
    check(raw.memory <= (hier ? 2 : 0), "memory setting", raw.memory, "is unknown");
    check(raw.plan <= (hier && !raw.is_jaccard() ? 4 : 0), "plan", raw.plan, "is unknown");
    check(raw.minor == raw.oldest_minor(), "minor version", raw.minor, "does not agree with what the file holds");
    check(raw.n_levels >= 1 && raw.n_levels <= (each ? 1 : kMaxBits / 8), "number of levels", raw.n_levels,
          "is out of range");
    check(raw.n_codes <= kMaxCodes, "number of codes", raw.n_codes, "is out of range");
    check(each || raw.n_codes == 0 ? raw.n_rows == raw.n_codes : raw.n_rows >= 1 && raw.n_rows <= raw.n_codes,
          "number of rows", raw.n_rows, "does not agree with the number of codes");
    const std::uint64_t n_extra = raw.n_codes - raw.n_rows;
    check(raw.n_runs <= std::min(n_extra, raw.n_rows) && (raw.n_runs > 0) == (n_extra > 0), "number of runs",
          raw.n_runs, "does not agree with the numbers of codes and rows");
    check(raw.id_bytes <= 8 && (raw.n_codes == 0 ? raw.id_bytes == 0 : each || raw.id_bytes > 0), "bytes of an id",
          raw.id_bytes, "are out of range");
    check(raw.next_id <= std::uint64_t{1} << 63, "next id", raw.next_id, "is out of range");
    check(raw.n_codes > 0 || raw.first_id == 0, "first id", static_cast<std::uint64_t>(raw.first_id),
          "is that of no code");
    const bool may_be_clusters = !each && (raw.plan == 0 || raw.plan == 4);
    check(raw.n_clusters <= (may_be_clusters ? raw.n_rows : 0), "number of clusters", raw.n_clusters,
          "does not agree with the kind, the plan and the number of rows");
    check(raw.has_id_map <= (raw.id_bytes > 0 ? 1 : 0), "id map", raw.has_id_map, "is unknown, or maps no ids");
    check(raw.has_summary <= (!each && raw.id_bytes > 0 ? 1 : 0), "summary", raw.has_summary,
          "is unknown, or sums up no ids");
    const bool has_directory = raw.has_summary != 0 && raw.n_clusters == 0 && raw.directory_bits > 0;
    check(has_directory ? raw.directory_bits >= 8 && raw.directory_bits <= kMaxSubstringBits : raw.directory_bits == 0,
          "number of bits of the directory", raw.directory_bits, "is out of range");
    check(has_directory || raw.n_tables == 0, "number of tables", raw.n_tables, "does not agree with the directory");
    return raw;
}

}  // namespace

OpenedFile::OpenedFile(const ByteSource& source) : file(source), raw(read_header(source)) {
    const SectionRange levels = SectionTable(raw, 0)[0];
    if (file.size() < SectionTable::align(levels.end())) refuse("file ends within the section 'levels'");
    std::vector<std::uint16_t> widths(raw.n_levels);
    file.read(widths.data(), static_cast<std::size_t>(levels.n_bytes), levels.begin);
    if (xxh64(widths.data(), static_cast<std::size_t>(levels.n_bytes)) != raw.hashes[0]) refuse_section(0);
    level_bits.assign(widths.begin(), widths.end());
    try {
        if (layout().padding_bits() != raw.padding_bits) refuse("levels do not agree with the bits that pad a code");
    } catch (const ArgumentError& error) {
        refuse(error.what());
    }
    if ((raw.n_tables + 1u) * raw.directory_bits > layout().n_bytes() * 8) {
        refuse("directory and tables have more bits than a code");
    }
    if (const std::uint64_t expected = table().file_bytes(); file.size() != expected) {
        refuse("file has " + std::to_string(file.size()) + " bytes, its header describes " + std::to_string(expected));
    }
}

FileInfo OpenedFile::info() const {
    return {kind(),
            level_bits,
            raw.n_codes,
            raw.id_bytes > 0,
            raw.major,
            raw.minor,
            file.size(),
            static_cast<Memory>(raw.memory),
            raw.n_clusters,
            raw.has_id_map != 0,
            static_cast<Metric>(raw.metric)};
}

void OpenedFile::refuse_section(std::size_t section) {
    refuse(std::string("checksum of the section '") + kSectionNames[section] + "' does not match");
}

}  // namespace fasthash
