#include "io/id_sections.h"

#include <string>
#include <utility>

#include "fasthash/ids.h"
#include "io/code_checks.h"
#include "io/id_checks.h"

namespace fasthash {
namespace {

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

}  // namespace

PackedNumbers read_ids(const OpenedFile& opened, const Sections& sections, std::uint64_t most) {
    return read_numbers(opened, sections, 3, opened.raw.first_id, opened.raw.id_bytes, most);
}

PackedNumbers read_id_map(const OpenedFile& opened, const Sections& sections) {
    if (opened.raw.has_id_map == 0) return {};
    return read_numbers(opened, sections, 5, 0, IdMap::width_for(static_cast<std::size_t>(opened.raw.n_codes)));
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

EachIds::EachIds(const OpenedFile& opened, const Sections& sections) {
    if (opened.raw.id_bytes > 0) stored = read_ids(opened, sections);
    id_map = read_id_map(opened, sections);
}

EntryIds EachIds::checked(const RawHeader& raw, FileChecks checks) {
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

}  // namespace fasthash
