// Bindings of indices made of the segments of others, and of their entries: used by fasthash.store.
#pragma once

#include <pybind11/stl.h>

#include "arrays.h"
#include "fasthash/index.h"

namespace fasthash::python {

std::unique_ptr<Index> joined(const Index& index, const std::vector<const Index*>& indices, std::uint64_t next_id);
std::unique_ptr<Index> without(const Index& index, const IdArray& entries);
IdArray entry_ids(const Index& index, const IdArray& entries);
/// (segments, entries)
py::tuple places(const Index& index, const IdArray& ids);

}  // namespace fasthash::python
