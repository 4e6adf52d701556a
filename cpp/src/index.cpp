#include "fasthash/index.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "file_format.h"
#include "filtered_gallery.h"
#include "fork_safe.h"
#include "merge.h"
#include "search.h"
#include "sliced_segment.h"
#include "state.h"

namespace fasthash {
namespace {

// Each segment holds at least so many times what all that follow hold. More makes searches faster and adding slower.
constexpr std::size_t kGrowth = 32;
// What is added bit by bit is collected in a small last segment, which is copied by each change.
constexpr std::size_t kSmallBytes = 64 * 1024;
constexpr std::size_t kSmallItems = 4096;
// A segment that has lost more than this share of its items is made anew without them.
constexpr std::size_t kMostRemoved = 8;

void check_width(const char* name, const CodeView& codes, const LevelLayout& layout) {
    if (codes.n_bytes == layout.n_bytes()) return;
    throw ArgumentError(std::string(name) + " must be " + std::to_string(layout.n_bytes()) + " bytes wide for " +
                        std::to_string(layout.n_bits()) + " bits, got " + std::to_string(codes.n_bytes) + " bytes");
}

void check_radius(std::int32_t radius) {
    if (radius < 0) throw ArgumentError("radius must be at least 0, got " + std::to_string(radius));
}

void check_room(std::size_t n_more, std::size_t n_held) {
    constexpr std::size_t kMaxItems = UINT32_MAX;  // rows are numbered in 32 bits
    if (n_more <= kMaxItems - n_held) return;
    throw ArgumentError("codes must leave the index with at most " + std::to_string(kMaxItems) + " codes, got " +
                        std::to_string(n_more) + " more to " + std::to_string(n_held));
}

const Segment* leading(const State& state) {
    return state.segments.empty() ? nullptr : state.segments[0].segment.get();
}

}  // namespace

NewItems Index::nothing_new() const { return {{nullptr, 0, layout_.n_bytes()}, nullptr, 0}; }

Index::Index(LevelLayout layout)
    : layout_(std::move(layout)),
      state_(std::make_unique<Published<State>>(std::make_shared<const State>())),
      writer_(std::make_unique<ForkSafeMutex>()) {}

Index::~Index() = default;

std::shared_ptr<const State> Index::state() const { return state_->get(); }

void Index::adopt(std::shared_ptr<const State> state) { state_->set(std::move(state)); }

std::size_t Index::size() const { return state()->size(); }

std::size_t Index::nbytes() const {
    std::size_t bytes = 0;
    const std::shared_ptr<const State> held = state();
    for (const LiveSegment& part : held->segments) bytes += part.segment->nbytes() + part.live.nbytes();
    return bytes;
}

std::size_t Index::mapped_bytes() const {
    std::size_t bytes = 0;
    const std::shared_ptr<const State> held = state();
    for (const LiveSegment& part : held->segments) bytes += part.segment->mapped_bytes();
    return bytes;
}

std::size_t Index::n_segments() const { return state()->segments.size(); }

std::size_t Index::n_removed() const {
    std::size_t n = 0;
    const std::shared_ptr<const State> held = state();
    for (const LiveSegment& part : held->segments) n += part.segment->n_items() - part.n_live;
    return n;
}

// ---- changes ----

void Index::add(CodeView codes, const std::int64_t* ids, const Interrupt& interrupt) {
    add("add", codes, ids, interrupt);
}

void Index::add(const char* change, CodeView codes, const std::int64_t* ids, const Interrupt& interrupt) {
    check_width("codes", codes, layout_);
    if (codes.n == 0) return;
    Stopper stopper(interrupt);
    const ForkSafeLock lock(*writer_, {change}, &stopper);
    auto next = std::make_shared<State>(*state());
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
    state_->set(std::move(next));
}

void Index::remove(const std::int64_t* ids, std::size_t n, const Interrupt& interrupt) {
    if (n == 0) return;
    Stopper stopper(interrupt);
    const ForkSafeLock lock(*writer_, {"remove"}, &stopper);
    auto next = std::make_shared<State>(*state());
    remove(*next, given_ids(ids, n).data(), n, stopper);
    state_->set(std::move(next));
}

void Index::update(const std::int64_t* ids, CodeView codes, const Interrupt& interrupt) {
    check_width("codes", codes, layout_);
    if (codes.n == 0) return;
    Stopper stopper(interrupt);
    const ForkSafeLock lock(*writer_, {"update"}, &stopper);
    auto next = std::make_shared<State>(*state());
    const std::vector<std::int64_t> copied = given_ids(ids, codes.n);
    remove(*next, copied.data(), codes.n, stopper);
    append(*next, codes, copied.data(), stopper);
    state_->set(std::move(next));
}

void Index::merge(const Index& other, const Interrupt& interrupt) {
    if (other.layout().level_bits() != layout_.level_bits()) {
        throw ArgumentError("other must have levels of " + layout_.str() + " bits, has " + other.layout().str());
    }
    const Export items = other.export_items();
    add("merge", {items.codes.data(), items.ids.size(), layout_.n_bytes()}, items.ids.data(), interrupt);
}

void Index::compact(const Interrupt& interrupt) {
    Stopper stopper(interrupt);
    const ForkSafeLock lock(*writer_, {"compact"}, &stopper);
    const std::shared_ptr<const State> held = state();
    if (!held->is_compact()) state_->set(in_one_segment(*held, stopper));
}

// The new items go into one segment with those before them that are too small to stay on their own.
void Index::append(State& draft, CodeView codes, const std::int64_t* ids, Stopper& stopper) const {
    std::vector<LiveSegment>& segments = draft.segments;
    std::size_t n_rest = draft.size(), n_joined = codes.n, first = segments.size();
    check_room(codes.n, n_rest);
    const auto join_one_more = [&] {
        n_joined += segments[--first].n_live;
        n_rest -= segments[first].n_live;
    };
    if (first > 0 && segments[first - 1].small) join_one_more();
    const bool small =
        n_joined <= std::min(kSmallItems, kSmallBytes / layout_.n_bytes()) && n_rest >= kGrowth * n_joined;
    while (!small && first > 0 && segments[first - 1].n_live < kGrowth * n_joined) join_one_more();

    const auto begin = segments.begin() + static_cast<std::ptrdiff_t>(first);
    const std::vector<LiveSegment> joined(begin, segments.end());
    segments.erase(begin, segments.end());
    const NewItems items{codes, ids, static_cast<std::int64_t>(draft.next_id)};
    segments.push_back(small ? SlicedSegment::of(joined, items) : build(joined, items, leading(draft), stopper));
    segments.back().small = small;
    draft.next_id = ids == nullptr ? draft.next_id + codes.n : next_after(draft.next_id, ids, codes.n);
}

void Index::remove(State& draft, const std::int64_t* ids, std::size_t n, Stopper& stopper) const {
    draft.remove(draft.find_all(ids, n));
    std::vector<LiveSegment>& segments = draft.segments;
    // A segment that has become smaller than what follows it goes into one with that.
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
    for (LiveSegment& part : segments) {
        const std::size_t n_items = part.segment->n_items();
        if ((n_items - part.n_live) * kMostRemoved <= n_items) continue;
        const bool small = part.small;
        const Segment* before = &part == &segments[0] ? nullptr : leading(draft);
        part = small ? SlicedSegment::of({part}, nothing_new()) : build({part}, nothing_new(), before, stopper);
        part.small = small;
    }
}

std::shared_ptr<const State> Index::in_one_segment(const State& held, Stopper& stopper) const {
    auto next = std::make_shared<State>();
    next->segments.push_back(build(held.segments, nothing_new(), nullptr, stopper));
    next->next_id = held.next_id;
    return next;
}

// One search does it for all, in turn with the changes. A search in a callback of a change does it for itself alone.
// What a callback of this search has changed meanwhile stays as it is.
std::shared_ptr<const State> Index::compacted(Stopper& stopper) const {
    std::shared_ptr<const State> held = state();
    if (held->is_compact()) return held;
    const ForkSafeLock lock(*writer_, {"search", true}, &stopper, ForkSafeLock::IfStuck::go_without);
    held = state();
    if (held->is_compact()) return held;
    const std::shared_ptr<const State> next = in_one_segment(*held, stopper);
    if (lock.held() && state() == held) state_->set(next);
    return next;
}

// ---- looking up ----

bool Index::contains(std::int64_t id) const { return state()->find(id).found(); }

std::uint64_t Index::next_id() const { return state()->next_id; }

void Index::reconstruct(const std::int64_t* ids, std::size_t n, std::uint8_t* codes) const {
    const std::shared_ptr<const State> held = state();
    const std::vector<Place> places = held->find_all(ids, n);
    for (std::size_t i = 0; i < n; ++i) {
        held->segments[places[i].segment].segment->copy_codes(&places[i].item, 1, codes + i * layout_.n_bytes());
    }
}

Export Index::export_items() const {
    const std::shared_ptr<const State> held = state();
    const std::size_t n_bytes = layout_.n_bytes();
    Items items;
    for (const LiveSegment& part : held->segments) items.append(part, n_bytes);
    const Array<std::uint32_t> order = order_of_ids(items.ids.data(), items.n());
    Export sorted{std::vector<std::uint8_t>(items.codes.size()), std::vector<std::int64_t>(items.n())};
    for (std::size_t i = 0; i < order.size(); ++i) {
        std::memcpy(sorted.codes.data() + i * n_bytes, items.codes.data() + order[i] * n_bytes, n_bytes);
        sorted.ids[i] = items.ids[order[i]];
    }
    return sorted;
}

std::unique_ptr<Index> Index::copy() const {
    std::unique_ptr<Index> same = empty_copy();
    same->adopt(state());
    return same;
}

// ---- searching ----

void Index::search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, const IdFilter* filter,
                   std::int32_t* distances, std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt) const {
    check_width("queries", queries, layout_);
    if (k < 1) throw ArgumentError("k must be at least 1, got 0");
    if (pruning && !(pruning->keep > 0 && pruning->keep <= 1)) {
        throw ArgumentError("keep must be above 0 and at most 1, got " + std::to_string(pruning->keep));
    }
    const auto no_distance = static_cast<std::int32_t>(layout_.n_bits()) + 1;
    const SearchTask task{queries, {k}, stats, [&](std::size_t q, TopK& nearest) {
                              const std::size_t n = nearest.finish();
                              nearest.write(distances + q * k, ids + q * k);
                              std::fill(distances + q * k + n, distances + (q + 1) * k, no_distance);
                              std::fill(ids + q * k + n, ids + (q + 1) * k, kNoId);
                          }};
    Stopper stopper(interrupt);
    if (pruning) {
        search_pruned(*pruning, filter, task, stopper);
    } else {
        search_exact(filter, task, stopper);
    }
}

