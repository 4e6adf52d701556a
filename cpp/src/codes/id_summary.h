// What a reader of files has to know of ids, found in one pass.
#pragma once

#include "codes/duplicate_runs.h"
#include "codes/packed_numbers.h"

namespace fasthash {

struct IdSummary {
    std::uint64_t smallest = UINT64_MAX;  ///< as offsets from what the ids are relative to
    std::uint64_t largest = 0;
    bool ascend = true;                   ///< each is larger than the one before
    std::size_t out_of_order = SIZE_MAX;  ///< an entry whose id is not larger than the one before of the same row
    PackedNumbers least;                  ///< of the entries of each kGroup rows
};

IdSummary summarize(const DuplicateRuns& runs, const PackedNumbers& ids);

}  // namespace fasthash
