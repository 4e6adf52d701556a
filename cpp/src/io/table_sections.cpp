#include "io/table_sections.h"

#include <cstring>
#include <utility>

#include "io/cluster_checks.h"
#include "io/code_checks.h"
#include "io/id_checks.h"

namespace fasthash {

ClusterSection::ClusterSection(const OpenedFile& opened, const Sections& sections)
    : parts(opened.raw, opened.layout().n_bytes()) {
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
        padded = padded &&
                 all_zero(all.data() + parts.least_end, static_cast<std::size_t>(parts.directory - parts.least_end));
        directory.n_bits = raw.directory_bits;
        directory.begin =
            sections.values<std::uint32_t>(4, parts.directory, static_cast<std::size_t>(ClusterParts::n_begins(raw)));
        check_division(directory.begin, static_cast<std::size_t>(raw.n_rows), "values of the directory");
    }
    if (!padded) refuse("bytes between the parts of the section 'clusters' are not zero");
}

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

}  // namespace fasthash
