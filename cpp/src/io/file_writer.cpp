#include <algorithm>
#include <cstring>

#include "codes/duplicate_runs.h"
#include "io/file_format.h"
#include "io/file_layout.h"
#include "io/xxh64.h"
#include "platform/files.h"
#include "segments/merge.h"
#include "segments/state.h"

namespace fasthash {
namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;  // bytes written at once

// Writes the sections in order, each in any number of calls, and the header last.
class IndexWriter {
 public:
    IndexWriter(ByteSink& sink, Stopper& stopper) : sink_(sink), stopper_(stopper), position_(sizeof(RawHeader)) {}

    void begin(std::size_t section) {
        const std::uint64_t position = position_ + buffer_.size();
        buffer_.resize(buffer_.size() + static_cast<std::size_t>(SectionTable::align(position) - position));
        section_ = section;
    }
    void append(const void* data, std::size_t n_bytes) {
        hashes_[section_].update(data, n_bytes);
        const auto* bytes = static_cast<const std::uint8_t*>(data);
        buffer_.insert(buffer_.end(), bytes, bytes + n_bytes);
        if (buffer_.size() >= kBufferBytes) flush();
    }
    void finish(RawHeader raw) {
        flush();
        std::memcpy(raw.magic, kMagic, sizeof kMagic);
        raw.major = kMajor;
        raw.minor = minor_of(raw.plan);
        raw.header_bytes = sizeof raw;
        for (std::size_t i = 0; i < kSections; ++i) raw.hashes[i] = hashes_[i].digest();
        raw.header_hash = xxh64(&raw, offsetof(RawHeader, header_hash));
        sink_.write(&raw, sizeof raw, 0);
        sink_.commit();
    }

 private:
    void flush() {
        stopper_.check();
        sink_.write(buffer_.data(), buffer_.size(), position_);
        position_ += buffer_.size();
        buffer_.clear();
    }

    ByteSink& sink_;
    Stopper& stopper_;
    std::vector<std::uint8_t> buffer_;  // pending bytes, which belong at position_
    std::uint64_t position_;
    std::size_t section_ = 0;
    Xxh64 hashes_[kSections];
};

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

// Packs ids in the order in which they arrive.
class IdWriter {
 public:
    IdWriter(IndexWriter& writer, const RawHeader& raw) : writer_(writer), raw_(raw) {}

    void append(std::int64_t id) {
        const std::uint64_t value = static_cast<std::uint64_t>(id) - static_cast<std::uint64_t>(raw_.first_id);
        writer_.append(&value, raw_.id_bytes);
    }
    void finish() {
        const std::uint8_t slack[PackedNumbers::kSlack] = {};
        writer_.append(slack, sizeof slack);
    }

 private:
    IndexWriter& writer_;
    const RawHeader& raw_;
};

void write_flat(IndexWriter& writer, RawHeader& raw, const State& state, std::size_t n_bytes) {
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
    raw.id_bytes = static_cast<std::uint8_t>(
        PackedNumbers::width_for(static_cast<std::uint64_t>(largest) - static_cast<std::uint64_t>(smallest)));
    IdWriter ids(writer, raw);
    for_each_piece(state, n_bytes, [&ids](const Entries& piece) {
        for (const std::int64_t id : piece.ids) ids.append(id);
    });
    ids.finish();
}

void write_hier(IndexWriter& writer, RawHeader& raw, const State& state, std::size_t n_bytes, Stopper& stopper) {
    const NewEntries nothing{{nullptr, 0, n_bytes}, nullptr, 0};
    writer.begin(1);
    DuplicateRuns runs;
    std::int64_t smallest = INT64_MAX, largest = INT64_MIN;
    std::vector<std::uint8_t> last;
    for (MergeCursor entry(state.segments, nothing, stopper); !entry.done(); entry.next()) {
        if (last.empty() || std::memcmp(last.data(), entry.code(), n_bytes) != 0) {
            last.assign(entry.code(), entry.code() + n_bytes);
            writer.append(last.data(), n_bytes);
            runs.push_row();
        } else {
            runs.push_entry();
        }
        smallest = std::min(smallest, entry.id());
        largest = std::max(largest, entry.id());
    }
    raw.n_rows = runs.n_rows();
    raw.n_runs = runs.extras().size();
    writer.begin(2);
    if (raw.n_runs > 0) {
        writer.append(runs.marks().data(), runs.marks().size() * sizeof(std::uint64_t));
        writer.append(runs.extras().data(), runs.extras().size() * sizeof(std::uint32_t));
    }
    writer.begin(3);
    if (raw.n_codes == 0) return;
    raw.first_id = smallest;
    raw.id_bytes = static_cast<std::uint8_t>(
        PackedNumbers::width_for(static_cast<std::uint64_t>(largest) - static_cast<std::uint64_t>(smallest)));
    IdWriter ids(writer, raw);
    for (MergeCursor entry(state.segments, nothing, stopper); !entry.done(); entry.next()) ids.append(entry.id());
    ids.finish();
}

void write_index(ByteSink& sink, const LevelLayout& layout, const IndexSettings& settings, const State& state,
                 Stopper& stopper) {
    RawHeader raw{};
    raw.kind = static_cast<std::uint8_t>(settings.kind);
    raw.memory = static_cast<std::uint8_t>(settings.memory);
    raw.plan = settings.plan ? static_cast<std::uint8_t>(static_cast<int>(*settings.plan) + 1) : std::uint8_t{0};
    raw.n_levels = static_cast<std::uint16_t>(layout.n_levels());
    raw.n_codes = state.size();
    raw.next_id = state.next_id;
    IndexWriter writer(sink, stopper);
    writer.begin(0);
    for (const std::size_t bits : layout.level_bits()) {
        const auto width = static_cast<std::uint16_t>(bits);
        writer.append(&width, sizeof width);
    }
    if (settings.kind == IndexKind::flat) {
        write_flat(writer, raw, state, layout.n_bytes());
    } else {
        write_hier(writer, raw, state, layout.n_bytes(), stopper);
    }
    writer.finish(raw);
}

}  // namespace

void save_index(const std::string& path, const LevelLayout& layout, const IndexSettings& settings, const State& state,
                Stopper& stopper) {
    AtomicFile file(path);
    write_index(file, layout, settings, state, stopper);
}

std::vector<std::uint8_t> index_bytes(const LevelLayout& layout, const IndexSettings& settings, const State& state,
                                      Stopper& stopper) {
    MemorySink sink;
    write_index(sink, layout, settings, state, stopper);
    return sink.take();
}

}  // namespace fasthash
