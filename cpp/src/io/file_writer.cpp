// Writes an index: the codes of its state in their layout, then the sections about them.
//
// Called through file_format.h. Sections are written in the order of the file; what a later one needs is kept in
// memory.
#include <algorithm>
#include <cstring>
#include <optional>

#include "codes/arranged_codes.h"
#include "codes/duplicate_runs.h"
#include "io/file_format.h"
#include "io/file_layout.h"
#include "io/section_writer.h"
#include "io/summary_writer.h"
#include "platform/files.h"
#include "search/substring_search.h"
#include "segments/bit_major_segment.h"
#include "segments/merge.h"
#include "segments/state.h"

namespace fasthash {
namespace {

constexpr std::size_t kFewCodes = 1024;  // any plan searches so few fast

// Calls call(entries) for the live entries of all segments in order, 64 groups at a time.
template <typename Call>
void for_each_piece(const State& state, std::size_t n_bytes, Call call) {
    constexpr std::size_t kPiece = 64 * kGroup;
    Entries piece;
    std::vector<std::size_t> wanted;
    for (const LiveSegment& each : state.segments) {
        const std::size_t n = each.segment->n_entries();
        for (std::size_t entry = 0; entry < n;) {
            wanted.clear();
            for (; entry < n && piece.n() + wanted.size() < kPiece; ++entry) {
                if (each.live.contains(entry)) wanted.push_back(entry);
            }
            piece.append(*each.segment, wanted, n_bytes);
            if (piece.n() < kPiece) continue;
            call(piece);
            piece.codes.clear();
            piece.ids.clear();
        }
    }
    if (piece.n() > 0) call(piece);
}

// Sections 4 and 5, if the file has them. `ids`: of the id map; none if it is not wanted. `summary`: none if it is not.
void write_newer_sections(IndexWriter& writer, RawHeader& raw, const ArrangedCodes* clusters,
                          const BitMajorSegment* bit_major, const Array<std::int64_t>& ids,
                          std::optional<SummaryWriter>& summary) {
    // Ids that ascend need no map.
    raw.has_id_map = std::is_sorted(ids.begin(), ids.end()) ? 0 : 1;
    if (raw.n_sections() == kOldSections) return;
    writer.begin(4);
    if (clusters != nullptr) {
        writer.append(clusters->ring_begin().data(), clusters->ring_begin().size() * sizeof(std::uint32_t));
        writer.append(clusters->centroids().data, clusters->centroids().n * clusters->n_bytes());
    }
    if (bit_major != nullptr) {
        const Array<std::uint32_t>& begin = bit_major->codes().count_begin();
        writer.append(begin.data(), begin.size() * sizeof begin[0]);
    }
    if (summary) summary->write(writer);
    writer.begin(5);
    if (raw.has_id_map == 0) return;
    const std::size_t width = IdMap::width_for(ids.size());
    for (const std::uint32_t entry : order_of_ids(IdArray(ids.data(), ids.size()))) writer.append(&entry, width);
    writer.append_slack();
}

void write_runs(IndexWriter& writer, RawHeader& raw, const DuplicateRuns& runs) {
    raw.n_runs = runs.extras().size();
    writer.begin(2);
    if (raw.n_runs == 0) return;
    writer.append(runs.marks().data(), runs.marks().size() * sizeof(std::uint64_t));
    writer.append(runs.extras().data(), runs.extras().size() * sizeof(std::uint32_t));
}

void write_flat(IndexWriter& writer, RawHeader& raw, const State& state, std::size_t n_bytes,
                Array<std::int64_t>* map_ids) {
    raw.n_rows = raw.n_codes;
    writer.begin(1);
    std::int64_t smallest = INT64_MAX, largest = INT64_MIN, last = 0;
    bool counted = true, first = true;
    Array<std::uint8_t> groups;
    for_each_piece(state, n_bytes, [&](const Entries& piece) {
        const std::size_t n_groups = (piece.n() + kGroup - 1) / kGroup;
        groups.resize(n_groups * kGroup * n_bytes);
        to_byte_major({piece.codes.data(), piece.n(), n_bytes}, groups.data());
        writer.append(groups.data(), groups.size());
        for (const std::int64_t id : piece.ids) {
            counted = counted && (first || (last != INT64_MAX && id == last + 1));
            first = false;
            last = id;
            smallest = std::min(smallest, id);
            largest = std::max(largest, id);
        }
    });
    writer.begin(2);
    writer.begin(3);
    if (raw.n_codes == 0) return;
    raw.first_id = smallest;
    if (counted) return;
    IdWriter ids(writer, raw, smallest, largest, map_ids);
    for_each_piece(state, n_bytes, [&ids](const Entries& piece) {
        for (const std::int64_t id : piece.ids) ids.append(id);
    });
    ids.finish();
}

// A bit-major segment that is the whole index.
void write_bit_major(IndexWriter& writer, RawHeader& raw, const BitMajorSegment& segment,
                     Array<std::int64_t>* map_ids) {
    raw.n_rows = raw.n_codes;
    const Array<std::uint64_t>& planes = segment.codes().planes();
    constexpr std::size_t kWords = kBufferBytes / sizeof planes[0];
    writer.begin(1);
    for (std::size_t at = 0; at < planes.size(); at += kWords) {
        writer.append(planes.data() + at, std::min(kWords, planes.size() - at) * sizeof planes[0]);
    }
    writer.begin(2);
    writer.begin(3);
    raw.first_id = segment.smallest_id();
    if (segment.ids().counted()) return;
    IdWriter ids(writer, raw, segment.smallest_id(), segment.largest_id(), map_ids);
    for (std::size_t entry = 0; entry < segment.n_entries(); ++entry) ids.append(segment.id(entry));
    ids.finish();
}

// The tables of multi-index hashing, after the codes.
void write_tables(IndexWriter& writer, RawHeader& raw, const SubstringIndex& index) {
    const std::size_t n_bytes = index.sorted.n_bytes();
    raw.directory_bits = static_cast<std::uint8_t>(index.n_bits());
    raw.n_tables = static_cast<std::uint8_t>(index.tables.size());
    const CodeParts parts(raw, n_bytes);
    std::uint64_t at = parts.codes_end;
    const auto append = [&](std::uint64_t begin, const void* data, std::uint64_t n) {
        const std::uint8_t zeros[SectionTable::kAlignment] = {};
        writer.append(zeros, static_cast<std::size_t>(begin - at));
        const auto* bytes = static_cast<const std::uint8_t*>(data);
        for (std::uint64_t i = 0; i < n; i += kBufferBytes) {
            writer.append(bytes + i, static_cast<std::size_t>(std::min<std::uint64_t>(kBufferBytes, n - i)));
        }
        at = begin + n;
    };
    for (std::size_t i = 0; i < index.tables.size(); ++i) {
        const SubstringTable& table = index.tables[i];
        const std::uint64_t begin = parts.begin(i);
        append(begin, table.begin.data(), ClusterParts::n_begins(raw) * sizeof(std::uint32_t));
        append(begin + parts.codes_of_table, table.codes.data(), table.codes.size());
        append(begin + parts.rows_of_table, table.rows.bytes().data(), raw.n_rows * CodeParts::row_bytes(raw));
        writer.append_slack();
        at += PackedNumbers::kSlack;
    }
}

void write_sorted(IndexWriter& writer, RawHeader& raw, const State& state, std::size_t n_bytes,
                  Array<std::int64_t>* map_ids, bool with_summary, std::optional<SummaryWriter>& summary,
                  Stopper& stopper) {
    const bool scanned = state.is_scanned() && state.size() > kFewCodes;
    const NewEntries nothing{{nullptr, 0, n_bytes}, nullptr, 0};
    writer.begin(1);
    CodeWriter codes(writer, n_bytes, scanned);
    DuplicateRuns runs;
    std::int64_t smallest = INT64_MAX, largest = INT64_MIN;
    std::vector<std::uint8_t> last;
    for (MergeCursor entry(state.segments, nothing, stopper); !entry.done(); entry.next()) {
        if (last.empty() || std::memcmp(last.data(), entry.code(), n_bytes) != 0) {
            last.assign(entry.code(), entry.code() + n_bytes);
            codes.append(last.data());
            runs.push_row();
        } else {
            runs.push_entry();
        }
        smallest = std::min(smallest, entry.id());
        largest = std::max(largest, entry.id());
    }
    codes.finish();
    raw.n_rows = runs.n_rows();
    const PlannedTables planned = with_summary ? state.planned_tables() : PlannedTables{};
    if (planned.index != nullptr) write_tables(writer, raw, *planned.index);
    write_runs(writer, raw, runs);
    writer.begin(3);
    if (raw.n_codes == 0) return;
    IdWriter ids(writer, raw, smallest, largest, map_ids);
    if (with_summary || scanned) summary.emplace(raw, n_bytes, scanned);
    if (summary && planned.index != nullptr) summary->cost = planned.cost;
    for (MergeCursor entry(state.segments, nothing, stopper); !entry.done(); entry.next()) {
        ids.append(entry.id());
        if (summary) summary->add(entry.id(), runs, entry.code());
    }
    ids.finish();
}

void write_clusters(IndexWriter& writer, RawHeader& raw, const ArrangedCodes& clusters, Array<std::int64_t>* map_ids,
                    bool with_summary, std::optional<SummaryWriter>& summary) {
    raw.n_clusters = static_cast<std::uint16_t>(clusters.centroids().n);
    const Array<std::uint8_t>& groups = clusters.codes().stored();
    writer.begin(1);
    for (std::size_t at = 0; at < groups.size(); at += kBufferBytes) {
        writer.append(groups.data() + at, std::min(kBufferBytes, groups.size() - at));
    }
    raw.n_rows = clusters.n_rows();
    write_runs(writer, raw, clusters.runs());
    writer.begin(3);
    IdWriter ids(writer, raw, clusters.smallest_id(), clusters.largest_id(), map_ids);
    if (with_summary) summary.emplace(raw, clusters.n_bytes(), false);
    for (std::size_t entry = 0; entry < clusters.n_entries(); ++entry) {
        ids.append(clusters.id(entry));
        if (summary) summary->add(clusters.id(entry), clusters.runs());
    }
    ids.finish();
}

void write_index(ByteSink& sink, const LevelLayout& layout, const IndexSettings& settings, const State& state,
                 FileExtras extras, Stopper& stopper) {
    RawHeader raw{};
    raw.kind = static_cast<std::uint8_t>(settings.kind);
    raw.memory = static_cast<std::uint8_t>(settings.memory);
    raw.plan = settings.plan ? static_cast<std::uint8_t>(static_cast<int>(*settings.plan) + 1) : std::uint8_t{0};
    raw.metric = static_cast<std::uint8_t>(settings.metric);
    raw.padding_bits = static_cast<std::uint8_t>(layout.padding_bits());
    raw.n_levels = static_cast<std::uint16_t>(layout.n_levels());
    raw.n_codes = state.size();
    raw.next_id = state.next_id;
    IndexWriter writer(sink, stopper);
    writer.begin(0);
    for (const std::size_t bits : layout.level_bits()) {
        const auto width = static_cast<std::uint16_t>(bits);
        writer.append(&width, sizeof width);
    }
    Array<std::int64_t> ids;
    std::optional<SummaryWriter> summary;
    Array<std::int64_t>* const map_ids = extras.id_map ? &ids : nullptr;
    const ArrangedCodes* clusters = state.clusters();
    if (clusters != nullptr && clusters->centroids().n > kMaxClusters) clusters = nullptr;  // written in byte order
    const BitMajorSegment* bit_major = state.segments.empty() ? nullptr : state.segments[0].segment->bit_major();
    if (bit_major != nullptr) {
        write_bit_major(writer, raw, *bit_major, map_ids);
    } else if (settings.kind == IndexKind::flat) {
        write_flat(writer, raw, state, layout.n_bytes(), map_ids);
    } else if (clusters != nullptr) {
        write_clusters(writer, raw, *clusters, map_ids, extras.summary, summary);
    } else {
        write_sorted(writer, raw, state, layout.n_bytes(), map_ids, extras.summary, summary, stopper);
    }
    write_newer_sections(writer, raw, clusters, bit_major, ids, summary);
    writer.finish(raw);
}

}  // namespace

void save_index(const std::string& path, const LevelLayout& layout, const IndexSettings& settings, const State& state,
                FileExtras extras, Stopper& stopper) {
    AtomicFile file(path);
    write_index(file, layout, settings, state, extras, stopper);
}

std::vector<std::uint8_t> index_bytes(const LevelLayout& layout, const IndexSettings& settings, const State& state,
                                      FileExtras extras, Stopper& stopper) {
    MemorySink sink;
    write_index(sink, layout, settings, state, extras, stopper);
    return sink.take();
}

}  // namespace fasthash
