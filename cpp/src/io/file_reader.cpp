#include <algorithm>
#include <cstring>
#include <tuple>

#include "codes/code_bits.h"
#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "fasthash/index_file.h"
#include "fasthash/threads.h"
#include "io/cluster_checks.h"
#include "io/code_checks.h"
#include "io/file_format.h"
#include "io/file_layout.h"
#include "io/id_checks.h"
#include "io/xxh64.h"
#include "platform/files.h"
#include "segments/arranged_segment.h"
#include "segments/bit_major_segment.h"
#include "segments/byte_major_segment.h"
#include "segments/plan_segment.h"
#include "segments/state.h"

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
    const bool has_directory = raw.has_summary != 0 && raw.n_clusters == 0;
    check(has_directory ? raw.directory_bits >= 8 && raw.directory_bits <= kMaxSubstringBits : raw.directory_bits == 0,
          "number of bits of the directory", raw.directory_bits, "is out of range");
    check(has_directory || raw.n_tables == 0, "number of tables", raw.n_tables, "does not agree with the directory");
    return raw;
}

// A file whose header, levels and length have been checked, but not its codes.
struct OpenedFile {
    const ByteSource& file;
    RawHeader raw;
    std::vector<std::size_t> level_bits;

    explicit OpenedFile(const ByteSource& source) : file(source), raw(read_header(source)) {
        const SectionRange levels = SectionTable(raw, 0)[0];
        if (file.size() < SectionTable::align(levels.end())) refuse("file ends within the section 'levels'");
        std::vector<std::uint16_t> widths(raw.n_levels);
        file.read(widths.data(), static_cast<std::size_t>(levels.n_bytes), levels.begin);
        if (xxh64(widths.data(), static_cast<std::size_t>(levels.n_bytes)) != raw.hashes[0]) refuse_section(0);
        level_bits.assign(widths.begin(), widths.end());
        try {
            if (layout().padding_bits() != raw.padding_bits)
                refuse("levels do not agree with the bits that pad a code");
        } catch (const ArgumentError& error) {
            refuse(error.what());
        }
        if ((raw.n_tables + 1u) * raw.directory_bits > layout().n_bytes() * 8) {
            refuse("directory and tables have more bits than a code");
        }
        if (const std::uint64_t expected = table().file_bytes(); file.size() != expected) {
            refuse("file has " + std::to_string(file.size()) + " bytes, its header describes " +
                   std::to_string(expected));
        }
    }

    LevelLayout layout() const { return LevelLayout(level_bits); }
    IndexKind kind() const { return static_cast<IndexKind>(raw.kind); }
    SectionTable table() const { return {raw, layout().n_bytes()}; }
    FileInfo info() const {
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

    [[noreturn]] static void refuse_section(std::size_t section) {
        refuse(std::string("checksum of the section '") + kSectionNames[section] + "' does not match");
    }
};

// The arrays of a file, in memory or mapped.
class Sections {
 public:
    Sections(const OpenedFile& opened, const MappedFile* mapped)
        : opened_(opened), table_(opened.table()), mapped_(mapped) {}

