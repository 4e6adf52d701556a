// Searches of an index, on numpy arrays.
#pragma once

#include "arrays.h"
#include "fasthash/id_filter.h"
#include "fasthash/index.h"

namespace fasthash::python {

/// Exact search; returns (distances, ids), or None if the queries need Python's checks, which convert or refuse them.
py::object search_exact(const Index& index, const py::object& queries, std::size_t k, const IdFilter* allow);

/// (distances, ids, stats), stats as of `stats_tuple`. `cuts`: of each query, of each level but the last.
py::tuple search(const Index& index, const CodeArray& queries, std::size_t k, std::optional<double> keep,
                 KeepMode keep_mode, const IdFilter* allow, const std::optional<CutArray>& cuts);

/// (offsets, distances, ids, stats)
py::tuple range_search(const Index& index, const CodeArray& queries, std::int32_t radius, const IdFilter* allow);

py::array_t<std::int64_t> count_within(const Index& index, const CodeArray& queries, std::int32_t radius,
                                       const IdFilter* allow);

}  // namespace fasthash::python
