// The index file, format 1: the only place that knows its bytes. docs/format.md describes them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fasthash/hier_index.h"

namespace fasthash {

struct State;
class Stopper;

/// What an index was made with, beside the levels.
struct IndexSettings {
    IndexKind kind;
    Memory memory;
    std::optional<Plan> plan;
};

/// Throws IoError, or Interrupted when `stopper` said so.
void save_index(const std::string& path, const LevelLayout& layout, const IndexSettings& settings, const State& state,
                Stopper& stopper);
std::vector<std::uint8_t> index_bytes(const LevelLayout& layout, const IndexSettings& settings, const State& state,
                                      Stopper& stopper);

}  // namespace fasthash