    /// n values of a section, starting at byte `offset`.
    template <typename T>
    Array<T> values(std::size_t section, std::uint64_t offset, std::size_t n) const {
        const std::uint64_t begin = table_[section].begin + offset;
        if (mapped_ != nullptr) return Array<T>::view(reinterpret_cast<const T*>(mapped_->data() + begin), n);
        Array<T> read(n);
        opened_.file.read(read.data(), n * sizeof(T), begin);
        return read;
    }
    /// The gaps between sections must be zero.
    void check_gaps() const {
        for (std::size_t i = 0; i + 1 < table_.n; ++i) {
            std::uint8_t gap[SectionTable::kAlignment];
            const auto n = static_cast<std::size_t>(table_[i + 1].begin - table_[i].end());
            opened_.file.read(gap, n, table_[i].end());
            if (!all_zero(gap, n))
                refuse(std::string("bytes after the section '") + kSectionNames[i] + "' are not zero");
        }
    }
    void check_hash(std::size_t section, std::initializer_list<std::pair<const void*, std::size_t>> pieces) const {
        Xxh64 hash;
        for (const auto& [data, n_bytes] : pieces) hash.update(data, n_bytes);
        if (hash.digest() != opened_.raw.hashes[section]) OpenedFile::refuse_section(section);
    }
    /// Check the large sections in parallel.
    template <typename T>
    void check_large(const Array<T>& codes, const PackedNumbers& ids, const PackedNumbers& id_map) const {
        const std::tuple<std::size_t, const void*, std::size_t> large[] = {
            {1, codes.data(), codes.size() * sizeof(T)},
            {3, ids.bytes().data(), ids.bytes().size()},
            {5, id_map.bytes().data(), id_map.bytes().size()}};
        parallel_for(table_.n == kSections ? 3 : 2, [&](std::size_t i) {
            const auto& [section, data, n_bytes] = large[i];
            check_hash(section, {{data, n_bytes}});
        });
    }

 private:
    const OpenedFile& opened_;
    const SectionTable table_;
    const MappedFile* mapped_;
};

// `most`: the largest value, less the smallest, that is read from bytes which are not checked.
PackedNumbers read_numbers(const OpenedFile& opened, const Sections& sections, std::size_t section,
                           std::int64_t smallest, std::size_t width, std::uint64_t most = ~std::uint64_t{0}) {
    const auto n_bytes = static_cast<std::size_t>(opened.table()[section].n_bytes);
    auto bytes = sections.values<std::uint8_t>(section, 0, n_bytes);
    if (!all_zero(bytes.end() - PackedNumbers::kSlack, PackedNumbers::kSlack)) {
        refuse(std::string("bytes after the ") + kSectionNames[section] + " are not zero");
    }
    return PackedNumbers::of_width(smallest, width, std::move(bytes), most);
}

PackedNumbers read_ids(const OpenedFile& opened, const Sections& sections, std::uint64_t most = ~std::uint64_t{0}) {
    return read_numbers(opened, sections, 3, opened.raw.first_id, opened.raw.id_bytes, most);
}

// Empty if the file has none.
PackedNumbers read_id_map(const OpenedFile& opened, const Sections& sections) {
    if (opened.raw.has_id_map == 0) return {};
    return read_numbers(opened, sections, 5, 0, IdMap::width_for(static_cast<std::size_t>(opened.raw.n_codes)));
}

LiveSegment with_id_map(std::shared_ptr<const Segment> segment, PackedNumbers id_map) {
    if (id_map.size() > 0) segment->take_id_map(std::make_unique<const IdMap>(std::move(id_map)));
    return LiveSegment(std::move(segment));
}

ByteMajorCodes read_groups(const OpenedFile& opened, const Sections& sections) {
    const std::size_t n_bytes = opened.layout().n_bytes();
    return {n_bytes, static_cast<std::size_t>(opened.raw.n_rows),
            sections.values<std::uint8_t>(1, 0, static_cast<std::size_t>(opened.table()[1].n_bytes))};
}

// Ids of a file that has a row for each code, and their map.
struct EachIds {
    PackedNumbers stored;  // unless ids are consecutive
    PackedNumbers id_map;

