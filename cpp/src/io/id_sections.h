// Readers of the sections 'runs', 'ids' and 'id map'.
//
// Called by the readers of segments.
#pragma once

#include <cstdint>

#include "codes/duplicate_runs.h"
#include "codes/entry_ids.h"
#include "io/file_format.h"
#include "io/file_sections.h"

namespace fasthash {

/// `most`: the largest id, less the first, that is read from bytes which are not checked. Throws FormatError.
PackedNumbers read_ids(const OpenedFile& opened, const Sections& sections, std::uint64_t most = ~std::uint64_t{0});
/// Empty if the file has no map. Throws FormatError.
PackedNumbers read_id_map(const OpenedFile& opened, const Sections& sections);
/// The checked runs of a file that stores equal codes once. Throws FormatError.
DuplicateRuns read_runs(const RawHeader& raw, const Sections& sections);

/// Ids of a file that has a row for each code, and their map.
struct EachIds {
    PackedNumbers stored;  // unless ids are consecutive
    PackedNumbers id_map;

    EachIds(const OpenedFile& opened, const Sections& sections);
    /// Moves the ids out once they are checked. Throws FormatError.
    EntryIds checked(const RawHeader& raw, FileChecks checks);
};

}  // namespace fasthash
