// Checks of the ids in a file: in range, in order, distinct, and none of them -1.
#pragma once

#include <string>

#include "codes/id_summary.h"
#include "io/file_layout.h"

namespace fasthash {

/// Throws FormatError.
[[noreturn]] void refuse(const std::string& what);

/// Ids from first_id up to `largest` more must be in the range of int64 and below the next id. Throws FormatError.
void check_next_id(const RawHeader& raw, std::uint64_t largest);

/// The ids of a file, checked. Throws FormatError.
IdSummary check_ids(const RawHeader& raw, const DuplicateRuns& runs, const PackedNumbers& ids);

}  // namespace fasthash
