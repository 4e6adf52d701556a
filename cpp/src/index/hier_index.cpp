#include "fasthash/hier_index.h"

#include <algorithm>

#include "codes/arranged_codes.h"
#include "codes/code_bits.h"
#include "fasthash/error.h"
#include "index/index_impl.h"
#include "segments/merge.h"

namespace fasthash {
namespace {

// Numbers of nodes of codes in clusters, without sorting them: a bit for each value of the first bits of a code. Empty
// if a level but the last ends after more than kMaxSubstringBits.
std::vector<std::size_t> nodes_of_clusters(const ArrangedCodes& codes, const LevelLayout& layout) {
    constexpr std::size_t kPiece = 4096;  // rows
    const std::size_t n_bytes = codes.n_bytes(), n_inner = layout.n_levels() - 1;
    std::vector<std::size_t> n_bits(n_inner), nodes(n_inner);
    std::vector<std::vector<bool>> seen(n_inner);
    for (std::size_t level = 0, end = 0; level < n_inner; ++level) {
        n_bits[level] = end += layout.level_bits()[level];
        if (end > kMaxSubstringBits) return {};
        seen[level].resize(std::size_t{1} << end);
    }
    Array<std::uint8_t> rows(kPiece * n_bytes);
    for (std::size_t begin = 0; begin < codes.n_rows() && n_inner > 0; begin += kPiece) {
        const std::size_t n = std::min(kPiece, codes.n_rows() - begin);
        codes.copy_rows(begin, n, rows.data());
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t level = 0; level < n_inner; ++level) {
                const std::uint32_t value = code_bits(rows.data() + i * n_bytes, n_bytes, 0, n_bits[level]);
                nodes[level] += seen[level][value] ? 0 : 1;
                seen[level][value] = true;
            }
        }
    }
    nodes.push_back(codes.n_rows());
    return nodes;
}

std::vector<std::size_t> nodes_of(const State& state, const LevelLayout& layout) {
    std::vector<std::size_t> nodes;
    if (const ArrangedCodes* clusters = state.clusters()) nodes = nodes_of_clusters(*clusters, layout);
    if (!nodes.empty()) return nodes;
    const NewEntries nothing{{nullptr, 0, layout.n_bytes()}, nullptr, 0};
    Stopper stopper;
    return count_nodes(MergeCursor(state.segments, nothing, stopper), layout);
}

IndexSettings checked(const LevelLayout& layout, const IndexSettings& settings) {
    if (settings.metric == Metric::jaccard && layout.n_levels() > 1) {
        throw ArgumentError("level_bits must be one level with the metric jaccard, got " + layout.str());
    }
    if (settings.metric == Metric::jaccard && settings.plan) {
        throw ArgumentError("plan must not be given with the metric jaccard, which has one plan");
    }
    if (settings.metric == Metric::jaccard && settings.memory != Memory::standard) {
        const std::string given = settings.memory == Memory::compact ? "compact" : "fast";
        throw ArgumentError("memory must be the default with the metric jaccard, which stores codes in one way, got " +
                            given);
    }
    return settings;
}

}  // namespace

HierIndex::HierIndex(LevelLayout layout, Memory memory, std::optional<Plan> plan, Metric metric)
    : Index(std::make_unique<Impl>(std::move(layout), checked(layout, {IndexKind::hier, memory, plan, metric}))) {}

HierIndex::HierIndex(std::unique_ptr<Impl> impl) : Index(std::move(impl)) {}

Memory HierIndex::memory() const { return impl_->settings.memory; }

std::optional<Plan> HierIndex::forced_plan() const { return impl_->settings.plan; }

HierIndex::Shape HierIndex::shape() const {
    const std::shared_ptr<const State> held = impl_->state.get();
    if (metric() == Metric::jaccard) return {Plan::scan, 0, 0, 0, {held->size()}};
    Shape shape{Plan::scan, 0, 0, 0, nodes_of(*held, layout())};
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
