// Properties of the ids of a segment, computed in one parallel pass.
//
// Used by the file reader, to check ids, and by EntryIds.
#pragma once

#include "codes/duplicate_runs.h"
#include "codes/packed_numbers.h"

namespace fasthash {

struct IdSummary {
    std::uint64_t smallest = UINT64_MAX;  ///< offset from the base of the packed ids, as is largest
    std::uint64_t largest = 0;
    bool ascend = true;                   ///< whether each id is larger than the previous one
    std::size_t out_of_order = SIZE_MAX;  ///< first entry whose id does not exceed the previous id of its row
    PackedNumbers least;                  ///< smallest id of each group of kGroup rows
};

IdSummary summarize(const DuplicateRuns& runs, const PackedNumbers& ids);

}  // namespace fasthash
