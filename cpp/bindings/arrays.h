// Between numpy arrays and the core's views. Python has checked types and shapes with better messages; what is checked
// here once more is what memory safety rests on.
#pragma once

#include <pybind11/numpy.h>

#include <optional>
#include <string>

#include "fasthash/codes.h"
#include "fasthash/error.h"

namespace fasthash::python {

namespace py = pybind11;

using CodeArray = py::array_t<std::uint8_t, py::array::c_style>;
using IdArray = py::array_t<std::int64_t, py::array::c_style>;

inline CodeView code_view(const char* name, const CodeArray& codes) {
    if (codes.ndim() != 2) throw ArgumentError(std::string(name) + " must have two axes (n, n_bits / 8)");
    return {codes.data(), static_cast<std::size_t>(codes.shape(0)), static_cast<std::size_t>(codes.shape(1))};
}

/// Null for no ids.
inline const std::int64_t* id_pointer(const std::optional<IdArray>& ids, std::size_t n) {
    if (!ids) return nullptr;
    if (ids->ndim() != 1 || static_cast<std::size_t>(ids->shape(0)) != n) {
        throw ArgumentError("ids must have one axis with one id for each code");
    }
    return ids->data();
}

}  // namespace fasthash::python
