// Makes the segment that the planner chooses for sorted codes.
//
// Called when codes are added, merged or loaded.
#pragma once

#include <memory>
#include <optional>

#include "segments/sorted_segment.h"

namespace fasthash {

/// `plan`: null lets the planner choose. Throws Interrupted when `stopper` ends the work.
std::shared_ptr<const Segment> planned_segment(SortedCodes codes, Memory memory, std::optional<Plan> plan,
                                               Stopper& stopper);

}  // namespace fasthash
