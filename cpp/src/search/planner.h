// The planner: chooses the cheapest exact search for the codes of a segment, within its memory budget.
//
// Called when a segment is built. Costs are estimated on a sample with fixed constants (search_cost.h), so
// the same codes get the same plan on every machine.
#pragma once

#include <optional>

#include "fasthash/search.h"
#include "search/substring_search.h"

namespace fasthash {

struct PlanChoice {
    Plan plan;
    std::size_t n_substrings;
    std::size_t substring_bits;
    double cost;                      ///< of a query
    Array<std::uint8_t> centroids{};  ///< of the clusters, as rows
};

/// Choose a plan. `codes` must be stored as rows. `wanted` forces a plan, whatever it costs.
/// Throws Interrupted when `stopper` ends the work.
PlanChoice choose_plan(const SortedCodes& codes, Memory memory, std::optional<Plan> wanted, Stopper& stopper);

/// The plan for codes in a mapped file: only a prefix directory is built, without sampling, so that loading stays fast.
PlanChoice plan_of_mapped(std::size_t n_rows, std::size_t n_bytes);

/// Whether one scan for all n_queries costs less than the plan for each of them.
bool scan_pays(std::size_t n_codes, std::size_t n_bytes, std::size_t n_queries, double plan_cost);

/// Whether a search within this radius needs so many lookups that a scan costs less.
bool radius_needs_scan(const PlanChoice& choice, std::int32_t radius, std::size_t n_codes, std::size_t n_bytes);

/// Bring codes into the layout of a plan, any but clusters, and build its tables.
/// Throws Interrupted when `stopper` ends the work.
std::unique_ptr<SubstringIndex> carry_out(const PlanChoice& choice, SortedCodes codes, Memory memory, Stopper& stopper);

}  // namespace fasthash
