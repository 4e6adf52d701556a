#include <algorithm>

#include "fasthash/error.h"
#include "fasthash/index_file.h"
#include "io/file_format.h"
#include "io/file_sections.h"
#include "io/segment_reader.h"
#include "io/xxh64.h"
#include "platform/files.h"
#include "segments/state.h"

namespace fasthash {
namespace {

IndexContent read(const ByteSource& file, const std::shared_ptr<const MappedFile>& mapped,
                  FileChecks checks = FileChecks::all) {
    const OpenedFile opened(file);
    const RawHeader& raw = opened.raw;
    IndexSettings settings{opened.kind(), static_cast<Memory>(raw.memory), {}, static_cast<Metric>(raw.metric)};
    if (raw.plan > 0) settings.plan = static_cast<Plan>(raw.plan - 1);
    auto state = std::make_shared<State>();
    state->next_id = raw.next_id;
    if (raw.n_codes > 0) {
        state->segments.push_back(read_segment(opened, mapped, settings, checks));
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
