// Which plan suits some codes: weighed on a sample of them, within what the index may spend.
#pragma once

#include <optional>

#include "fasthash/hier_index.h"
#include "part_search.h"

namespace fasthash {

struct PlanChoice {
    Plan plan;
    std::size_t n_parts;
    std::size_t part_bits;
    double cost;  ///< of a query
};

/// `codes` are held as rows. `wanted` restricts the choice to a plan, whatever it costs.
PlanChoice choose_plan(const SortedCodes& codes, Memory memory, std::optional<Plan> wanted);

/// Whether many queries are better answered by one scan for all of them than by a plan of such a cost.
bool scan_pays(std::size_t n_codes, std::size_t n_bytes, std::size_t n_queries, double plan_cost);

/// Codes in the form, and with the tables, that a plan wants.
std::unique_ptr<PartIndex> carry_out(const PlanChoice& choice, SortedCodes codes, Memory memory);

}  // namespace fasthash