    EachIds(const OpenedFile& opened, const Sections& sections) {
        if (opened.raw.id_bytes > 0) stored = read_ids(opened, sections);
        id_map = read_id_map(opened, sections);
    }
    EntryIds checked(const RawHeader& raw, FileChecks checks) {
        const auto n = static_cast<std::size_t>(raw.n_codes);
        if (raw.id_bytes > 0) {
            IdSummary summary = check_ids(raw, DuplicateRuns(n), stored, id_map, checks);
            return EntryIds(std::move(stored), std::move(summary));
        }
        check_next_id(raw, n - 1);
        if (static_cast<std::uint64_t>(kNoId) - static_cast<std::uint64_t>(raw.first_id) < n) {
            refuse("ids must not hold -1");
        }
        return EntryIds(raw.first_id, n);
    }
};

LiveSegment load_flat(const OpenedFile& opened, const std::shared_ptr<const MappedFile>& mapped) {
    const Sections sections(opened, mapped.get());
    ByteMajorCodes codes = read_groups(opened, sections);
    sections.check_gaps();
    sections.check_hash(2, {});
    if (opened.raw.n_sections() == kSections) sections.check_hash(4, {});  // no clusters
    EachIds ids(opened, sections);
    sections.check_large(codes.stored(), ids.stored, ids.id_map);
    check_last_group(codes);
    check_padding(codes, opened.raw.padding_bits);
    EntryIds checked = ids.checked(opened.raw, FileChecks::all);
    return with_id_map(std::make_shared<const ByteMajorSegment>(std::move(codes), std::move(checked), mapped),
                       std::move(ids.id_map));
}

// Codes with equal numbers of bits set are in the order of their ids.
void check_ids_of_counts(const Array<std::uint32_t>& count_begin, const EntryIds& ids) {
    for (std::size_t count = 0; count + 1 < count_begin.size(); ++count) {
        for (std::size_t entry = count_begin[count] + std::size_t{1}; entry < count_begin[count + 1]; ++entry) {
            if (ids[entry] > ids[entry - 1]) continue;
            refuse("ids of codes with equal numbers of bits set are out of order at code " + std::to_string(entry));
        }
    }
}

LiveSegment load_bit_major(const OpenedFile& opened, const std::shared_ptr<const MappedFile>& mapped,
                           FileChecks checks) {
    const Sections sections(opened, mapped.get());
    const auto n = static_cast<std::size_t>(opened.raw.n_codes);
    const std::size_t n_bytes = opened.layout().n_bytes();
    auto planes = sections.values<std::uint64_t>(1, 0, opened.table()[1].n_bytes / sizeof(std::uint64_t));
    auto count_begin = sections.values<std::uint32_t>(4, 0, n_bytes * 8 + 2);
    sections.check_gaps();
    sections.check_hash(2, {});
    sections.check_hash(4, {{count_begin.data(), count_begin.size() * sizeof count_begin[0]}});
    EachIds ids(opened, sections);
    if (checks == FileChecks::all) sections.check_large(planes, ids.stored, ids.id_map);
    check_division(count_begin, n, "numbers of bits set");
    BitMajorCodes codes(n_bytes, n, std::move(planes), std::move(count_begin));
    if (checks == FileChecks::all) check_planes(codes, opened.raw.padding_bits);
    EntryIds checked = ids.checked(opened.raw, checks);
    if (checks == FileChecks::all) check_ids_of_counts(codes.count_begin(), checked);
    return with_id_map(std::make_shared<const BitMajorSegment>(std::move(codes), std::move(checked), mapped),
                       std::move(ids.id_map));
}

DuplicateRuns read_runs(const RawHeader& raw, const Sections& sections) {
    const auto n_rows = static_cast<std::size_t>(raw.n_rows), n_runs = static_cast<std::size_t>(raw.n_runs);
    const std::size_t n_marks = n_runs == 0 ? 0 : (n_rows + 63) / 64;
    auto marks = sections.values<std::uint64_t>(2, 0, n_marks);
    auto extras = sections.values<std::uint32_t>(2, n_marks * sizeof(std::uint64_t), n_runs);
    sections.check_hash(2, {{marks.data(), n_marks * sizeof marks[0]}, {extras.data(), n_runs * sizeof extras[0]}});
    check_runs(raw, marks, extras);
    return DuplicateRuns(n_rows, static_cast<std::size_t>(raw.n_codes), std::move(marks), std::move(extras));
}

// The section 'clusters', checked but for its parts.
struct ClusterSection {
    const ClusterParts parts;
    Array<std::uint32_t> ring_begin;
    Array<std::uint8_t> centroids;
    std::optional<IdSummary> summary;
    double cost = 0;
    PrefixDirectory directory;

