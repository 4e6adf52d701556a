// The searches of an index as functions on numpy arrays.
#pragma once

#include "arrays.h"
#include "fasthash/id_filter.h"
#include "fasthash/index.h"

namespace fasthash::python {

/// (distances, ids) of an exact search, or None if the queries are not just as they must be: Python then says why.
py::object search_exact(const Index& index, const py::object& queries, std::size_t k, const IdFilter* allow);

/// (distances, ids, stats), stats as of `stats_tuple`. `cuts`: of each query, of each level but the last.
py::tuple search(const Index& index, const CodeArray& queries, std::size_t k, std::optional<double> keep,
                 KeepMode keep_mode, const IdFilter* allow, const std::optional<CutArray>& cuts);

/// (offsets, distances, ids, stats)
py::tuple range_search(const Index& index, const CodeArray& queries, std::int32_t radius, const IdFilter* allow);

py::array_t<std::int64_t> count_within(const Index& index, const CodeArray& queries, std::int32_t radius,
                                       const IdFilter* allow);

}  // namespace fasthash::python