RangeResult Index::range_search(CodeView queries, std::int32_t radius, const IdFilter* filter, QueryStats* stats,
                                const Interrupt& interrupt) const {
    check_width("queries", queries, layout_);
    check_radius(radius);
    struct Found {
        std::vector<std::int32_t> distances;
        std::vector<std::int64_t> ids;
    };
    std::vector<Found> found(queries.n);
    const SearchTask task{queries, {kAll, radius}, stats, [&found](std::size_t q, TopK& nearest) {
                              const std::size_t n = nearest.finish();
                              found[q].distances.resize(n);
                              found[q].ids.resize(n);
                              nearest.write(found[q].distances.data(), found[q].ids.data());
                          }};
    Stopper stopper(interrupt);
    search_exact(filter, task, stopper);
    RangeResult result;
    result.offsets.push_back(0);
    for (const Found& of_query : found) {
        result.offsets.push_back(result.offsets.back() + static_cast<std::int64_t>(of_query.ids.size()));
    }
    result.distances.reserve(static_cast<std::size_t>(result.offsets.back()));
    result.ids.reserve(static_cast<std::size_t>(result.offsets.back()));
    for (Found& of_query : found) {
        result.distances.insert(result.distances.end(), of_query.distances.begin(), of_query.distances.end());
        result.ids.insert(result.ids.end(), of_query.ids.begin(), of_query.ids.end());
        of_query = {};
    }
    return result;
}

