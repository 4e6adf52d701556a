// An opened index file: its header, levels and length are checked, its codes are not.
//
// Used by the readers of segments and of single sections.
#pragma once

#include <cstddef>
#include <vector>

#include "fasthash/index_file.h"
#include "io/file_layout.h"
#include "platform/files.h"

namespace fasthash {

struct OpenedFile {
    const ByteSource& file;
    RawHeader raw;
    std::vector<std::size_t> level_bits;

    /// Throws FormatError, or IoError.
    explicit OpenedFile(const ByteSource& source);

    LevelLayout layout() const { return LevelLayout(level_bits); }
    IndexKind kind() const { return static_cast<IndexKind>(raw.kind); }
    SectionTable table() const { return {raw, layout().n_bytes()}; }
    FileInfo info() const;

    /// Throws the FormatError of a section whose checksum does not match.
    [[noreturn]] static void refuse_section(std::size_t section);
};

}  // namespace fasthash
