#include "search/radius_search.h"

#include <algorithm>
#include <cmath>

#include "codes/code_bits.h"
#include "fasthash/threads.h"
#include "platform/prefetch.h"
#include "search/search_cost.h"

namespace fasthash {
namespace {

constexpr std::size_t kMostSubstrings = 12;
constexpr double kCostOfValue = 50;   // looking up a value: its place in the directory, and the first row number
constexpr double kCostOfRow = 12;     // a code that lies anywhere: its row number, and a cache line for each byte
constexpr double kCostOfPlacing = 7;  // building: a row of a table

// Copies a row out of its group.
void copy_row(const std::uint8_t* group, std::size_t i, std::size_t n_bytes, std::uint8_t* code) {
    for (std::size_t b = 0; b < n_bytes; ++b) code[b] = group[b * kGroup + i];
}

// Number of distances from 0 on at which values of this substring are looked up, so that no code within the radius is
// missed: if all of the first r % m + 1 substrings differ by more than r / m bits, and the others by at least r / m,
// the code differs by more than r.
std::size_t n_distances(std::int32_t radius, std::size_t substring, std::size_t n_substrings) {
    const auto r = static_cast<std::size_t>(radius);
    return r / n_substrings + (substring <= r % n_substrings ? 1 : 0);
}

}  // namespace

std::size_t RadiusTables::n_substrings(std::size_t n_rows, std::size_t n_bytes) {
    const double wide = std::max(8.0, std::log2(static_cast<double>(n_rows)));
    const auto n = static_cast<std::size_t>(std::lround(static_cast<double>(n_bytes * 8) / wide));
    return std::clamp<std::size_t>(n, 1, kMostSubstrings);
}

std::size_t RadiusTables::substring_bits(std::size_t n_rows, std::size_t n_bytes) {
    // Half as many values as codes, so that the directories stay small.
    const auto bits = static_cast<std::size_t>(std::max(9.0, std::log2(static_cast<double>(n_rows)))) - 1;
    return std::min({bits, n_bytes * 8 / n_substrings(n_rows, n_bytes), kMaxSubstringBits});
}

double RadiusTables::cost(std::size_t n_rows, std::size_t n_bytes, std::int32_t radius, double codes_per_value) {
    const std::size_t m = n_substrings(n_rows, n_bytes), bits = substring_bits(n_rows, n_bytes);
    double n_values = 0;
    for (std::size_t substring = 0; substring < m; ++substring) {
        double at_distance = 1;
        for (std::size_t d = 0; d < n_distances(radius, substring, m) && d <= bits; ++d) {
            n_values += at_distance;
            at_distance = at_distance * static_cast<double>(bits - d) / static_cast<double>(d + 1);
        }
    }
    return n_values * (kCostOfValue + codes_per_value * kCostOfRow);
}

RadiusTables::RadiusTables(const GroupSource& codes) {
    const std::size_t n = codes.size(), n_bytes = codes.n_bytes(), bits = substring_bits(n, n_bytes);
    tables_.resize(n_substrings(n, n_bytes));
    std::vector<double> pairs(tables_.size());  // of equal values
    parallel_for(tables_.size(), [&](std::size_t t) {
        Table& table = tables_[t];
        table.first_bit = t * bits;
        table.rows = PackedNumbers(0, static_cast<std::int64_t>(n));
        table.rows.resize(n);
        Array<std::uint32_t> values(n);
        Array<std::uint8_t> scratch, code(n_bytes);
        for (std::size_t g = 0; g < codes.n_groups(); ++g) {
            const std::uint8_t* group = codes.groups(g, 1, scratch);
            for (std::size_t i = 0; i < kGroup && g * kGroup + i < n; ++i) {
                copy_row(group, i, n_bytes, code.data());
                values[g * kGroup + i] = code_bits(code.data(), n_bytes, table.first_bit, bits);
            }
        }
        // A counting sort by value: begin[v + 1] is the next free place of value v while rows are placed.
        const std::size_t n_values = std::size_t{1} << bits;
        table.begin.assign(n_values + 2, 0);
        for (const std::uint32_t value : values) ++table.begin[value + 2];
        for (std::size_t v = 2; v < n_values + 2; ++v) {
            pairs[t] += static_cast<double>(table.begin[v]) * static_cast<double>(table.begin[v]);
            table.begin[v] += table.begin[v - 1];
        }
        for (std::size_t row = 0; row < n; ++row) {
            table.rows.set(table.begin[values[row] + 1]++, static_cast<std::int64_t>(row));
        }
    });
    for (const double of_table : pairs) {
        codes_per_value_ += of_table / static_cast<double>(n) / static_cast<double>(tables_.size());
    }
}

std::size_t RadiusTables::nbytes() const {
    std::size_t bytes = 0;
    for (const Table& table : tables_) bytes += table.begin.nbytes() + table.rows.nbytes();
    return bytes;
}

bool RadiusPlan::serves(const GroupSource& codes, std::size_t n_queries, const Wanted& wanted) const {
    const std::size_t n = codes.size(), n_bytes = codes.n_bytes();
    if (!wanted_ || wanted.k != kAll || n == 0) return false;
    const double scan = n_queries < kFewestForScan ? cost_of_comparing(n, n_bytes)
                                                   : cost_of_byte_in_cache() * static_cast<double>(n * n_bytes);
    if (const RadiusTables* made = tables_.get_if_made()) {
        return RadiusTables::cost(n, n_bytes, wanted.radius, made->codes_per_value()) < kWorthwhile * scan;
    }
    const double uniform = static_cast<double>(n) / std::exp2(RadiusTables::substring_bits(n, n_bytes));
    const double saved = kWorthwhile * scan - RadiusTables::cost(n, n_bytes, wanted.radius, 1 + uniform);
    if (saved <= 0) return false;
    const double building =
        kCostOfPlacing * static_cast<double>(n) * static_cast<double>(RadiusTables::n_substrings(n, n_bytes));
    spent_ += static_cast<std::int64_t>(saved * static_cast<double>(n_queries));
    if (static_cast<double>(spent_) < building) return false;
    tables_.get([&] { return std::make_unique<const RadiusTables>(codes); });
    return serves(codes, n_queries, wanted);
}

std::size_t RadiusPlan::nbytes() const {
    const RadiusTables* made = tables_.get_if_made();
    return made == nullptr ? 0 : made->nbytes();
}

namespace {

// Searches one query at a time. Rows are compared some at a time, so that their codes, which lie anywhere, are fetched
// together.
class RadiusSearch {
 public:
    RadiusSearch(const RadiusTables& tables, const GroupSource& codes, const RowEntries& entries)
        : tables_(tables),
          codes_(codes),
          n_bytes_(codes.n_bytes()),
          n_bits_(RadiusTables::substring_bits(codes.size(), n_bytes_)),
          entries_(entries),
          code_(n_bytes_) {}

