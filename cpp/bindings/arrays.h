// Conversions between numpy arrays and the core's views.
//
// The Python layer checks types and shapes, with better messages. These functions check again whatever memory safety
// needs.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fasthash/codes.h"
#include "fasthash/error.h"
#include "gil.h"

namespace fasthash::python {

namespace py = pybind11;

using CodeArray = py::array_t<std::uint8_t, py::array::c_style>;
using CutArray = py::array_t<std::uint16_t, py::array::c_style>;
using IdArray = py::array_t<std::int64_t, py::array::c_style>;
using MaskArray = py::array_t<bool, py::array::c_style>;

inline CodeView code_view(const char* name, const CodeArray& codes) {
    if (codes.ndim() != 2) throw ArgumentError(std::string(name) + " must have two axes (n, n_bits / 8)");
    return {codes.data(), static_cast<std::size_t>(codes.shape(0)), static_cast<std::size_t>(codes.shape(1))};
}

inline std::size_t n_ids(const IdArray& ids) {
    if (ids.ndim() != 1) throw ArgumentError("ids must have one axis");
    return static_cast<std::size_t>(ids.shape(0));
}

/// Null if ids are None.
inline const std::int64_t* id_pointer(const std::optional<IdArray>& ids, std::size_t n) {
    if (!ids) return nullptr;
    if (n_ids(*ids) != n) throw ArgumentError("ids must have one id for each code");
    return ids->data();
}

/// An array that owns the values; no copy.
template <typename T>
py::array_t<T> to_array(std::vector<T> values, std::vector<py::ssize_t> shape) {
    auto owner = std::make_unique<std::vector<T>>(std::move(values));
    const T* data = owner->data();
    const py::capsule capsule(owner.get(), [](void* held) { delete static_cast<std::vector<T>*>(held); });
    owner.release();
    return py::array_t<T>(std::move(shape), data, capsule);
}

template <typename T>
py::array_t<T> to_array(std::vector<T> values) {
    const auto n = static_cast<py::ssize_t>(values.size());
    return to_array(std::move(values), {n});
}

}  // namespace fasthash::python
