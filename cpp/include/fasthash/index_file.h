// What index files tell about themselves, without being loaded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fasthash/search.h"

namespace fasthash {

/// What a file says about itself, read from its first bytes.
struct FileInfo {
    IndexKind kind;
    std::vector<std::size_t> level_bits;
    std::uint64_t n_codes;
    bool has_ids;  ///< false: the ids follow one another in the order of the codes
    int format_major;
    int format_minor;
    std::uint64_t file_bytes;
};

/// One section of a file.
struct FileSection {
    std::string name;
    std::uint64_t offset;
    std::uint64_t n_bytes;
    std::uint64_t checksum;  ///< as the header says
    bool intact;             ///< and as the bytes are
};

struct FileReport {
    FileInfo info;
    std::vector<FileSection> sections;
    std::string fault;  ///< what is wrong with the content; empty if nothing is
};

/// Read the description alone, in constant time; the codes behind it are not checked.
FileInfo peek_file(const std::string& path);

/// Check a file section by section. Throws if not even its header can be read.
FileReport verify_file(const std::string& path);

}  // namespace fasthash
