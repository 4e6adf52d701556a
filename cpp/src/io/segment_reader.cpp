#include "io/segment_reader.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "io/cluster_checks.h"
#include "io/code_checks.h"
#include "io/id_checks.h"
#include "io/id_sections.h"
#include "io/table_sections.h"
#include "search/planner.h"
#include "segments/arranged_segment.h"
#include "segments/bit_major_segment.h"
#include "segments/byte_major_segment.h"
#include "segments/plan_segment.h"

namespace fasthash {
namespace {

LiveSegment with_id_map(std::shared_ptr<const Segment> segment, PackedNumbers id_map) {
    if (id_map.size() > 0) segment->take_id_map(std::make_unique<const IdMap>(std::move(id_map)));
    return LiveSegment(std::move(segment));
}

// Plans codes that were read into memory. The id map of the file numbers entries in the order of sorted codes: if the
// plan arranges them otherwise, the map is dropped, and the first lookup builds another.
std::shared_ptr<const Segment> planned_anew(SortedCodes sorted, const IndexSettings& settings, PackedNumbers& id_map) {
    Stopper stopper;
    std::shared_ptr<const Segment> segment =
        planned_segment(std::move(sorted), settings.memory, settings.plan, stopper);
    if (segment->sorted_codes() == nullptr) id_map = {};
    return segment;
}

ByteMajorCodes read_groups(const OpenedFile& opened, const Sections& sections) {
    const std::size_t n_bytes = opened.layout().n_bytes();
    return {n_bytes, static_cast<std::size_t>(opened.raw.n_rows),
            sections.values<std::uint8_t>(1, 0, static_cast<std::size_t>(opened.table()[1].n_bytes))};
}

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

std::shared_ptr<const Segment> load_sorted(const OpenedFile& opened, const Sections& sections,
                                           const std::shared_ptr<const MappedFile>& mapped,
                                           const IndexSettings& settings, FileChecks checks, PackedNumbers& id_map) {
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
        const double cost = std::min(tables.cost, plan_of_mapped(n_rows, n_bytes).cost);  // old files have larger ones
        return std::make_shared<const SortedSegment>(std::move(sorted), std::move(substrings), cost, mapped);
    }
    if (mapped) return std::make_shared<const SortedSegment>(std::move(sorted), mapped);
    return planned_anew(std::move(sorted), settings, id_map);
}

// Rows of codes in whole groups, with their ids and what the writer has added.
struct GroupedRows {
    GroupedRows(const OpenedFile& opened, const Sections& sections, FileChecks checks)
        : codes(read_groups(opened, sections)),
          runs(read_runs(opened.raw, sections)),
          tables(opened, sections),
          ids(read_ids(opened, sections, tables.most(checks))),
          id_map(read_id_map(opened, sections)) {
        check_last_group(codes);
        if (checks != FileChecks::all) return;
        check_padding(codes, opened.raw.padding_bits);
        sections.check_large(codes.stored(), ids, id_map);
    }

    ByteMajorCodes codes;
    DuplicateRuns runs;
    ClusterSection tables;
    PackedNumbers ids, id_map;
};

// Sorted codes in whole groups, which are scanned.
std::shared_ptr<const Segment> load_scanned(const OpenedFile& opened, const Sections& sections,
                                            const std::shared_ptr<const MappedFile>& mapped,
                                            const IndexSettings& settings, FileChecks checks, PackedNumbers& id_map) {
    GroupedRows rows(opened, sections, checks);
    // A scan needs no order; a plan relies on it.
    if (checks == FileChecks::all || !mapped) check_order(rows.codes);
    IdSummary summary = check_ids(opened.raw, rows.runs, rows.ids, rows.id_map, checks, std::move(rows.tables.summary));
    id_map = std::move(rows.id_map);
    SortedCodes sorted(std::move(rows.codes), std::move(rows.runs), std::move(rows.ids), std::move(summary));
    if (mapped) {
        const bool radius_tables = may_have_radius_tables(settings.memory, settings.plan);
        return std::make_shared<const SortedSegment>(std::move(sorted), radius_tables, mapped);
    }
    sorted.hold_rows();
    return planned_anew(std::move(sorted), settings, id_map);
}

std::shared_ptr<const Segment> load_clusters(const OpenedFile& opened, const Sections& sections,
                                             const std::shared_ptr<const MappedFile>& mapped, FileChecks checks,
                                             PackedNumbers& id_map) {
    const RawHeader& raw = opened.raw;
    GroupedRows rows(opened, sections, checks);
    ClusterSection& tables = rows.tables;
    check_division(tables.ring_begin, rows.codes.size(), "rings of the clusters");
    if (checks == FileChecks::all) {
        const CodeView centroids{tables.centroids.data(), raw.n_clusters, rows.codes.n_bytes()};
        check_padding(centroids, raw.padding_bits);
        check_clusters(rows.codes, centroids, tables.ring_begin);
    }
    IdSummary summary = check_ids(raw, rows.runs, rows.ids, rows.id_map, checks, std::move(tables.summary));
    id_map = std::move(rows.id_map);
    RowIds row_ids(std::move(rows.runs), std::move(rows.ids), std::move(summary));
    return std::make_shared<const ArrangedSegment>(
        ArrangedCodes(std::move(rows.codes), std::move(row_ids), std::move(tables.centroids),
                      std::move(tables.ring_begin)),
        false, mapped);
}

LiveSegment load_hier(const OpenedFile& opened, const std::shared_ptr<const MappedFile>& mapped,
                      const IndexSettings& settings, FileChecks checks) {
    const Sections sections(opened, mapped.get());
    sections.check_gaps();
    PackedNumbers id_map;
    std::shared_ptr<const Segment> segment;
    if (opened.raw.n_clusters > 0) {
        segment = load_clusters(opened, sections, mapped, checks, id_map);
    } else if (opened.raw.is_scanned()) {
        segment = load_scanned(opened, sections, mapped, settings, checks, id_map);
    } else {
        segment = load_sorted(opened, sections, mapped, settings, checks, id_map);
    }
    return with_id_map(std::move(segment), std::move(id_map));
}

}  // namespace

LiveSegment read_segment(const OpenedFile& opened, const std::shared_ptr<const MappedFile>& mapped,
                         const IndexSettings& settings, FileChecks checks) {
    if (opened.raw.is_jaccard()) return load_bit_major(opened, mapped, checks);
    if (opened.raw.is_flat()) return load_flat(opened, mapped);
    return load_hier(opened, mapped, settings, checks);
}

}  // namespace fasthash
