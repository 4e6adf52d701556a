// The order of codes by their bytes: a radix sort on the leading bits, then each bucket by itself, on all threads.
#pragma once

#include "array.h"
#include "fasthash/codes.h"
#include "stopper.h"

namespace fasthash {

/// Rows in the order of (code, id); `ids` null stands for ids that ascend with the rows. Fewer than 2^32 codes.
/// Throws Interrupted when `stopper` said so.
Array<std::uint32_t> sort_rows(CodeView codes, const std::int64_t* ids, Stopper* stopper = nullptr);

}  // namespace fasthash
