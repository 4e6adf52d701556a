#include "search/scan.h"

#include <algorithm>
#include <numeric>

#include "search/safe_cuts.h"

namespace fasthash {
namespace {

// Number of groups in a sample: all if the codes are few; otherwise about as many as balance the time to count the
// sample against the time to push codes that it does not exclude. 0 if k is too large for a sample to be of use.
std::size_t sample_size(std::size_t n_groups, std::size_t k) {
    constexpr std::size_t kWhole = 16, kMost = 1024;
    if (k >= n_groups * kGroup / 4) return 0;
    return n_groups <= kWhole ? n_groups : std::min({std::max(kWhole, k), kMost, n_groups});
}

// Number of dropped codes after which a pruned search is left to the tree. Within 0.3 of the bits of a million learned
// codes, 99 % of the queries met fewer; queries that found fewer than k kept codes met hundreds of thousands.
std::size_t most_dropped(std::size_t n_codes, std::size_t k) {
    constexpr std::size_t kMost = 1024, kForEach = 4;
    return std::min(kMost, n_codes / 64) + kForEach * std::min(k, n_codes);
}

}  // namespace

BlockScan::BlockScan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block)
    : codes_(codes),
      entries_(entries),
      queries_(block.queries),
      nearest_(block.nearest),
      safe_cuts_(block.safe_cuts),
      most_dropped_(most_dropped(codes.size(), queries_.n > 0 ? nearest_[0].k() : 0)),
      n_dropped_(safe_cuts_ != nullptr ? queries_.n : 0),
      all_(queries_.n),
      stride_(codes.n_bytes() * kernels().prepared_bytes),
      prepared_(queries_.n * stride_),
      waiting_(entries, block.nearest, queries_.n) {
    std::iota(all_.begin(), all_.end(), 0u);
    for (std::size_t q = 0; q < queries_.n; ++q) {
        kernels().prepare(queries_.row(q), codes_.n_bytes(), prepared_.data() + q * stride_);
    }
}

void BlockScan::run(NumberRange rows, const std::vector<std::uint32_t>& queries, Stopper& stopper) {
    if (rows.begin >= rows.end) return;
    rows_ = rows;
    const NumberRange groups{rows.begin / kGroup, (rows.end + kGroup - 1) / kGroup};
    const std::size_t n_sampled = take_sample(groups, queries, stopper);
    compare({groups.begin + n_sampled, groups.end}, queries, stopper);
}

void BlockScan::compare(NumberRange groups, const std::vector<std::uint32_t>& queries, Stopper& stopper) {
    for (const std::uint32_t query : queries) waiting_.refresh(query);
    const std::size_t per_call = groups_of_call(queries_.n_bytes);
    std::size_t n_calls = 0;
    for (first_group_ = groups.begin; first_group_ < groups.end; first_group_ += per_call) {
        const std::size_t n = std::min(per_call, groups.end - first_group_);
        groups_ = codes_.groups(first_group_, n, scratch_);
        kernels().scan_groups({prepared_.data(), queries.data(), queries.size(), waiting_.thresholds(), groups_, n,
                               queries_.n_bytes, this});
        waiting_.settle();
        if (++n_calls % 16 == 0 && stopper.stopped()) return;
    }
}

// Compares all queries with the first groups. For a query that has found fewer than k entries so far, all distances are
// computed first, and the threshold is lowered to the k-th of them: of the pairs pushed until a threshold falls by
// itself, nearly all fall out again. Returns the number of groups.
std::size_t BlockScan::take_sample(NumberRange groups, const std::vector<std::uint32_t>& queries, Stopper& stopper) {
    const std::size_t k = nearest_[0].k(), n = sample_size(groups.size(), k);
    if (n == 0 || entries_.restricted() || (safe_cuts_ != nullptr && queries_.n_bytes > kMostPartBytes)) return 0;
    without_sample_.clear();
    with_sample_.clear();
    for (const std::uint32_t query : queries) (needs_sample(query) ? with_sample_ : without_sample_).push_back(query);
    if (with_sample_.empty()) return 0;
    if (!without_sample_.empty()) compare({groups.begin, groups.begin + n}, without_sample_, stopper);
    const std::uint8_t* codes = codes_.groups(groups.begin, n, scratch_);
    for (const std::uint32_t query : with_sample_) {
        TopK& nearest = nearest_[query];
        const std::uint8_t* prepared = prepared_.data() + query * stride_;
        if (safe_cuts_ == nullptr) {
            sample_.compare(prepared, codes, n, queries_.n_bytes);
        } else {
            const SafeCuts::Parts parts = safe_cuts_->parts(query);
            sample_.compare(prepared, codes, n, queries_.n_bytes, parts.parts, parts.n_parts, parts.by_part);
        }
        sample_.keep(0, rows_of_group(rows_, groups.begin * kGroup));
        sample_.keep(n - 1, rows_of_group(rows_, (groups.begin + n - 1) * kGroup));
        // Rows of unknown fate count too: one that is within the limit lowers it below itself in the next loop.
        nearest.limit(sample_.kth_smallest(k, nearest.threshold()));
        sample_.each(nearest.threshold(), [&](std::size_t place, std::int32_t distance) {
            const std::uint8_t* group = codes + place / kGroup * kGroup * queries_.n_bytes;
            if (safe_cuts_ != nullptr && !is_kept(query, group, place % kGroup, distance)) return;
            const std::size_t row = groups.begin * kGroup + place;
            if (waiting_.counted()) {
                waiting_.add(query, row, distance);
            } else {
                entries_.push(row, distance, nearest);  // rows with many entries lower the threshold at once
            }
        });
    }
    return n;
}

