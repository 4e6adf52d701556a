#include "fasthash/hier_index.h"

#include "fasthash/error.h"
#include "io/file_format.h"
#include "codes/level_tree.h"
#include "segments/merge.h"
#include "segments/segment_search.h"
#include "segments/sorted_segment.h"
#include "segments/state.h"

namespace fasthash {
namespace {

SortedCodes merged(MergeCursor items, std::size_t n_bytes, Stopper& stopper) {
    constexpr std::size_t kBetweenStops = 65536;
    constexpr double kShare = .9;  // of the time to build an index; the plan and its tables take the rest
    SortedCodesBuilder builder(n_bytes, items.n_items(), items.smallest_id(), items.largest_id());
    for (std::size_t n = 1; !items.done(); items.next(), ++n) {
        if (!builder.append(items.code(), items.id())) {
            throw ArgumentError("codes must not change while they are added");
        }
        if (n % kBetweenStops != 0) continue;
        stopper.note_done(kShare * static_cast<double>(n) / static_cast<double>(items.n_items()));
        stopper.check();
    }
    return builder.finish();
}

}  // namespace

HierIndex::Shape HierIndex::shape() const {
    const std::shared_ptr<const State> held = state();
    const NewItems nothing{{nullptr, 0, layout().n_bytes()}, nullptr, 0};
    Stopper stopper;
    Shape shape{Plan::scan, 0, 0, count_nodes(MergeCursor(held->segments, nothing, stopper), layout())};
    if (held->segments.empty()) return shape;
    const auto* first = dynamic_cast<const SortedSegment*>(held->segments[0].segment.get());
    if (first == nullptr || first->plan() == Plan::scan) return shape;
    shape.plan = first->plan();
    shape.n_parts = first->n_parts();
    shape.part_bits = first->part_bits();
    return shape;
}

LiveSegment HierIndex::build(const std::vector<LiveSegment>& parts, const NewItems& items, const Segment* first,
                             Stopper& stopper) const {
    // After a first segment that needs no scan none is needed: how far the search has to go is known by then.
    std::optional<Plan> plan = forced_plan_;
    const auto* leading = dynamic_cast<const SortedSegment*>(first);
    if (!plan && leading != nullptr && leading->plan() != Plan::scan) plan = leading->plan();
    SortedCodes codes = merged(MergeCursor(parts, items, stopper), layout().n_bytes(), stopper);
    return LiveSegment(std::make_shared<const SortedSegment>(std::move(codes), memory_, plan, stopper));
}

void HierIndex::search_pruned(const Pruning& pruning, const IdFilter* filter, const SearchTask& task,
                              Stopper& stopper) const {
    if (layout().n_levels() == 1) return search_exact(filter, task, stopper);  // one level leaves nothing to prune
    const std::shared_ptr<const State> held = compacted(stopper);
    std::shared_ptr<const Segment> searched;
    if (filter != nullptr) {
        searched = filtered(held, *filter, true);
    } else if (!held->segments.empty()) {
        searched = held->segments[0].segment;
    }
    search_levels(dynamic_cast<const SortedSegment*>(searched.get()), layout(), pruning, task, stopper);
}

std::unique_ptr<Index> HierIndex::empty_copy() const {
    return std::make_unique<HierIndex>(layout(), memory_, forced_plan_);
}

IndexSettings HierIndex::settings() const { return {IndexKind::hier, memory_, forced_plan_}; }

}  // namespace fasthash
