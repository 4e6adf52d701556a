// Searches of an index by Jaccard distance.
#include <cmath>
#include <limits>
#include <string>

#include "fasthash/error.h"
#include "fasthash/ids.h"
#include "fasthash/index.h"
#include "index/index_impl.h"

namespace fasthash {
namespace {

constexpr JaccardDistance kLargest{1, 1};

JaccardDistance checked_radius(double radius, const LevelLayout& layout) {
    if (!(radius >= 0)) {  // also NaN
        throw ArgumentError("radius must be at least 0, got " + shown(radius));
    }
    return radius >= 1 ? kLargest : JaccardDistance::largest_within(static_cast<float>(radius), layout.n_bits());
}

}  // namespace

void Index::check_metric(Metric wanted) const {
    if (metric() == wanted) return;
    throw ArgumentError(wanted == Metric::hamming
                            ? "index measures Jaccard distance; this search needs one with the metric hamming"
                            : "index measures Hamming distance; this search needs one with the metric jaccard");
}

void Index::search_jaccard(CodeView queries, std::size_t k, const IdFilter* filter, float* distances, std::int64_t* ids,
                           QueryStats* stats, const Interrupt& interrupt) const {
    check_metric(Metric::jaccard);
    check_codes("queries", queries, layout());
    if (k < 1) throw ArgumentError("k must be at least 1, got 0");
    const JaccardTask task{queries, k, kLargest, false, stats, [=](std::size_t q, JaccardTopK& nearest) {
                               const std::size_t n = nearest.size();
                               nearest.write(distances + q * k, ids + q * k);
                               std::fill(distances + q * k + n, distances + (q + 1) * k,
                                         std::numeric_limits<float>::infinity());
                               std::fill(ids + q * k + n, ids + (q + 1) * k, kNoId);
                           }};
    Stopper stopper(interrupt);
    impl_->search_jaccard(filter, task, stopper);
}

JaccardRangeResult Index::range_search_jaccard(CodeView queries, double radius, const IdFilter* filter,
                                               QueryStats* stats, const Interrupt& interrupt) const {
    check_metric(Metric::jaccard);
    check_codes("queries", queries, layout());
    std::vector<FoundWithin<float>> found(queries.n);
    const JaccardTask task{
        queries, kAll, checked_radius(radius, layout()), false, stats, [&found](std::size_t q, JaccardTopK& nearest) {
            found[q].resize(nearest.size());
            nearest.write(found[q].distances.data(), found[q].ids.data());
        }};
    Stopper stopper(interrupt);
    impl_->search_jaccard(filter, task, stopper);
    return put_together(std::move(found));
}

void Index::count_within_jaccard(CodeView queries, double radius, const IdFilter* filter, std::int64_t* counts,
                                 const Interrupt& interrupt) const {
    check_metric(Metric::jaccard);
    check_codes("queries", queries, layout());
    const JaccardTask task{
        queries, kAll, checked_radius(radius, layout()), true, nullptr, [counts](std::size_t q, JaccardTopK& nearest) {
            counts[q] = static_cast<std::int64_t>(nearest.size());
        }};
    Stopper stopper(interrupt);
    impl_->search_jaccard(filter, task, stopper);
}

}  // namespace fasthash
