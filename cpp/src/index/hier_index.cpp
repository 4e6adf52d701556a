#include "fasthash/hier_index.h"

#include "index/index_impl.h"
#include "segments/merge.h"

namespace fasthash {

HierIndex::HierIndex(LevelLayout layout, Memory memory, std::optional<Plan> plan)
    : Index(std::make_unique<Impl>(std::move(layout), IndexSettings{IndexKind::hier, memory, plan})) {}

HierIndex::HierIndex(std::unique_ptr<Impl> impl) : Index(std::move(impl)) {}

Memory HierIndex::memory() const { return impl_->settings.memory; }

std::optional<Plan> HierIndex::forced_plan() const { return impl_->settings.plan; }

HierIndex::Shape HierIndex::shape() const {
    const std::shared_ptr<const State> held = impl_->state.get();
    const NewEntries nothing{{nullptr, 0, layout().n_bytes()}, nullptr, 0};
    Stopper stopper;
    Shape shape{Plan::scan, 0, 0, 0, count_nodes(MergeCursor(held->segments, nothing, stopper), layout())};
    if (held->segments.empty()) return shape;
    const SearchPlan first = held->segments[0].segment->search_plan();
    if (first.plan == Plan::scan) return shape;
    shape.plan = first.plan;
    shape.n_substrings = first.n_substrings;
    shape.substring_bits = first.substring_bits;
    shape.n_clusters = first.n_clusters;
    return shape;
}

}  // namespace fasthash
