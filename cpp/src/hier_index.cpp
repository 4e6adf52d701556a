#include "fasthash/hier_index.h"

#include <algorithm>
#include <string>

#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "file_format.h"
#include "planner.h"
#include "pruned_search.h"
#include "sort_rows.h"

namespace fasthash {
namespace {

constexpr std::size_t kMaxItems = UINT32_MAX;  // rows are numbered in 32 bits
// Queries that a thread takes at once.
constexpr std::size_t kQueriesPerTask = 16;

}  // namespace

HierIndex::HierIndex(LevelLayout layout, Memory memory, std::optional<Plan> plan)
    : Index(layout),
      memory_(memory),
      forced_plan_(plan),
      parts_(std::make_unique<PartIndex>(SortedCodes(this->layout().n_bytes()))) {
    parts_->sorted.hold_slices();
}

HierIndex::~HierIndex() = default;

std::size_t HierIndex::do_size() const { return parts_->sorted.n_items(); }

std::size_t HierIndex::do_nbytes() const {
    const std::lock_guard lock(level_tree_mutex_);
    return parts_->nbytes() + (level_tree_ ? level_tree_->nbytes() : 0);
}

HierIndex::Shape HierIndex::shape() const {
    const auto lock = read_lock();
    const bool parts = plan_ != Plan::scan;
    return {plan_, parts ? parts_->n_parts() : 0, parts ? parts_->n_bits() : 0, count_nodes(parts_->sorted, layout())};
}

// Sorts the new items and merges them with the old ones; the old ones stay until that succeeded.
void HierIndex::do_add(CodeView codes, const std::int64_t* given) {
    const std::size_t n_old = do_size();
    if (codes.n > kMaxItems - n_old) {
        throw ArgumentError("codes must leave the index with at most " + std::to_string(kMaxItems) + " codes, got " +
                            std::to_string(codes.n) + " more to " + std::to_string(n_old));
    }
    const SortedCodes& held = parts_->sorted;
    std::vector<std::int64_t> ids;  // empty while they are counted
    const auto first = static_cast<std::int64_t>(next_id_);
    std::uint64_t next_id = next_id_ + codes.n;
    std::int64_t smallest = first, largest = first + static_cast<std::int64_t>(codes.n) - 1;
    if (given != nullptr) {
        ids = given_ids(given, codes.n, next_id_, {n_old, [&held](std::size_t item) { return held.id(item); }});
        next_id = next_after(next_id_, ids);
        smallest = *std::min_element(ids.begin(), ids.end());
        largest = *std::max_element(ids.begin(), ids.end());
    } else {
        check_room_to_count(codes.n, next_id_);
    }
    for (std::size_t item = 0; item < n_old; ++item) {
        smallest = std::min(smallest, held.id(item));
        largest = std::max(largest, held.id(item));
    }

    Array<std::uint32_t> order = sort_rows(codes, given == nullptr ? nullptr : ids.data());
    SortedCodesBuilder builder(layout().n_bytes(), n_old + codes.n, smallest, largest);
    SortedCodesCursor old(held);
    const auto append = [&builder](const std::uint8_t* code, std::int64_t id) {
        if (!builder.append(code, id)) throw ArgumentError("codes must not change while they are added");
    };
    for (const std::uint32_t row : order) {
        const std::uint8_t* code = codes.row(row);
        const std::int64_t id = given == nullptr ? first + row : ids[row];
        for (; !old.done(); old.next()) {
            const int comparison = std::memcmp(old.code(), code, codes.n_bytes);
            if (comparison > 0 || (comparison == 0 && old.id() > id)) break;
            append(old.code(), old.id());
        }
        append(code, id);
    }
    for (; !old.done(); old.next()) append(old.code(), old.id());
    order = {};
    ids = {};
    adopt(builder.finish(), next_id);
}

void HierIndex::adopt(SortedCodes codes, std::uint64_t next_id) {
    const PlanChoice choice = choose_plan(codes, memory_, forced_plan_);
    std::unique_ptr<PartIndex> parts = carry_out(choice, std::move(codes), memory_);
    parts_ = std::move(parts);
    plan_ = choice.plan;
    plan_cost_ = choice.cost;
    level_tree_.reset();
    next_id_ = next_id;
}

const LevelTree& HierIndex::level_tree() const {
    const std::lock_guard lock(level_tree_mutex_);
    if (!level_tree_) level_tree_ = std::make_unique<LevelTree>(parts_->sorted, layout());
    return *level_tree_;
}

void HierIndex::do_search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                          std::int32_t* distances, std::int64_t* ids, QueryStats* stats, Stopper& stopper) const {
    const SortedCodes& sorted = parts_->sorted;
    const bool prune = pruning && layout().n_levels() > 1;  // one level leaves nothing to prune
    const std::size_t per_thread = queries.n / std::min(std::max<std::size_t>(queries.n, 1), num_threads());
    if (!prune && (plan_ == Plan::scan || scan_pays(sorted.n_rows(), sorted.n_bytes(), per_thread, plan_cost_))) {
        scan(sorted, sorted, queries, k, distances, ids, stopper);
        if (stats != nullptr) {
            const auto n_compared = static_cast<std::int64_t>(sorted.n_rows());
            std::fill(stats, stats + queries.n, QueryStats{Plan::scan, false, 0, n_compared});
        }
        return;
    }
    const LevelTree* tree = prune ? &level_tree() : nullptr;
    const std::size_t n_tasks = (queries.n + kQueriesPerTask - 1) / kQueriesPerTask;
    parallel_for(n_tasks, [&](std::size_t task) {
        TopK nearest(k, layout().n_bits());
        std::optional<PartSearch> exact;
        std::optional<PrunedSearch> pruned;
        if (prune) {
            pruned.emplace(sorted, *tree, layout(), *pruning);
        } else {
            exact.emplace(*parts_);
        }
        const std::size_t end = std::min(queries.n, (task + 1) * kQueriesPerTask);
        for (std::size_t q = task * kQueriesPerTask; q < end && !stopper.stopped(); ++q) {
            nearest.clear();
            const std::uint8_t* query = queries.row(q);
            QueryStats work = prune ? pruned->run(query, k, nearest) : exact->run(query, nearest);
            nearest.write(distances + q * k, ids + q * k);
            if (stats != nullptr) {
                stats[q] = work;
                stats[q].plan = plan_;
            }
        }
    });
    stopper.finish();
}

void HierIndex::do_save(const std::string& path) const {
    const SortedCodes& sorted = parts_->sorted;
    const auto memory = static_cast<std::uint8_t>(memory_);
    IndexWriter writer(path, {IndexKind::hier, layout(), sorted.n_items(), true, memory});
    for (SortedCodesCursor item(sorted); !item.done(); item.next()) writer.codes(item.code(), layout().n_bytes());
    constexpr std::size_t kPiece = 65536;
    std::vector<std::int64_t> ids;
    for (std::size_t begin = 0; begin < sorted.n_items(); begin += kPiece) {
        ids.resize(std::min(kPiece, sorted.n_items() - begin));
        for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = sorted.id(begin + i);
        writer.ids(ids.data(), ids.size());
    }
    writer.finish();
}

}  // namespace fasthash
