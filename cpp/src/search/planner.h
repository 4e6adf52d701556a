// Which plan suits some codes: weighed on a sample of them, within what the index may spend.
#pragma once

#include <optional>

#include "fasthash/search.h"
#include "search/substring_search.h"

namespace fasthash {

struct PlanChoice {
    Plan plan;
    std::size_t n_substrings;
    std::size_t substring_bits;
    double cost;  ///< of a query
};

/// `codes` are held as rows. `wanted` restricts the choice to a plan, whatever it costs.
/// Throws Interrupted when `stopper` said so.
PlanChoice choose_plan(const SortedCodes& codes, Memory memory, std::optional<Plan> wanted, Stopper& stopper);

/// For codes in a mapped file, of which nothing but a directory is made, and that at once.
PlanChoice plan_of_mapped(const SortedCodes& codes);

/// Whether many queries are better answered by one scan for all of them than by a plan of such a cost.
bool scan_pays(std::size_t n_codes, std::size_t n_bytes, std::size_t n_queries, double plan_cost);

/// Whether a search for all codes within a radius has to look up so many values that a scan costs less.
bool radius_needs_scan(const PlanChoice& choice, std::int32_t radius, std::size_t n_codes, std::size_t n_bytes);

/// Codes in the form, and with the tables, that a plan wants.
/// Throws Interrupted when `stopper` said so.
std::unique_ptr<SubstringIndex> carry_out(const PlanChoice& choice, SortedCodes codes, Memory memory, Stopper& stopper);

}  // namespace fasthash
