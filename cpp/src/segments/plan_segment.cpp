#include "segments/plan_segment.h"

#include "segments/arranged_segment.h"

namespace fasthash {

bool may_have_radius_tables(Memory memory, std::optional<Plan> plan) {
    return memory != Memory::compact && plan != Plan::scan;
}

std::shared_ptr<const Segment> planned_segment(SortedCodes codes, Memory memory, std::optional<Plan> plan,
                                               Stopper& stopper) {
    const bool radius_tables = may_have_radius_tables(memory, plan);
    PlanChoice choice = choose_plan(codes, memory, plan, stopper);
    if (choice.plan == Plan::clusters) {
        return std::make_shared<const ArrangedSegment>(
            ArrangedCodes(std::move(codes), std::move(choice.centroids), stopper), radius_tables);
    }
    if (choice.plan == Plan::scan && ArrangedCodes::suits_order_of_ids(codes)) {
        return std::make_shared<const ArrangedSegment>(ArrangedCodes(std::move(codes), stopper), radius_tables);
    }
    return std::make_shared<const SortedSegment>(std::move(codes), std::move(choice), memory, radius_tables, stopper);
}

}  // namespace fasthash
