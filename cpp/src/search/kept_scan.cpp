#include "search/kept_scan.h"

#include <algorithm>
#include <numeric>

namespace fasthash {

template <typename Totals>
KeptScan<Totals>::KeptScan(const SortedCodes& codes, const LevelTree& tree, const LevelLayout& layout, bool by_level,
                           const QueryBlock& block)
    : codes_(codes),
      entries_(codes, {}),
      tree_(tree),
      layout_(layout),
      by_level_(by_level),
      block_(block),
      stride_(codes.n_bytes() * kernels().prepared_bytes),
      prepared_(block.queries.n * stride_),
      waiting_(entries_, block.nearest, block.queries.n),
      of_query_(block.queries.n) {
    for (std::size_t q = 0; q < block.queries.n; ++q) {
        kernels().prepare(block.queries.row(q), codes.n_bytes(), prepared_.data() + q * stride_);
    }
}

template <typename Totals>
void KeptScan<Totals>::run(std::vector<KeptRows> wanted, Stopper& stopper) {
    if (wanted.empty()) return;
    wanted_ = std::move(wanted);
    for (const KeptRows& each : wanted_) of_query_[each.query] = &each;
    // The nearest range of each query first: it brings the threshold down.
    for (const KeptRows& each : wanted_) take_sample(each);
    if (wanted_.size() == 1) {
        run_alone(wanted_[0], stopper);
    } else {
        run_lists(true, stopper);
        run_lists(false, stopper);
    }
    waiting_.push_all();
}

// Lowers the threshold of a query that has found fewer than k entries, to the k-th distance of a sample.
template <typename Totals>
void KeptScan<Totals>::take_sample(const KeptRows& wanted) {
    constexpr std::size_t kMost = 8;  // groups of a sample
    TopK& nearest = block_.nearest[wanted.query];
    if (nearest.has_k() || wanted.ranges.empty()) return;
    const NumberRange rows = rows_of(wanted.ranges[0]);
    const std::size_t first = rows.begin / kGroup, n = std::min((rows.end + kGroup - 1) / kGroup - first, kMost);
    if (nearest.k() > n * kGroup / 4) return;
    const std::uint8_t* groups = codes_.groups(first, n, scratch_);
    sample_.compare(prepared(wanted.query), groups, n, codes_.n_bytes());
    for (std::size_t g = 0; g < n; ++g) {
        sample_.keep(g, kept_rows(wanted.query, groups + g * kGroup * codes_.n_bytes(),
                                  rows_of_group(rows, (first + g) * kGroup)));
    }
    nearest.limit(sample_.kth_smallest(nearest.k(), nearest.threshold()));
}

// Compares a query that has no company: ranges that are close are compared in one go, with the rows between them, which
// are not kept.
template <typename Totals>
void KeptScan<Totals>::run_alone(const KeptRows& wanted, Stopper& stopper) {
    constexpr std::size_t kClose = 2 * kGroup;  // rows
    if (wanted.ranges.empty()) return;
    const NumberRange nearest = rows_of(wanted.ranges[0]);
    if (!compare(nearest, &wanted.query, 1, stopper)) return;
    NumberRange rows{0, 0};
    for (std::size_t i = 1; i < wanted.ranges.size(); ++i) {
        const NumberRange next = rows_of(wanted.ranges[i]);
        const bool nearest_between = rows.end <= nearest.begin && nearest.begin < next.begin;
        if (rows.size() > 0 && next.begin - rows.end <= kClose && !nearest_between) {
            rows.end = next.end;
            continue;
        }
        if (!compare(rows, &wanted.query, 1, stopper)) return;
        rows = next;
    }
    compare(rows, &wanted.query, 1, stopper);
}

// Compares each query with its nearest range of rows, or with all others.
template <typename Totals>
void KeptScan<Totals>::run_lists(bool nearest, Stopper& stopper) {
    const auto ranges_of = [nearest](const KeptRows& each) {
        const std::size_t n = each.ranges.size(), n_nearest = std::min<std::size_t>(n, 1);
        return nearest ? NumberRange{0, n_nearest} : NumberRange{n_nearest, n};
    };
    // A counting sort by range.
    const std::size_t n_ranges = tree_.n_ranges();
    end_of_list_.assign(n_ranges + 1, 0);
    for (const KeptRows& each : wanted_) {
        const NumberRange ranges = ranges_of(each);
        for (std::size_t i = ranges.begin; i < ranges.end; ++i) ++end_of_list_[each.ranges[i] + 1];
    }
    std::partial_sum(end_of_list_.begin(), end_of_list_.end(), end_of_list_.begin());
    lists_.resize(end_of_list_.back());
    for (const KeptRows& each : wanted_) {
        const NumberRange ranges = ranges_of(each);
        for (std::size_t i = ranges.begin; i < ranges.end; ++i) lists_[end_of_list_[each.ranges[i]]++] = each.query;
    }
    std::size_t begin = 0;
    for (std::size_t range = 0; range < n_ranges; begin = end_of_list_[range++]) {
        if (!compare(rows_of(range), lists_.data() + begin, end_of_list_[range] - begin, stopper)) return;
    }
}

template <typename Totals>
bool KeptScan<Totals>::compare(NumberRange rows, const std::uint32_t* queries, std::size_t n_queries,
                               Stopper& stopper) {
    constexpr std::size_t kCallsBetweenPolls = 16;
    if (n_queries == 0 || rows.begin >= rows.end) return true;
    rows_ = rows;
    for (std::size_t i = 0; i < n_queries; ++i) waiting_.refresh(queries[i]);
    const std::size_t per_call = groups_of_call(codes_.n_bytes());
    const std::size_t end_group = (rows.end + kGroup - 1) / kGroup;
    for (first_group_ = rows.begin / kGroup; first_group_ < end_group; first_group_ += per_call) {
        const std::size_t n = std::min(per_call, end_group - first_group_);
        groups_ = codes_.groups(first_group_, n, scratch_);
        kernels().scan_groups(
            {prepared_.data(), queries, n_queries, waiting_.thresholds(), groups_, n, codes_.n_bytes(), this});
        waiting_.settle();
        if (++n_calls_ % kCallsBetweenPolls == 0 && stopper.stopped()) return false;
    }
    return true;
}

template <typename Totals>
void KeptScan<Totals>::take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) {
    const std::size_t first_row = (first_group_ + group) * kGroup;
    const std::int32_t largest = block_.nearest[query].largest_distance(codes_.least_id(first_group_ + group));
    // Many codes may tie at the k-th distance: skip the groups whose ids are all too large to enter.
    rows &= rows_of_group(rows_, first_row);
    if (largest + 1 < waiting_.thresholds()[query]) rows &= rows_within(largest, distances);
    if (rows != 0) rows = kept_rows(query, groups_ + group * kGroup * codes_.n_bytes(), rows);
    for (; rows != 0; rows &= rows - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
        waiting_.add(query, first_row + i, distances[i]);
    }
    waiting_.refresh(query);
}