// Whether the pruned search keeps code i of a group for certain. If its fate is unknown, the query ends before it. It
// ends too after many dropped codes: they do not bring the threshold down, and a query whose cuts keep few codes would
// look at those of the whole gallery.
bool BlockScan::is_kept(std::size_t query, const std::uint8_t* group, std::size_t i, std::int32_t distance) {
    if (distance <= safe_cuts_->radius(query)) return true;
    const Fate fate = safe_cuts_->fate(query, queries_.row(query), group, i);
    if (fate == Fate::unknown) nearest_[query].limit(distance - 1);
    if (fate == Fate::dropped && ++n_dropped_[query] > most_dropped_) nearest_[query].limit(-1);
    return fate == Fate::kept;
}

void BlockScan::take(std::size_t query, std::size_t group, std::uint64_t rows, const std::uint16_t* distances) {
    group += first_group_;
    const std::size_t first_row = group * kGroup;
    rows &= entries_.wanted_rows(group) & rows_of_group(rows_, first_row);
    const std::int32_t largest = nearest_[query].largest_distance(entries_.least_id(group));
    // Very many codes may tie at the k-th distance: skip the groups whose ids are all too large to enter.
    if (largest + 1 < waiting_.thresholds()[query]) rows &= rows_within(largest, distances);
    const std::uint8_t* codes = groups_ + (group - first_group_) * kGroup * queries_.n_bytes;
    for (; rows != 0; rows &= rows - 1) {
        const auto i = static_cast<std::size_t>(__builtin_ctzll(rows));
        if (safe_cuts_ != nullptr && !is_kept(query, codes, i, distances[i])) continue;
        waiting_.add(query, first_row + i, distances[i]);
    }
    waiting_.refresh(query);
}

void QueryBlock::note(std::size_t q, const QueryStats& work) const {
    if (stats == nullptr) return;
    if (leads) {
        stats[q].plan = work.plan;
        stats[q].gave_up = work.gave_up;
    }
    stats[q].nodes_visited += work.nodes_visited;
    stats[q].codes_compared += work.codes_compared;
    stats[q].exact_to = std::min(stats[q].exact_to, work.exact_to);
}

void scan(const GroupSource& codes, const RowEntries& entries, const QueryBlock& block, NumberRange groups,
          Stopper& stopper) {
    const NumberRange rows{std::min(groups.begin * kGroup, codes.size()), std::min(groups.end * kGroup, codes.size())};
    BlockScan search(codes, entries, block);
    search.run(rows, stopper);
    search.finish();
    QueryStats work;
    work.codes_compared = static_cast<std::int64_t>(rows.size());
    for (std::size_t q = 0; q < block.queries.n; ++q) block.note(q, work);
}

std::size_t most_queries_at_once(std::size_t n_bytes, const Wanted& wanted) {
    constexpr std::size_t kMost = 512, kBytesOfQueries = 256 * 1024, kBytesOfResults = 1024 * 1024;
    const std::size_t by_queries = kBytesOfQueries / (n_bytes * kernels().prepared_bytes);
    const std::size_t by_results = wanted.k == kAll ? kMost : kBytesOfResults / 32 / std::max<std::size_t>(wanted.k, 1);
    return std::clamp<std::size_t>(std::min(by_queries, std::max<std::size_t>(by_results, 16)), 1, kMost);
}

}  // namespace fasthash
