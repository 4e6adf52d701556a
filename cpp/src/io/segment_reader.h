// Builds the one segment of an index file from its sections, with the checks that its kind needs.
//
// Called by the file reader for each file that has codes.
#pragma once

#include <memory>

#include "io/file_format.h"
#include "io/opened_file.h"

namespace fasthash {

/// `mapped`: the mapping that the segment keeps and views, or null to read the arrays into memory. Throws FormatError.
LiveSegment read_segment(const OpenedFile& opened, const std::shared_ptr<const MappedFile>& mapped,
                         const IndexSettings& settings, FileChecks checks);

}  // namespace fasthash