void Index::count_within(CodeView queries, std::int32_t radius, const IdFilter* filter, std::int64_t* counts,
                         const Interrupt& interrupt) const {
    check_width("queries", queries, layout_);
    check_radius(radius);
    const SearchTask task{queries, {kAll, radius, true}, nullptr, [counts](std::size_t q, TopK& nearest) {
                              counts[q] = static_cast<std::int64_t>(nearest.finish());
                          }};
    Stopper stopper(interrupt);
    search_exact(filter, task, stopper);
}

void Index::search_exact(const IdFilter* filter, const SearchTask& task, Stopper& stopper) const {
    const std::shared_ptr<const State> held = state();
    if (filter != nullptr && is_narrow(*filter, held->size())) {
        const std::shared_ptr<const Segment> allowed = filtered(held, *filter, filter->reusable());
        std::vector<SearchedSegment> segments;
        if (allowed) segments.push_back({allowed.get(), {}});
        search_segments(segments, IdOrder::any, task, stopper);
        return;
    }
    std::vector<SearchedSegment> segments;
    for (const LiveSegment& part : held->segments) segments.push_back({part.segment.get(), part.admission(filter)});
    search_segments(segments, held->ids_ascend() ? IdOrder::ascending : IdOrder::any, task, stopper);
}

std::shared_ptr<const Segment> Index::filtered(const std::shared_ptr<const State>& held, const IdFilter& filter,
                                               bool built) const {
    return filter.prepared().items_of(held, filter, layout_.n_bytes(), [&](const NewItems& items) {
        if (!built) return SlicedSegment::of({}, items).segment;
        Stopper stopper;
        return build({}, items, leading(*held), stopper).segment;
    });
}

// ---- files ----

void Index::save(const std::string& path, const Interrupt& interrupt) const {
    Stopper stopper(interrupt);
    save_index(path, layout_, settings(), *state(), stopper);
}

std::vector<std::uint8_t> Index::to_bytes(const Interrupt& interrupt) const {
    Stopper stopper(interrupt);
    return index_bytes(layout_, settings(), *state(), stopper);
}

}  // namespace fasthash