    ClusterSection(const OpenedFile& opened, const Sections& sections) : parts(opened.raw, opened.layout().n_bytes()) {
        const RawHeader& raw = opened.raw;
        if (raw.n_sections() < kSections) return;
        const auto bytes_of = [&](std::uint64_t begin, std::uint64_t end) {
            return sections.values<std::uint8_t>(4, begin, static_cast<std::size_t>(end - begin));
        };
        const Array<std::uint8_t> all = bytes_of(0, parts.end);
        sections.check_hash(4, {{all.data(), all.size()}});
        ring_begin = sections.values<std::uint32_t>(4, 0, static_cast<std::size_t>(parts.centroids) / 4);
        centroids = bytes_of(parts.centroids, parts.centroids_end);
        if (raw.has_summary == 0) return;
        summary.emplace();
        summary->smallest = 0;
        std::memcpy(&summary->largest, all.data() + parts.largest, sizeof summary->largest);
        std::memcpy(&cost, all.data() + parts.cost, sizeof cost);
        if (!(cost >= 0)) refuse("cost of a query is no cost");
        summary->least = PackedNumbers::of_width(raw.first_id, raw.id_bytes, bytes_of(parts.least, parts.least_end));
        bool padded =
            all_zero(all.data() + parts.centroids_end, static_cast<std::size_t>(parts.largest - parts.centroids_end)) &&
            all_zero(all.data() + parts.least_end - PackedNumbers::kSlack, PackedNumbers::kSlack);
        if (raw.directory_bits > 0) {
            padded = padded && all_zero(all.data() + parts.least_end,
                                        static_cast<std::size_t>(parts.directory - parts.least_end));
            directory.n_bits = raw.directory_bits;
            directory.begin = sections.values<std::uint32_t>(4, parts.directory,
                                                             static_cast<std::size_t>(ClusterParts::n_begins(raw)));
            check_division(directory.begin, static_cast<std::size_t>(raw.n_rows), "values of the directory");
        }
        if (!padded) refuse("bytes between the parts of the section 'clusters' are not zero");
    }
    /// The largest id, less the first, that is read from ids which are not checked.
    std::uint64_t most(FileChecks checks) const {
        return summary && checks == FileChecks::structure ? summary->largest : ~std::uint64_t{0};
    }
};

// The tables after the codes, in which only what memory safety needs has been checked.
std::vector<SubstringTable> read_tables(const OpenedFile& opened, const Sections& sections) {
    const RawHeader& raw = opened.raw;
    const std::size_t n_bytes = opened.layout().n_bytes();
    const CodeParts parts(raw, n_bytes);
    const auto n_rows = static_cast<std::size_t>(raw.n_rows);
    std::vector<SubstringTable> tables;
    for (std::size_t i = 0; i < raw.n_tables; ++i) {
        const std::uint64_t begin = parts.begin(i);
        tables.push_back(
            {(i + 1) * raw.directory_bits,
             sections.values<std::uint32_t>(1, begin, static_cast<std::size_t>(ClusterParts::n_begins(raw))),
             sections.values<std::uint8_t>(1, begin + parts.codes_of_table, n_rows * n_bytes),
             PackedNumbers::of_width(
                 0, CodeParts::row_bytes(raw),
                 sections.values<std::uint8_t>(1, begin + parts.rows_of_table,
                                               static_cast<std::size_t>(parts.table_end - parts.rows_of_table)),
                 raw.n_rows - 1)});
        check_division(tables.back().begin, n_rows, "buckets of a table");
    }
    return tables;
}

// The bytes between the parts of the section 'codes' must be zero.
void check_gaps_of_tables(const OpenedFile& opened, const Sections& sections) {
    const RawHeader& raw = opened.raw;
    const std::size_t n_bytes = opened.layout().n_bytes();
    const CodeParts parts(raw, n_bytes);
    const auto check = [&](std::uint64_t begin, std::uint64_t end) {
        const auto gap = sections.values<std::uint8_t>(1, begin, static_cast<std::size_t>(end - begin));
        if (!all_zero(gap.data(), gap.size())) refuse("bytes between the parts of the section 'codes' are not zero");
    };
    for (std::size_t i = 0; i < raw.n_tables; ++i) {
        const std::uint64_t begin = parts.begin(i);
        check(i == 0 ? parts.codes_end : parts.begin(i - 1) + parts.table_end, begin);
        check(begin + ClusterParts::n_begins(raw) * sizeof(std::uint32_t), begin + parts.codes_of_table);
        check(begin + parts.codes_of_table + raw.n_rows * n_bytes, begin + parts.rows_of_table);
        check(begin + parts.table_end - PackedNumbers::kSlack, begin + parts.table_end);
    }
}

std::shared_ptr<const Segment> load_sorted(const OpenedFile& opened, const Sections& sections,
                                           const std::shared_ptr<const MappedFile>& mapped, Memory memory,
                                           std::optional<Plan> plan, FileChecks checks, PackedNumbers& id_map) {
    const RawHeader& raw = opened.raw;
    const std::size_t n_bytes = opened.layout().n_bytes();
    const auto n_rows = static_cast<std::size_t>(raw.n_rows);
    auto rows = sections.values<std::uint8_t>(1, 0, n_rows * n_bytes);
    DuplicateRuns runs = read_runs(raw, sections);
    ClusterSection tables(opened, sections);
    PackedNumbers ids = read_ids(opened, sections, tables.most(checks));
    id_map = read_id_map(opened, sections);
    if (checks == FileChecks::all) {
        check_padding(CodeView{rows.data(), n_rows, n_bytes}, raw.padding_bits);
        sections.check_large(sections.values<std::uint8_t>(1, 0, static_cast<std::size_t>(opened.table()[1].n_bytes)),
                             ids, id_map);
    }
    std::vector<SubstringTable> substrings = read_tables(opened, sections);
    const bool has_directory = tables.directory.n_bits > 0;
    // Searches by a directory of the file need no order. Plans rely on it.
    if (checks == FileChecks::all || !mapped || !has_directory) check_order(rows, n_bytes, n_rows);
    if (checks == FileChecks::all && has_directory) check_directory(tables.directory, rows, n_bytes);
    IdSummary summary = check_ids(raw, runs, ids, id_map, checks, std::move(tables.summary));
    SortedCodes sorted(n_bytes, std::move(rows), std::move(runs), std::move(ids), std::move(summary));
    if (checks == FileChecks::all) {
        check_gaps_of_tables(opened, sections);
        check_tables(sorted, substrings, raw.directory_bits);
    }
    if (mapped && has_directory) {
        sorted.take_directory(std::move(tables.directory));
        return std::make_shared<const SortedSegment>(std::move(sorted), std::move(substrings), tables.cost, mapped);
    }
    if (mapped) return std::make_shared<const SortedSegment>(std::move(sorted), mapped);
    Stopper stopper;
    return planned_segment(std::move(sorted), memory, plan, stopper);
}

std::shared_ptr<const Segment> load_clusters(const OpenedFile& opened, const Sections& sections,
                                             const std::shared_ptr<const MappedFile>& mapped, FileChecks checks,
                                             PackedNumbers& id_map) {
    const RawHeader& raw = opened.raw;
    const std::size_t n_bytes = opened.layout().n_bytes();
    ByteMajorCodes codes = read_groups(opened, sections);
    DuplicateRuns runs = read_runs(raw, sections);
    ClusterSection tables(opened, sections);
    PackedNumbers ids = read_ids(opened, sections, tables.most(checks));
    id_map = read_id_map(opened, sections);
    check_last_group(codes);
    check_division(tables.ring_begin, codes.size(), "rings of the clusters");
    if (checks == FileChecks::all) {
        check_padding(codes, raw.padding_bits);
        check_padding(CodeView{tables.centroids.data(), raw.n_clusters, n_bytes}, raw.padding_bits);
        sections.check_large(codes.stored(), ids, id_map);
        check_clusters(codes, {tables.centroids.data(), raw.n_clusters, n_bytes}, tables.ring_begin);
    }
    IdSummary summary = check_ids(raw, runs, ids, id_map, checks, std::move(tables.summary));
    RowIds row_ids(std::move(runs), std::move(ids), std::move(summary));
    return std::make_shared<const ArrangedSegment>(
        ArrangedCodes(std::move(codes), std::move(row_ids), std::move(tables.centroids), std::move(tables.ring_begin)),
        false, mapped);
}

LiveSegment load_hier(const OpenedFile& opened, const std::shared_ptr<const MappedFile>& mapped,
                      const IndexSettings& settings, FileChecks checks) {
    const Sections sections(opened, mapped.get());
    sections.check_gaps();
    PackedNumbers id_map;
    std::shared_ptr<const Segment> segment =
        opened.raw.n_clusters > 0
            ? load_clusters(opened, sections, mapped, checks, id_map)
            : load_sorted(opened, sections, mapped, settings.memory, settings.plan, checks, id_map);
    return with_id_map(std::move(segment), std::move(id_map));
}

IndexContent read(const ByteSource& file, const std::shared_ptr<const MappedFile>& mapped,
                  FileChecks checks = FileChecks::all) {
    const OpenedFile opened(file);
    const RawHeader& raw = opened.raw;
    IndexSettings settings{opened.kind(), static_cast<Memory>(raw.memory), {}, static_cast<Metric>(raw.metric)};
    if (raw.plan > 0) settings.plan = static_cast<Plan>(raw.plan - 1);
    auto state = std::make_shared<State>();
    state->next_id = raw.next_id;
    if (raw.n_codes > 0) {
        state->segments.push_back(raw.is_jaccard() ? load_bit_major(opened, mapped, checks)
                                  : raw.is_flat()  ? load_flat(opened, mapped)
                                                   : load_hier(opened, mapped, settings, checks));
    } else {
        const Sections sections(opened, nullptr);
        sections.check_gaps();
        for (std::size_t section = 1; section < opened.table().n; ++section) sections.check_hash(section, {});
    }
    return {opened.layout(), settings, std::move(state)};
}

// Runs a reader and adds the file's name to its errors.
template <typename Reader>
auto with_path(const std::string& path, Reader reader) {
    try {
        return reader();
    } catch (const FormatError& error) {
        throw FormatError(path + ": " + error.what());
    }
}

}  // namespace

