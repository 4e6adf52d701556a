// Makes the segment that the planner chooses for sorted codes.
//
// Called when codes are added, merged or loaded.
#pragma once

#include <memory>
#include <optional>

#include "segments/sorted_segment.h"

namespace fasthash {

/// Whether codes that are scanned may get tables for searches within small radii.
bool may_have_radius_tables(Memory memory, std::optional<Plan> plan);

/// `plan`: null lets the planner choose. Throws Interrupted when `stopper` ends the work.
std::shared_ptr<const Segment> planned_segment(SortedCodes codes, Memory memory, std::optional<Plan> plan,
                                               Stopper& stopper);

}  // namespace fasthash
