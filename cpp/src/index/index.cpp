#include "fasthash/index.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "codes/id_map.h"
#include "codes/padding.h"
#include "fasthash/error.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "fasthash/ids.h"
#include "index/index_impl.h"
#include "platform/array.h"

namespace fasthash {
namespace {

void check_radius(std::int32_t radius) {
    if (radius < 0) throw ArgumentError("radius must be at least 0, got " + std::to_string(radius));
}

// The codes of a change, checked. Codes with padding are copied first: the caller's memory may change until the index
// holds them, and padding that is not zero would be counted as distance.
CodeView checked_codes(CodeView codes, const LevelLayout& layout, Array<std::uint8_t>& copy) {
    if (layout.n_bits() % 8 != 0) {
        copy.append(codes.data, codes.n * codes.n_bytes);
        codes.data = copy.data();
    }
    check_codes("codes", codes, layout);
    return codes;
}

}  // namespace

void check_codes(const char* name, const CodeView& codes, const LevelLayout& layout) {
    if (codes.n_bytes != layout.n_bytes()) {
        throw ArgumentError(std::string(name) + " must be " + std::to_string(layout.n_bytes()) + " bytes wide for " +
                            std::to_string(layout.n_bits()) + " bits, got " + std::to_string(codes.n_bytes) + " bytes");
    }
    check_padding(name, codes, layout.n_bits());
}

Index::Index(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Index::~Index() = default;

std::unique_ptr<Index> Index::of(std::unique_ptr<Impl> impl) {
    if (impl->settings.kind == IndexKind::flat) return std::unique_ptr<Index>(new FlatIndex(std::move(impl)));
    return std::unique_ptr<Index>(new HierIndex(std::move(impl)));
}

IndexKind Index::kind() const { return impl_->settings.kind; }

Metric Index::metric() const { return impl_->settings.metric; }

const LevelLayout& Index::layout() const { return impl_->layout; }

std::size_t Index::size() const { return impl_->state.get()->size(); }

std::size_t Index::nbytes() const {
    std::size_t bytes = 0;
    const std::shared_ptr<const State> held = impl_->state.get();
    for (const LiveSegment& each : held->segments) bytes += each.segment->nbytes() + each.live.nbytes();
    return bytes;
}

std::size_t Index::mapped_bytes() const {
    std::size_t bytes = 0;
    const std::shared_ptr<const State> held = impl_->state.get();
    for (const LiveSegment& each : held->segments) bytes += each.segment->mapped_bytes();
    return bytes;
}

std::size_t Index::n_segments() const { return impl_->state.get()->segments.size(); }

std::size_t Index::n_removed() const {
    std::size_t n = 0;
    const std::shared_ptr<const State> held = impl_->state.get();
    for (const LiveSegment& each : held->segments) n += each.segment->n_entries() - each.n_live;
    return n;
}

// ---- changes ----

void Index::add(CodeView codes, const std::int64_t* ids, const Interrupt& interrupt) {
    Array<std::uint8_t> copy;
    impl_->add("add", checked_codes(codes, layout(), copy), ids, interrupt);
}

void Index::remove(const std::int64_t* ids, std::size_t n, const Interrupt& interrupt) {
    if (n == 0) return;
    Stopper stopper(interrupt);
    const ForkSafeLock lock(impl_->writer, {"remove"}, &stopper);
    auto next = std::make_shared<State>(*impl_->state.get());
    impl_->remove(*next, given_ids(ids, n).data(), n, stopper);
    impl_->state.set(std::move(next));
}

void Index::update(const std::int64_t* ids, CodeView codes, const Interrupt& interrupt) {
    Array<std::uint8_t> copy;
    codes = checked_codes(codes, layout(), copy);
    if (codes.n == 0) return;
    Stopper stopper(interrupt);
    const ForkSafeLock lock(impl_->writer, {"update"}, &stopper);
    auto next = std::make_shared<State>(*impl_->state.get());
    const std::vector<std::int64_t> copied = given_ids(ids, codes.n);
    impl_->remove(*next, copied.data(), codes.n, stopper);
    impl_->append(*next, codes, copied.data(), stopper);
    impl_->state.set(std::move(next));
}

void Index::merge(const Index& other, const Interrupt& interrupt) {
    if (other.layout().level_bits() != layout().level_bits()) {
        throw ArgumentError("other must have levels of " + layout().str() + " bits, has " + other.layout().str());
    }
    if (other.metric() != metric()) {
        const auto name = [](Metric metric) { return metric == Metric::hamming ? "hamming" : "jaccard"; };
        throw ArgumentError(std::string("other must have the metric ") + name(metric()) + ", has " +
                            name(other.metric()));
    }
    const Export entries = other.export_entries();
    impl_->add("merge", {entries.codes.data(), entries.ids.size(), layout().n_bytes()}, entries.ids.data(), interrupt);
}

void Index::compact(const Interrupt& interrupt) {
    Stopper stopper(interrupt);
    const ForkSafeLock lock(impl_->writer, {"compact"}, &stopper);
    const std::shared_ptr<const State> held = impl_->state.get();
    if (!held->is_compact()) impl_->state.set(impl_->in_one_segment(*held, stopper));
}

void Index::clear(const Interrupt& interrupt) {
    Stopper stopper(interrupt);
    const ForkSafeLock lock(impl_->writer, {"clear"}, &stopper);
    impl_->state.set(std::make_shared<const State>());
}

// ---- looking up ----

bool Index::contains(std::int64_t id) const { return impl_->state.get()->find(id).found(); }

void Index::build_id_map() const {
    const std::shared_ptr<const State> held = impl_->state.get();
    for (const LiveSegment& each : held->segments) each.segment->build_id_map();
}

std::uint64_t Index::next_id() const { return impl_->state.get()->next_id; }

void Index::reconstruct(const std::int64_t* ids, std::size_t n, std::uint8_t* codes, const Interrupt& interrupt) const {
    constexpr std::size_t kUntilPoll = 4096;
    Stopper stopper(interrupt);
    const std::shared_ptr<const State> held = impl_->state.get();
    for (std::size_t i = 0; i < n; i += kUntilPoll) {
        const std::vector<Place> places = held->find_all(ids + i, std::min(kUntilPoll, n - i));
        for (const Place& place : places) {
            held->segments[place.segment].segment->copy_codes(&place.entry, 1, codes);
            codes += layout().n_bytes();
        }
        stopper.check();
    }
}

std::shared_ptr<const State> Index::state() const { return impl_->state.get(); }

std::shared_ptr<const State> Index::state_of(const IdFilter& filter) const {
    auto allowed = std::make_shared<State>();
    if (auto entries = impl_->filtered(impl_->state.get(), filter, true)) allowed->segments.emplace_back(entries);
    return allowed;
}

Export Index::export_entries() const {
    const std::shared_ptr<const State> held = impl_->state.get();
    const std::size_t n_bytes = layout().n_bytes();
    Entries entries;
    for (const LiveSegment& each : held->segments) entries.append(each, n_bytes);
    const Array<std::uint32_t> order = order_of_ids(IdArray(entries.ids.data(), entries.n()));
    Export sorted{std::vector<std::uint8_t>(entries.codes.size()), std::vector<std::int64_t>(entries.n())};
    for (std::size_t i = 0; i < order.size(); ++i) {
        std::memcpy(sorted.codes.data() + i * n_bytes, entries.codes.data() + order[i] * n_bytes, n_bytes);
        sorted.ids[i] = entries.ids[order[i]];
    }
    return sorted;
}

std::unique_ptr<Index> Index::copy() const {
    return of(std::make_unique<Impl>(layout(), impl_->settings, impl_->state.get()));
}

std::unique_ptr<Index> Index::copy_to_prune(const Interrupt& interrupt) const {
    if (kind() == IndexKind::flat || layout().n_levels() == 1) return copy();
    Stopper stopper(interrupt);
    return of(std::make_unique<Impl>(layout(), impl_->settings, impl_->compacted(stopper)));
}

// ---- searching ----

namespace {

// A search for the k nearest, written to rows of k distances and ids.
SearchTask nearest_task(CodeView queries, std::size_t n_bits, std::size_t k, std::int32_t* distances, std::int64_t* ids,
                        QueryStats* stats) {
    if (k < 1) throw ArgumentError("k must be at least 1, got 0");
    const auto no_distance = static_cast<std::int32_t>(n_bits) + 1;
    return {queries, {k}, stats, [=](std::size_t q, TopK& nearest) {
                const std::size_t n = nearest.size();
                nearest.write(distances + q * k, ids + q * k);
                std::fill(distances + q * k + n, distances + (q + 1) * k, no_distance);
                std::fill(ids + q * k + n, ids + (q + 1) * k, kNoId);
            }};
}

void check_share(const char* name, double share) {
    if (share > 0 && share <= 1) return;
    throw ArgumentError(std::string(name) + " must be above 0 and at most 1, got " + shown(share));
}

}  // namespace

void Index::search(CodeView queries, std::size_t k, const std::optional<Pruning>& pruning, const IdFilter* filter,
                   std::int32_t* distances, std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt) const {
    check_metric(Metric::hamming);
    check_codes("queries", queries, layout());
    if (pruning) check_share("keep", pruning->keep);
    const SearchTask task = nearest_task(queries, layout().n_bits(), k, distances, ids, stats);
    Stopper stopper(interrupt);
    if (pruning) {
        impl_->search_pruned(*pruning, filter, task, stopper);
    } else {
        impl_->search_exact(filter, task, stopper);
    }
}

void Index::search_share(CodeView queries, std::size_t k, double share, const IdFilter* filter, std::int32_t* distances,
                         std::int64_t* ids, QueryStats* stats, const Interrupt& interrupt) const {
    check_metric(Metric::hamming);
    check_codes("queries", queries, layout());
    check_share("max_compared", share);
    SearchTask task = nearest_task(queries, layout().n_bits(), k, distances, ids, stats);
    task.share = share;
    Stopper stopper(interrupt);
    impl_->search_exact(filter, task, stopper);
}

RangeResult Index::range_search(CodeView queries, std::int32_t radius, const IdFilter* filter, QueryStats* stats,
                                const Interrupt& interrupt) const {
    check_metric(Metric::hamming);
    check_codes("queries", queries, layout());
    check_radius(radius);
    std::vector<FoundWithin<std::int32_t>> found(queries.n);
    const SearchTask task{queries, {kAll, radius}, stats, [&found](std::size_t q, TopK& nearest) {
                              const std::size_t n = nearest.size();
                              found[q].resize(n);
                              nearest.write(found[q].distances.data(), found[q].ids.data());
                          }};
    Stopper stopper(interrupt);
    impl_->search_exact(filter, task, stopper);
    return put_together(std::move(found));
}

void Index::count_within(CodeView queries, std::int32_t radius, const IdFilter* filter, std::int64_t* counts,
                         const Interrupt& interrupt) const {
    check_metric(Metric::hamming);
    check_codes("queries", queries, layout());
    check_radius(radius);
    const SearchTask task{queries, {kAll, radius, true}, nullptr, [counts](std::size_t q, TopK& nearest) {
                              counts[q] = static_cast<std::int64_t>(nearest.size());
                          }};
    Stopper stopper(interrupt);
    impl_->search_exact(filter, task, stopper);
}

// ---- files ----

void Index::save(const std::string& path, const Interrupt& interrupt, bool id_map, bool summary) const {
    Stopper stopper(interrupt);
    save_index(path, layout(), impl_->settings, *impl_->to_save(summary, stopper), {id_map, summary}, stopper);
}

std::vector<std::uint8_t> Index::to_bytes(const Interrupt& interrupt, bool id_map, bool summary) const {
    Stopper stopper(interrupt);
    return index_bytes(layout(), impl_->settings, *impl_->to_save(summary, stopper), {id_map, summary}, stopper);
}

std::unique_ptr<Index> load_index(const std::string& path, bool mapped, bool check) {
    IndexContent content = read_index(path, mapped, check ? FileChecks::all : FileChecks::structure);
    return Index::of(std::make_unique<Index::Impl>(content.layout, content.settings, std::move(content.state)));
}

std::unique_ptr<Index> index_from_bytes(const std::uint8_t* data, std::size_t n) {
    IndexContent content = read_index(data, n);
    return Index::of(std::make_unique<Index::Impl>(content.layout, content.settings, std::move(content.state)));
}

}  // namespace fasthash
