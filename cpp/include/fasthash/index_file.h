// Index files: read the description or verify the content without loading the index.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fasthash/search.h"

namespace fasthash {

/// Description of a file, from its header.
struct FileInfo {
    IndexKind kind;
    std::vector<std::size_t> level_bits;
    std::uint64_t n_codes;
    bool has_ids;  ///< false: ids are consecutive, in the order of the codes
    int format_major;
    int format_minor;
    std::uint64_t file_bytes;
    Memory memory;             ///< of a hierarchical index
    std::uint64_t n_clusters;  ///< 0 if the codes are not in clusters
    bool has_id_map;
    Metric metric;
};

/// One section of a file.
struct FileSection {
    std::string name;
    std::uint64_t offset;
    std::uint64_t n_bytes;
    std::uint64_t checksum;  ///< from the header
    bool intact;             ///< whether the bytes match it
};

struct FileReport {
    FileInfo info;
    std::vector<FileSection> sections;
    std::string fault;  ///< the first fault of the content; empty if there is none
};

/// Read the description in constant time, without checking the codes.
FileInfo peek_file(const std::string& path);

/// Verify a file section by section. Throws only if the header cannot be read.
FileReport verify_file(const std::string& path);

}  // namespace fasthash
