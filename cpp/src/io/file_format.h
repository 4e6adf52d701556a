// The index file, format 1: reads and writes whole indices.
//
// Called by Index. Only this folder knows the bytes of a file; docs/format.md describes them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fasthash/codes.h"
#include "fasthash/search.h"
#include "segments/state.h"

namespace fasthash {

/// Settings of an index, beside its levels.
struct IndexSettings {
    IndexKind kind;
    Memory memory;
    std::optional<Plan> plan;
    Metric metric = Metric::hamming;
};

/// Content of a file: everything needed to rebuild the index.
struct IndexContent {
    LevelLayout layout;
    IndexSettings settings;
    std::shared_ptr<const State> state;
};

/// Which checks a reader makes.
enum class FileChecks {
    all,        ///< of every byte
    structure,  ///< of all that memory safety needs; codes, ids and their summary are not checked
};

/// Read and check a whole file. `mapped`: map codes and ids instead of reading them. Throws IoError or FormatError.
IndexContent read_index(const std::string& path, bool mapped, FileChecks checks = FileChecks::all);
/// Read an index from the bytes of a file, which are copied.
IndexContent read_index(const std::uint8_t* data, std::size_t n);

/// Contents of a file that are written on demand.
struct FileExtras {
    bool id_map;
    bool summary;  ///< of a hierarchical index: what opening the mapped file would have to compute
};

/// Write an index, atomically; codes that fill one segment in clusters keep that order. A bit-major state must be one
/// segment without removed entries.
/// Throws IoError, or Interrupted when `stopper` ends the work.
void save_index(const std::string& path, const LevelLayout& layout, const IndexSettings& settings, const State& state,
                FileExtras extras, Stopper& stopper);
std::vector<std::uint8_t> index_bytes(const LevelLayout& layout, const IndexSettings& settings, const State& state,
                                      FileExtras extras, Stopper& stopper);

}  // namespace fasthash
