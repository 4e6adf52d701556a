// Readers of the section 'clusters' and of the tables of multi-index hashing, which follow the codes.
//
// Called by the readers of segments.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "codes/id_summary.h"
#include "io/file_format.h"
#include "io/file_sections.h"
#include "search/substring_search.h"

namespace fasthash {

/// The section 'clusters': the rings and centroids of clusters, the summary, the directory. Its checksum, its padding
/// and the directory's rows are checked; the rings and the centroids are not.
struct ClusterSection {
    const ClusterParts parts;
    Array<std::uint32_t> ring_begin;
    Array<std::uint8_t> centroids;
    std::optional<IdSummary> summary;
    double cost = 0;
    PrefixDirectory directory;

    /// Throws FormatError.
    ClusterSection(const OpenedFile& opened, const Sections& sections);
    /// The largest id, less the first, that is read from ids which are not checked.
    std::uint64_t most(FileChecks checks) const {
        return summary && checks == FileChecks::structure ? summary->largest : ~std::uint64_t{0};
    }
};

/// The tables after the codes, in which only what memory safety needs has been checked. Throws FormatError.
std::vector<SubstringTable> read_tables(const OpenedFile& opened, const Sections& sections);
/// The bytes between the parts of the section 'codes' must be zero. Throws FormatError.
void check_gaps_of_tables(const OpenedFile& opened, const Sections& sections);

}  // namespace fasthash
