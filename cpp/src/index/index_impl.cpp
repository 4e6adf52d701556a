#include "index/index_impl.h"

#include <algorithm>
#include <cstdlib>
#include <iomanip>
#include <limits>
#include <sstream>

#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "segments/bit_major_segment.h"
#include "segments/byte_major_segment.h"
#include "segments/filtered_gallery.h"
#include "segments/merge.h"
#include "segments/plan_segment.h"

namespace fasthash {
namespace {

// Each segment is at least this many times larger than all later ones together. A larger factor makes searches faster
// and additions slower.
constexpr std::size_t kGrowth = 32;
// Size limits of the tail, the small last segment that collects single additions. Each change copies it.
constexpr std::size_t kSmallBytes = 64 * 1024;
constexpr std::size_t kSmallEntries = 4096;
// A segment that has lost more than 1/kMostRemoved of its entries is rebuilt without them.
constexpr std::size_t kMostRemoved = 8;

void check_room(std::size_t n_more, std::size_t n_held) {
    constexpr std::size_t kMaxEntries = UINT32_MAX;  // rows are numbered in 32 bits
    if (n_more <= kMaxEntries - n_held) return;
    throw ArgumentError("codes must leave the index with at most " + std::to_string(kMaxEntries) + " codes, got " +
                        std::to_string(n_more) + " more to " + std::to_string(n_held));
}

[[noreturn]] void refuse_share(double share, Plan plan) {
    constexpr const char* kNames[] = {"scan", "prefix", "multi-index", "clusters"};
    throw ArgumentError("max_compared must be given to an index in clusters, got a share of " + shown(share) +
                        " for one whose plan is " + kNames[static_cast<int>(plan)] +
                        "; plan=\"clusters\" forces clusters");
}

const Segment* leading(const State& state) {
    return state.segments.empty() ? nullptr : state.segments[0].segment.get();
}

SortedCodes merged(MergeCursor entries, std::size_t n_bytes, Stopper& stopper) {
    constexpr std::size_t kBetweenStops = 65536;
    constexpr double kShare = .9;  // share of the build time; planning and tables take the rest
    SortedCodesBuilder builder(n_bytes, entries.n_entries(), entries.smallest_id(), entries.largest_id());
    for (std::size_t n = 1; !entries.done(); entries.next(), ++n) {
        if (!builder.append(entries.code(), entries.id())) {
            throw ArgumentError("codes must not change while they are added");
        }
        if (n % kBetweenStops != 0) continue;
        stopper.note_done(kShare * static_cast<double>(n) / static_cast<double>(entries.n_entries()));
        stopper.check();
    }
    return builder.finish();
}

}  // namespace

std::string shown(double number) {
    for (int precision = 6;; ++precision) {
        std::ostringstream text;
        text << std::setprecision(precision) << number;
        if (precision == std::numeric_limits<double>::max_digits10 ||
            std::strtod(text.str().c_str(), nullptr) == number) {
            return text.str();
        }
    }
}

void Index::Impl::add(const char* change, CodeView codes, const std::int64_t* ids, const Interrupt& interrupt) {
    if (codes.n == 0) return;
    Stopper stopper(interrupt);
    const ForkSafeLock lock(writer, {change}, &stopper);
    stopper.begin();  // so that progress is reported at least once, however quick the work is
    auto next = std::make_shared<State>(*state.get());
    if (ids == nullptr) {
        check_room_to_count(codes.n, next->next_id);
        append(*next, codes, nullptr, stopper);
    } else {
        const std::vector<std::int64_t> copied = given_ids(ids, codes.n);
        for (const std::int64_t id : copied) {
            if ((id < 0 || static_cast<std::uint64_t>(id) < next->next_id) && next->find(id).found()) {
                throw ArgumentError("ids must be new to the index, but it holds " + std::to_string(id) + " already");
            }
        }
        append(*next, codes, copied.data(), stopper);
    }
    state.set(std::move(next));
}

// New entries are merged with the preceding segments that are too small to keep (kGrowth).
void Index::Impl::append(State& draft, CodeView codes, const std::int64_t* ids, Stopper& stopper) const {
    std::vector<LiveSegment>& segments = draft.segments;
    std::size_t n_rest = draft.size(), n_joined = codes.n, first = segments.size();
    check_room(codes.n, n_rest);
    const auto join_one_more = [&] {
        n_joined += segments[--first].n_live;
        n_rest -= segments[first].n_live;
    };
    if (first > 0 && segments[first - 1].small) join_one_more();
    const bool small =
        n_joined <= std::min(kSmallEntries, kSmallBytes / layout.n_bytes()) && n_rest >= kGrowth * n_joined;
    while (!small && first > 0 && segments[first - 1].n_live < kGrowth * n_joined) join_one_more();

    const auto begin = segments.begin() + static_cast<std::ptrdiff_t>(first);
    const std::vector<LiveSegment> joined(begin, segments.end());
    segments.erase(begin, segments.end());
    const NewEntries entries{codes, ids, static_cast<std::int64_t>(draft.next_id)};
    segments.push_back(small ? build_small(joined, entries) : build(joined, entries, leading(draft), stopper));
    segments.back().small = small;
    draft.next_id = ids == nullptr ? draft.next_id + codes.n : next_after(draft.next_id, ids, codes.n);
}

void Index::Impl::remove(State& draft, const std::int64_t* ids, std::size_t n, Stopper& stopper) const {
    draft.remove(draft.find_all(ids, n));
    std::vector<LiveSegment>& segments = draft.segments;
    // A segment that has become smaller than all later ones together is merged with them.
    std::size_t first = segments.size(), n_after = 0;
    for (std::size_t s = segments.size(); s-- > 0;) {
        if (segments[s].n_live < n_after) first = s;
        n_after += segments[s].n_live;
    }
    if (first < segments.size()) {
        const auto begin = segments.begin() + static_cast<std::ptrdiff_t>(first);
        const std::vector<LiveSegment> joined(begin, segments.end());
        segments.erase(begin, segments.end());
        segments.push_back(build(joined, nothing_new(), leading(draft), stopper));
    }
    for (LiveSegment& each : segments) {
        const std::size_t n_entries = each.segment->n_entries();
        if ((n_entries - each.n_live) * kMostRemoved <= n_entries) continue;
        const bool small = each.small;
        const Segment* before = &each == &segments[0] ? nullptr : leading(draft);
        each = small ? build_small({each}, nothing_new()) : build({each}, nothing_new(), before, stopper);
        each.small = small;
    }
}

std::shared_ptr<const State> Index::Impl::in_one_segment(const State& held, Stopper& stopper) const {
    auto next = std::make_shared<State>();
    if (held.size() > 0) next->segments.push_back(build(held.segments, nothing_new(), nullptr, stopper));
    next->next_id = held.next_id;
    return next;
}

// One search merges the segments for all others, under the writers' lock. A search called back by a change cannot take
// that lock and merges for itself. The merged state is not published if a callback has changed the index meanwhile.
std::shared_ptr<const State> Index::Impl::compacted(Stopper& stopper) {
    std::shared_ptr<const State> held = state.get();
    if (held->is_compact()) return held;
    const ForkSafeLock lock(writer, {"search", true}, &stopper, ForkSafeLock::IfStuck::go_without);
    held = state.get();
    if (held->is_compact()) return held;
    const std::shared_ptr<const State> next = in_one_segment(*held, stopper);
    if (lock.held() && state.get() == held) state.set(next);
    return next;
}

std::shared_ptr<const State> Index::Impl::to_save(bool summary, Stopper& stopper) const {
    std::shared_ptr<const State> held = state.get();
    if (held->is_compact()) return held;
    bool one_segment = settings.metric == Metric::jaccard;
    if (settings.kind == IndexKind::hier) {
        const Segment& first = *leading(*held);  // of an index of several segments, or with removed entries
        one_segment |= summary || first.clusters() != nullptr || first.search_plan().plan == Plan::scan;
    }
    if (!one_segment) return held;
    return in_one_segment(*held, stopper);
}

void Index::Impl::search_exact(const IdFilter* filter, const SearchTask& task, Stopper& stopper) const {
    const std::shared_ptr<const State> held = state.get();
    if (task.share < 1 && settings.plan != Plan::clusters && !held->segments.empty()) {
        const Plan plan = leading(*held)->search_plan().plan;
        if (plan != Plan::clusters) refuse_share(task.share, plan);
    }
    const Searched searched = to_search(held, filter);
    search_segments(searched.segments, searched.order, task, stopper);
}

void Index::Impl::search_jaccard(const IdFilter* filter, const JaccardTask& task, Stopper& stopper) const {
    fasthash::search_jaccard(to_search(state.get(), filter).segments, task, stopper);
}

Index::Impl::Searched Index::Impl::to_search(std::shared_ptr<const State> held, const IdFilter* filter) const {
    Searched searched;
    if (filter != nullptr && is_narrow(*filter, held->size())) {
        searched.allowed = filtered(held, *filter, filter->reusable());
        if (searched.allowed) searched.segments.push_back({searched.allowed.get(), {}});
    } else {
        for (const LiveSegment& each : held->segments) {
            searched.segments.push_back({each.segment.get(), each.visibility(filter)});
        }
        if (held->ids_ascend()) searched.order = IdOrder::ascending;
    }
    searched.state = std::move(held);
    return searched;
}

std::shared_ptr<const Segment> Index::Impl::filtered(const std::shared_ptr<const State>& held, const IdFilter& filter,
                                                     bool built) const {
    return filter.prepared().entries_of(held, filter, layout.n_bytes(), [&](const NewEntries& entries) {
        if (!built) return build_small({}, entries).segment;
        Stopper stopper;
        return build({}, entries, leading(*held), stopper).segment;
    });
}

void Index::Impl::search_pruned(const Pruning& pruning, const IdFilter* filter, const SearchTask& task,
                                Stopper& stopper) {
    if (settings.kind == IndexKind::flat) {
        throw ArgumentError("keep must not be given to a flat index, which has no levels to prune");
    }
    if (layout.n_levels() == 1) return search_exact(filter, task, stopper);  // nothing to prune
    const std::shared_ptr<const State> held = compacted(stopper);
    std::shared_ptr<const Segment> searched;
    if (filter != nullptr) {
        searched = filtered(held, *filter, true);
    } else if (!held->segments.empty()) {
        searched = held->segments[0].segment;
    }
    search_levels(searched.get(), layout, pruning, task, stopper);
}

LiveSegment Index::Impl::build(const std::vector<LiveSegment>& segments, const NewEntries& entries,
                               const Segment* first, Stopper& stopper) const {
    if (settings.kind == IndexKind::flat || settings.metric == Metric::jaccard) return build_small(segments, entries);
    // If the first segment needs no scan, later ones need none either: their search starts with its low threshold.
    const bool inherits = !settings.plan && first != nullptr && first->search_plan().plan != Plan::scan;
    const std::optional<Plan> plan = inherits ? first->search_plan().plan : settings.plan;
    SortedCodes codes = merged(MergeCursor(segments, entries, stopper), layout.n_bytes(), stopper);
    LiveSegment built(planned_segment(std::move(codes), settings.memory, plan, stopper));
    built.inherited_plan = inherits;
    return built;
}

LiveSegment Index::Impl::build_small(const std::vector<LiveSegment>& segments, const NewEntries& entries) const {
    return settings.metric == Metric::jaccard ? BitMajorSegment::of(segments, entries)
                                              : ByteMajorSegment::of(segments, entries);
}

}  // namespace fasthash