// Bit i: row i of the group is below kept nodes, and was not compared before.
template <typename Totals>
std::uint64_t KeptScan<Totals>::kept_rows(std::size_t query, const std::uint8_t* group, std::uint64_t rows) const {
    const KeptRows& wanted = *of_query_[query];
    // Dropped totals are larger than all others.
    const auto first = static_cast<typename Totals::Value>(std::min<std::size_t>(wanted.first_total, Totals::kDropped));
    constexpr int kFew = 4;  // are checked one by one in less time than a whole group
    if (__builtin_popcountll(rows) <= kFew) {
        const LevelCuts cuts{layout_, wanted.cuts.data(), wanted.cuts.size(), by_level_};
        for (std::uint64_t left = rows; left != 0; left &= left - 1) {
            const auto i = static_cast<std::size_t>(__builtin_ctzll(left));
            unsigned total;
            const bool kept = cuts.first_beyond(block_.queries.row(query), group, i, total) == cuts.n_levels;
            if (!kept || total < first) rows &= ~(std::uint64_t{1} << i);
        }
        return rows;
    }
    typename Totals::Value totals[kGroup];
    const CodeRun one_group{0, kGroup, 0};
    Totals::scan({prepared(query), group, codes_.n_bytes(), &one_group, 1, layout_, 0, wanted.cuts.size(),
                  wanted.cuts.data(), by_level_},
                 totals);
    std::uint8_t kept[kGroup];  // compilers turn this loop into vectors
    for (std::size_t i = 0; i < kGroup; ++i) {
        kept[i] = static_cast<std::uint8_t>((totals[i] >= first) & (totals[i] < Totals::kDropped));
    }
    return rows & bits_of(kept);
}

template class KeptScan<NarrowTotals>;
template class KeptScan<WideTotals>;

}  // namespace fasthash
