// The index file, format 1: the only place that knows its bytes. docs/format.md describes them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fasthash/codes.h"
#include "fasthash/search.h"
#include "segments/state.h"

namespace fasthash {

/// What an index was made with, beside the levels.
struct IndexSettings {
    IndexKind kind;
    Memory memory;
    std::optional<Plan> plan;
};

/// What a file holds: all that an index is made of.
struct IndexContent {
    LevelLayout layout;
    IndexSettings settings;
    std::shared_ptr<const State> state;
};

/// Read and check a whole file. `mapped`: leave codes and ids in it. Throws IoError or FormatError.
IndexContent read_index(const std::string& path, bool mapped);
/// The same of bytes in memory, which are copied.
IndexContent read_index(const std::uint8_t* data, std::size_t n);

/// Throws IoError, or Interrupted when `stopper` said so.
void save_index(const std::string& path, const LevelLayout& layout, const IndexSettings& settings, const State& state,
                Stopper& stopper);
std::vector<std::uint8_t> index_bytes(const LevelLayout& layout, const IndexSettings& settings, const State& state,
                                      Stopper& stopper);

}  // namespace fasthash
