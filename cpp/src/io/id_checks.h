// Checks of the ids in a file: in range, in order, distinct, and none of them -1.
//
// Called by the file reader before it builds a segment.
#pragma once

#include <optional>
#include <string>

#include "codes/id_summary.h"
#include "io/file_format.h"
#include "io/file_layout.h"

namespace fasthash {

/// Throws FormatError.
[[noreturn]] void refuse(const std::string& what);

/// Checks that first_id + largest fits int64 and is below the next id. Throws FormatError.
void check_next_id(const RawHeader& raw, std::uint64_t largest);

/// Checks the ids of a file, and their map if it has one (else `map` is empty); returns the summary of the ids. Throws
/// FormatError. Unless all checks are wanted, the ids need not be distinct, nor their map in order, and a summary that
/// the file holds (null if it has none) is taken as it is.
IdSummary check_ids(const RawHeader& raw, const DuplicateRuns& runs, const PackedNumbers& ids, const PackedNumbers& map,
                    FileChecks checks, std::optional<IdSummary> held = {});

}  // namespace fasthash
