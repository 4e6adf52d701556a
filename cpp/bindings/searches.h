// Searches of an index, on numpy arrays.
#pragma once

#include "arrays.h"
#include "fasthash/id_filter.h"
#include "fasthash/index.h"

namespace fasthash::python {

/// Empty for None. For None as a plain pointer, pybind11 searches for foreign converters first, in half a microsecond.
using Allow = std::optional<const IdFilter*>;

/// How a query may have been answered: names of plans, "+scan" where a plan gave up, "pruned" with `keep`.
std::vector<std::string> plan_names();

/// (distances, ids, stats): stats are (plan, nodes_visited, codes_compared, exact_to), plan as a place in plan_names(),
/// or None. `cuts`: of each query, of each level but the last. `share`: of the codes, that may be compared.
py::tuple search(const Index& index, const CodeArray& queries, std::size_t k, const Allow& allow, bool with_stats,
                 std::optional<double> keep, std::optional<KeepMode> keep_mode, const std::optional<CutArray>& cuts,
                 std::optional<double> share);

/// (offsets, distances, ids, stats)
py::tuple range_search(const Index& index, const CodeArray& queries, std::int32_t radius, const Allow& allow);

py::array_t<std::int64_t> count_within(const Index& index, const CodeArray& queries, std::int32_t radius,
                                       const Allow& allow);

// The same by Jaccard distance, as float.
py::tuple search_jaccard(const Index& index, const CodeArray& queries, std::size_t k, const Allow& allow,
                         bool with_stats);
py::tuple range_search_jaccard(const Index& index, const CodeArray& queries, double radius, const Allow& allow);
py::array_t<std::int64_t> count_within_jaccard(const Index& index, const CodeArray& queries, double radius,
                                               const Allow& allow);

}  // namespace fasthash::python