IndexContent read_index(const std::string& path, bool mapped, FileChecks checks) {
    return with_path(path, [&] {
        if (!mapped) return read(InputFile(path), nullptr, checks);
        const auto file = std::make_shared<const MappedFile>(path);
        return read(*file, file, checks);
    });
}

IndexContent read_index(const std::uint8_t* data, std::size_t n) { return read(MemorySource(data, n), nullptr); }

FileInfo peek_file(const std::string& path) {
    return with_path(path, [&] { return OpenedFile(InputFile(path)).info(); });
}

FileReport verify_file(const std::string& path) {
    return with_path(path, [&]() -> FileReport {
        const InputFile file(path);
        const OpenedFile opened(file);
        FileReport report{opened.info(), {}, {}};
        const SectionTable table = opened.table();
        std::vector<std::uint8_t> piece;
        for (std::size_t i = 0; i < table.n; ++i) {
            Xxh64 hash;
            for (std::uint64_t position = table[i].begin; position < table[i].end(); position += piece.size()) {
                piece.resize(static_cast<std::size_t>(std::min<std::uint64_t>(1 << 20, table[i].end() - position)));
                file.read(piece.data(), piece.size(), position);
                hash.update(piece.data(), piece.size());
            }
            report.sections.push_back({kSectionNames[i], table[i].begin, table[i].n_bytes, opened.raw.hashes[i],
                                       hash.digest() == opened.raw.hashes[i]});
        }
        try {
            read(file, nullptr);
        } catch (const FormatError& error) {
            report.fault = error.what();
        }
        return report;
    });
}

}  // namespace fasthash