    QueryStats run(const std::uint8_t* query, TopK& nearest) {
        query_ = query;
        nearest_ = &nearest;
        work_ = {};
        work_.plan = Plan::multi_index;
        const std::size_t m = tables_.tables().size();
        const std::int32_t radius = nearest.threshold();
        for (substring_ = 0; substring_ < m; ++substring_) {
            const RadiusTables::Table& table = tables_.tables()[substring_];
            const std::uint32_t value = code_bits(query, n_bytes_, table.first_bit, n_bits_);
            for (std::size_t d = 0; d < n_distances(radius, substring_, m) && d <= n_bits_; ++d) {
                look_up(table, value, static_cast<unsigned>(d));
            }
            read_ranges();
        }
        return work_;
    }

 private:
    static constexpr std::size_t kTogether = 64, kFirst = 3;

    // Lists the rows of all values at this distance.
    void look_up(const RadiusTables::Table& table, std::uint32_t value, unsigned distance) {
        const std::uint64_t end = std::uint64_t{1} << n_bits_;
        for (std::uint32_t flips = (1u << distance) - 1; flips < end; flips = next_with_same_count(flips)) {
            values_[n_values_++] = value ^ flips;
            prefetch_line(table.begin.data() + (value ^ flips));
            if (n_values_ == kTogether) read_ranges();
            if (flips == 0) break;
        }
    }

