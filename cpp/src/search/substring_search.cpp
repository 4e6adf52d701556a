#include "search/substring_search.h"

#include <algorithm>

#include "codes/code_bits.h"
#include "platform/prefetch.h"

namespace fasthash {

SubstringTable make_substring_table(const SortedCodes& sorted, std::size_t first_bit, std::size_t n_bits,
                                    Stopper& stopper) {
    const std::size_t n = sorted.n_rows(), n_bytes = sorted.n_bytes();
    const std::uint8_t* codes = sorted.tails();
    const auto value_of = [&](std::size_t row) { return code_bits(codes + row * n_bytes, n_bytes, first_bit, n_bits); };
    SubstringTable table{
        first_bit, {}, Array<std::uint8_t>(n * n_bytes), PackedNumbers(0, static_cast<std::int64_t>(n))};
    table.rows.resize(n);
    // begin[v + 1] is the next free slot of bucket v while rows are placed, and the first slot of bucket v + 1
    // afterwards.
    const std::size_t n_values = std::size_t{1} << n_bits;
    table.begin.assign(n_values + 2, 0);
    const auto between = [&stopper](std::size_t row) {
        if (row % 65536 == 0) stopper.check();
    };
    for (std::size_t row = 0; row < n; ++row) {
        between(row);
        ++table.begin[value_of(row) + 2];
    }
    for (std::size_t value = 2; value < n_values + 2; ++value) table.begin[value] += table.begin[value - 1];
    for (std::size_t row = 0; row < n; ++row) {
        between(row);
        const std::size_t slot = table.begin[value_of(row) + 1]++;
        std::memcpy(table.codes.data() + slot * n_bytes, codes + row * n_bytes, n_bytes);
        table.rows.set(slot, static_cast<std::int64_t>(row));
    }
    return table;
}

std::size_t SubstringIndex::nbytes() const {
    std::size_t bytes = sorted.nbytes();
    for (const SubstringTable& table : tables) bytes += table.nbytes();
    return bytes;
}

SubstringSearch::SubstringSearch(const SubstringIndex& index, Visibility visibility)
    : index_(index),
      entries_(index.sorted, visibility),
      costs_(reading_costs(static_cast<double>(index.nbytes()))),
      query_substrings_(index.n_substrings()),
      n_visited_(index.n_substrings()) {}

QueryStats SubstringSearch::run(const std::uint8_t* query, TopK& nearest) {
    query_ = query;
    nearest_ = &nearest;
    stats_ = {};
    cost_ = kCostOfQuery;
    const std::size_t n_pushed = std::min(nearest.k(), index_.sorted.n_rows());  // by any search
    most_cost_ = give_up_cost(index_.sorted.n_rows(), index_.sorted.n_bytes()) +
                 (kCostOfHit + costs_.push) * static_cast<double>(n_pushed);
    const std::size_t n_substrings = index_.n_substrings(), n_bits = index_.n_bits(), n_bytes = index_.sorted.n_bytes();
    for (std::size_t substring = 0; substring < n_substrings; ++substring) {
        const std::size_t first_bit = substring == 0 ? 0 : index_.tables[substring - 1].first_bit;
        query_substrings_[substring] = code_bits(query, n_bytes, first_bit, n_bits);
        n_visited_[substring] = 0;
    }
    double probes = 1;  // binomial(n_bits, distance): values of a substring at that distance
    for (unsigned distance = 0; distance <= n_bits; ++distance) {
        for (std::size_t substring = 0; substring < n_substrings; ++substring) {
            if (too_dear(probes * kCostOfProbe)) {
                scan_all();
                return stats_;
            }
            visit(substring, distance);
            ++n_visited_[substring];
            // All codes up to and including the k-th distance have been found.
            if (nearest.threshold() <= static_cast<std::int32_t>(n_substrings * distance + substring)) return stats_;
        }
        probes = probes * static_cast<double>(n_bits - distance) / (distance + 1);
    }
    return stats_;
}

void SubstringSearch::visit(std::size_t substring, unsigned distance) {
    substring_ = substring;
    prefix_distance_ = index_.sorted.n_dropped() > 0 ? static_cast<std::int32_t>(distance) : 0;
    const std::size_t width = index_.sorted.tail_bytes();
    const std::uint8_t* codes = substring == 0 ? index_.sorted.tails() : index_.tables[substring - 1].codes.data();
    const std::uint32_t* begin =
        substring == 0 ? index_.sorted.directory().begin.data() : index_.tables[substring - 1].begin.data();
    const std::uint32_t value = query_substrings_[substring];
    const std::uint64_t end = std::uint64_t{1} << index_.n_bits();
    std::size_t n_probes = 0;
    for (std::uint32_t flips = (1u << distance) - 1; flips < end; flips = next_with_same_count(flips)) {
        ++n_probes;
        const RowRange range{begin[value ^ flips], begin[(value ^ flips) + 1]};
        if (range.begin != range.end) {
            prefetch_line(codes + range.begin * width);
            ranges_[n_ranges_++] = range;
            if (n_ranges_ == kRanges) read_ranges();
        }
        if (flips == 0) break;
    }
    read_ranges();
    cost_ += kCostOfProbe * static_cast<double>(n_probes);
}

// Rows without their prefix bytes cannot be scanned as one range, so their search never falls back.
bool SubstringSearch::too_dear(double more) const {
    return index_.sorted.n_dropped() == 0 && cost_ + more > most_cost_;
}

void SubstringSearch::read_ranges() {
    if (n_ranges_ == 0 || row_threshold() < 0) {
        n_ranges_ = 0;
        return;
    }
    const SortedCodes& sorted = index_.sorted;
    const std::uint8_t* codes = substring_ == 0 ? sorted.tails() : index_.tables[substring_ - 1].codes.data();
    const std::size_t width = sorted.tail_bytes();
    std::size_t n_codes = 0;
    for (std::size_t i = 0; i < n_ranges_; ++i) n_codes += ranges_[i].end - ranges_[i].begin;
    stats_.nodes_visited += static_cast<std::int64_t>(n_ranges_);
    stats_.codes_compared += static_cast<std::int64_t>(n_codes);
    cost_ += costs_.bucket * static_cast<double>(n_ranges_) + costs_.bucket_byte * static_cast<double>(n_codes * width);
    kernels().scan_rows(query_ + sorted.n_dropped(), codes, width, ranges_, n_ranges_, row_threshold(), *this);
    n_ranges_ = 0;
}

void SubstringSearch::scan_all() {
    constexpr std::size_t kTogether = 64;  // groups
    stats_.gave_up = true;
    substring_ = 0;
    prefix_distance_ = 0;
    const SortedCodes& sorted = index_.sorted;
    const std::int64_t n_visited = stats_.nodes_visited;
    for (std::size_t first = 0; first < sorted.n_groups(); first += kTogether) {
        const std::size_t end = std::min(first + kTogether, sorted.n_groups());
        // Very many codes may lie at the threshold's distance. Groups whose ids are all too large to enter there are
        // read only up to the distance below it. Both values belong to the same moment (see topk.h).
        const std::int32_t threshold = nearest_->threshold();
        std::int32_t largest[kTogether];
        for (std::size_t group = first; group < end; ++group) {
            largest[group - first] = nearest_->largest_distance(sorted.least_id(group));
        }
        for (const std::int32_t farthest : {threshold, threshold - 1}) {
            for (std::size_t group = first; group < end; ++group) {
                if (largest[group - first] != farthest) continue;
                const auto begin_row = static_cast<std::uint32_t>(group * kGroup);
                const auto end_row = static_cast<std::uint32_t>(std::min((group + 1) * kGroup, sorted.n_rows()));
                if (n_ranges_ > 0 && ranges_[n_ranges_ - 1].end == begin_row) {
                    ranges_[n_ranges_ - 1].end = end_row;
                } else {
                    ranges_[n_ranges_++] = {begin_row, end_row};
                }
            }
            farthest_ = farthest;
            read_ranges();
        }
    }
    farthest_ = INT32_MAX;
    stats_.nodes_visited = n_visited;
}

std::int32_t SubstringSearch::row_threshold() const {
    return std::min(nearest_->largest_distance(), farthest_) - prefix_distance_;
}

// Whether an earlier visit has compared this code: it then comes up again in each further substring that is near
// enough.
bool SubstringSearch::seen_before(const std::uint8_t* code) const {
    const std::size_t n_bits = index_.n_bits(), n_bytes = index_.sorted.n_bytes();
    for (std::size_t substring = 0; substring < query_substrings_.size(); ++substring) {
        const std::size_t first_bit = substring == 0 ? 0 : index_.tables[substring - 1].first_bit;
        const std::uint32_t flips = code_bits(code, n_bytes, first_bit, n_bits) ^ query_substrings_[substring];
        if (count_bits(flips) < n_visited_[substring]) return true;
    }
    return false;
}

// The ids of hits that a table found lie far apart in memory, so all are prefetched before the first is read. Those of
// the first substring lie together.
std::int32_t SubstringSearch::take(const RowHit* hits, std::size_t n) {
    const SortedCodes& sorted = index_.sorted;
    const SubstringTable* table = substring_ == 0 ? nullptr : &index_.tables[substring_ - 1];
    const std::uint8_t* codes = table == nullptr ? sorted.tails() : table->codes.data();
    const bool may_come_again = !index_.tables.empty() || stats_.gave_up;
    const std::int32_t nearest_of_all = std::min(row_threshold(), kth_distance(hits, n));
    RowHit wanted[kMostHits];
    std::size_t n_wanted = 0;
    for (std::size_t i = 0; i < n; ++i) {
        if (hits[i].distance > nearest_of_all) continue;
        if (may_come_again && seen_before(codes + hits[i].row * sorted.tail_bytes())) continue;
        if (table != nullptr) table->rows.prefetch(hits[i].row);
        wanted[n_wanted++] = hits[i];
    }
    cost_ += kCostOfHit * static_cast<double>(n) + costs_.push * static_cast<double>(n_wanted);
    for (std::size_t i = 0; table != nullptr && i < n_wanted; ++i) {
        wanted[i].row = static_cast<std::uint32_t>(table->rows[wanted[i].row]);
        sorted.prefetch(wanted[i].row);
    }
    for (std::size_t i = 0; i < n_wanted; ++i)
        entries_.push(wanted[i].row, wanted[i].distance + prefix_distance_, *nearest_);
    return row_threshold();
}

// The k-th smallest distance among these hits, an upper limit of the final threshold. Saves most of the work before the
// first k entries have been found.
std::int32_t SubstringSearch::kth_distance(const RowHit* hits, std::size_t n) const {
    if (entries_.restricted() || n <= nearest_->k() ||
        nearest_->threshold() < static_cast<std::int32_t>(index_.sorted.n_bytes() * 8))
        return INT32_MAX;
    std::int32_t distances[kMostHits];
    for (std::size_t i = 0; i < n; ++i) distances[i] = hits[i].distance;
    std::int32_t* last = distances + nearest_->k() - 1;
    std::nth_element(distances, last, distances + n);
    return *last;
}

}  // namespace fasthash
