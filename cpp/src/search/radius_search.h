// Search within a small radius of codes that are scanned otherwise, by lookup tables of row numbers.
//
// Used by segments whose plan is a scan. A code within radius r of the query differs from it by at most r / m bits in
// at least one of m substrings (Norouzi, Punjani and Fleet, arXiv:1307.2982), so only codes with such a substring are
// compared. A search for the k nearest saves nothing if the codes are far from all others; a search within a radius
// of a few bits compares a handful of codes. Unlike SubstringTable, these tables hold no codes: 3 or 4 bytes a code
// each.
#pragma once

#include <atomic>
#include <vector>

#include "codes/byte_major_codes.h"
#include "codes/packed_numbers.h"
#include "fasthash/search.h"
#include "fasthash/topk.h"
#include "platform/fork_safe.h"
#include "search/row_entries.h"
#include "search/scan.h"

namespace fasthash {

/// The rows of all codes, once for each substring, grouped by its value.
class RadiusTables {
 public:
    struct Table {
        std::size_t first_bit;
        Array<std::uint32_t> begin;  // value v has the places begin[v] .. begin[v + 1]
        PackedNumbers rows;
    };

    explicit RadiusTables(const GroupSource& codes);

    /// Number and width of the substrings for so many codes.
    static std::size_t n_substrings(std::size_t n_rows, std::size_t n_bytes);
    static std::size_t substring_bits(std::size_t n_rows, std::size_t n_bytes);
    /// Average cost of a search. `codes_per_value`: with the substring value of a code of the gallery.
    static double cost(std::size_t n_rows, std::size_t n_bytes, std::int32_t radius, double codes_per_value);

    const std::vector<Table>& tables() const { return tables_; }
    double codes_per_value() const { return codes_per_value_; }
    std::size_t nbytes() const;

 private:
    std::vector<Table> tables_;
    double codes_per_value_ = 0;
};

/// The tables of one segment. They are built once scans within small radii have cost as much as building them takes.
class RadiusPlan {
 public:
    /// `wanted`: whether tables may be built.
    explicit RadiusPlan(bool wanted) : wanted_(wanted) {}

    /// Whether so many queries are searched by tables, not scanned. Builds the tables when it is time to.
    bool serves(const GroupSource& codes, std::size_t n_queries, const Wanted& wanted) const;
    /// Only after serves() was true.
    const RadiusTables& tables() const { return *tables_.get_if_made(); }
    std::size_t nbytes() const;

 private:
    bool wanted_;
    mutable std::atomic<std::int64_t> spent_{0};  // cost of scans that tables would have saved, in nanoseconds
    Lazy<RadiusTables> tables_;
};

/// Push all entries within the threshold of each query, which is the radius.
void search_radius(const RadiusTables& tables, const GroupSource& codes, const RowEntries& entries,
                   const QueryBlock& block, Stopper& stopper);

}  // namespace fasthash