    void read_ranges() {
        const RadiusTables::Table& table = tables_.tables()[substring_];
        const std::size_t first = first_byte();
        for (std::size_t i = 0; i < n_values_; ++i) {
            const std::uint32_t begin = table.begin[values_[i]], end = table.begin[values_[i] + 1];
            work_.nodes_visited += begin != end;
            if (begin != end) table.rows.prefetch(begin);
        }
        for (std::size_t i = 0; i < n_values_; ++i) {
            for (std::size_t at = table.begin[values_[i]]; at < table.begin[values_[i] + 1]; ++at) {
                const auto row = static_cast<std::size_t>(table.rows[at]);
                const std::uint8_t* byte = codes_.groups(row / kGroup, 1, scratch_) + row % kGroup;
                std::size_t b = first;
                for (std::size_t j = 0; j < kFirst; ++j, b = next_byte(b)) prefetch_line(byte + b * kGroup);
                rows_[n_rows_++] = row;
                if (n_rows_ == kTogether) compare();
            }
        }
        n_values_ = 0;
        compare();
    }

    void compare() {
        work_.codes_compared += static_cast<std::int64_t>(n_rows_);
        const std::size_t first = first_byte();
        for (std::size_t i = 0; i < n_rows_; ++i) {
            const std::uint8_t* group = codes_.groups(rows_[i] / kGroup, 1, scratch_);
            const std::int32_t largest = nearest_->largest_distance();
            if (bits_of_first(group + rows_[i] % kGroup, first) > largest) continue;
            copy_row(group, rows_[i] % kGroup, n_bytes_, code_.data());
            std::uint16_t distance = 0;
            kernels().distances(query_, code_.data(), 1, n_bytes_, 0, &distance);
            if (distance > largest || seen_before()) continue;
            entries_.push(rows_[i], distance, *nearest_);
        }
        n_rows_ = 0;
    }

    // Candidates have nearly the query's substring, so the bytes after it are the ones that differ. Each byte lies in
    // a cache line of its own.
    std::size_t first_byte() const {
        const std::size_t end = tables_.tables()[substring_].first_bit + n_bits_;
        return (end + 7) / 8 % n_bytes_;
    }
    std::int32_t bits_of_first(const std::uint8_t* byte, std::size_t b) const {
        std::uint32_t differing = 0;
        for (std::size_t i = 0; i < std::min(kFirst, n_bytes_); ++i, b = next_byte(b)) {
            differing = differing << 8 | static_cast<std::uint32_t>(byte[b * kGroup] ^ query_[b]);
        }
        return static_cast<std::int32_t>(count_bits(differing));
    }
    std::size_t next_byte(std::size_t b) const { return b + 1 == n_bytes_ ? 0 : b + 1; }

    // Whether an earlier substring has found the code, too.
    bool seen_before() const {
        const std::size_t m = tables_.tables().size();
        for (std::size_t s = 0; s < substring_; ++s) {
            const std::size_t first = tables_.tables()[s].first_bit;
            const std::uint32_t flips =
                code_bits(code_.data(), n_bytes_, first, n_bits_) ^ code_bits(query_, n_bytes_, first, n_bits_);
            if (count_bits(flips) < n_distances(nearest_->threshold(), s, m)) return true;
        }
        return false;
    }

    const RadiusTables& tables_;
    const GroupSource& codes_;
    const std::size_t n_bytes_;
    const std::size_t n_bits_;  // of a substring
    const RowEntries& entries_;
    Array<std::uint8_t> code_, scratch_;
    const std::uint8_t* query_ = nullptr;
    TopK* nearest_ = nullptr;
    QueryStats work_;
    std::size_t substring_ = 0;
    std::uint32_t values_[kTogether];
    std::size_t n_values_ = 0;
    std::size_t rows_[kTogether];
    std::size_t n_rows_ = 0;
};

}  // namespace

void search_radius(const RadiusTables& tables, const GroupSource& codes, const RowEntries& entries,
                   const QueryBlock& block, Stopper& stopper) {
    RadiusSearch search(tables, codes, entries);
    for (std::size_t q = 0; q < block.queries.n && !stopper.stopped(); ++q) {
        block.note(q, search.run(block.queries.row(q), block.nearest[q]));
    }
}

}  // namespace fasthash
