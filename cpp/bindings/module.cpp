// The module fasthash._core: thin bindings, every call into the core without the GIL.
#include <pybind11/gil_safe_call_once.h>
#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "arrays.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"

namespace fasthash::python {
namespace {

using ReleaseGil = py::call_guard<py::gil_scoped_release>;

void add(Index& index, const CodeArray& codes, const std::optional<IdArray>& ids) {
    const CodeView view = code_view("codes", codes);
    const std::int64_t* id_data = id_pointer(ids, view.n);
    const py::gil_scoped_release release;
    index.add(view, id_data);
}

// (distances, ids, nodes_visited, codes_compared)
py::tuple search(const Index& index, const CodeArray& queries, std::size_t k, std::optional<double> keep,
                 KeepMode keep_mode) {
    const CodeView view = code_view("queries", queries);
    const auto rows = static_cast<py::ssize_t>(view.n);
    const auto columns = static_cast<py::ssize_t>(k);
    py::array_t<std::int32_t> distances({rows, columns});
    py::array_t<std::int64_t> ids({rows, columns});
    py::array_t<std::int64_t> nodes_visited(rows), codes_compared(rows);
    std::int32_t* distance_data = distances.mutable_data();
    std::int64_t* id_data = ids.mutable_data();
    std::optional<Pruning> pruning;
    if (keep) pruning = Pruning{*keep, keep_mode};
    std::vector<QueryStats> stats(view.n);
    {
        const py::gil_scoped_release release;
        index.search(view, k, pruning, distance_data, id_data, stats.data());
    }
    for (py::ssize_t q = 0; q < rows; ++q) {
        nodes_visited.mutable_at(q) = stats[static_cast<std::size_t>(q)].nodes_visited;
        codes_compared.mutable_at(q) = stats[static_cast<std::size_t>(q)].codes_compared;
    }
    return py::make_tuple(distances, ids, nodes_visited, codes_compared);
}

// Text that may hold the name of a file: bytes, of which those that are not UTF-8 survive as os.fsdecode keeps them.
py::object file_text(const std::string& text) {
    return py::reinterpret_steal<py::object>(
        PyUnicode_DecodeFSDefaultAndSize(text.data(), static_cast<py::ssize_t>(text.size())));
}

void register_errors(py::module_& module) {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> format_error;
    format_error.call_once_and_store_result([&module]() -> py::object {
        py::exception<FormatError> type(module, "FormatError", PyExc_ValueError);
        type.attr("__module__") = "fasthash";
        type.attr("__doc__") = "A file is not an index, is damaged, or was written by a newer fasthash.";
        return type;
    });
    py::register_exception_translator([](std::exception_ptr pointer) {
        try {
            if (pointer) std::rethrow_exception(pointer);
        } catch (const FormatError& error) {
            py::set_error(format_error.get_stored(), file_text(error.what()));
        } catch (const ArgumentError& error) {
            py::set_error(PyExc_ValueError, error.what());
        } catch (const IoError& error) {
            const std::string text = error.step() + ": " + std::strerror(error.code());
            py::set_error(PyExc_OSError, py::make_tuple(error.code(), text, file_text(error.path())));
        }
    });
}

}  // namespace

PYBIND11_MODULE(_core, module) {
    module.doc() = "Compiled core of fasthash; use the classes of the package instead.";
    module.attr("__version__") = FASTHASH_VERSION;
    register_errors(module);

    py::native_enum<IndexKind>(module, "IndexKind", "enum.Enum")
        .value("flat", IndexKind::flat)
        .value("hier", IndexKind::hier)
        .finalize();
    py::native_enum<KeepMode>(module, "KeepMode", "enum.Enum")
        .value("node_ratio", KeepMode::node_ratio)
        .value("gallery_ratio", KeepMode::gallery_ratio)
        .value("radius", KeepMode::radius)
        .finalize();

    py::class_<Index>(module, "Index")
        .def_property_readonly("kind", &Index::kind)
        .def_property_readonly("level_bits", [](const Index& index) { return index.layout().level_bits(); })
        .def_property_readonly("n_bits", [](const Index& index) { return index.layout().n_bits(); })
        .def("nbytes", &Index::nbytes, ReleaseGil())
        .def("__len__", &Index::size, ReleaseGil())
        .def("add", &add, py::arg("codes").noconvert(), py::arg("ids").noconvert() = py::none())
        .def("search", &search, py::arg("queries").noconvert(), py::arg("k"), py::arg("keep") = py::none(),
             py::arg("keep_mode") = KeepMode::node_ratio)
        .def("save", &Index::save, py::arg("path"), ReleaseGil());

    py::class_<FlatIndex, Index>(module, "FlatIndex").def(py::init<std::size_t>(), py::arg("n_bits"));
    py::class_<HierIndex, Index>(module, "HierIndex")
        .def(py::init([](std::vector<std::size_t> level_bits) {
                 return std::make_unique<HierIndex>(LevelLayout(std::move(level_bits)));
             }),
             py::arg("level_bits"))
        .def("nodes_per_level", &HierIndex::nodes_per_level, ReleaseGil());

    py::class_<FileInfo>(module, "FileInfo")
        .def_readonly("kind", &FileInfo::kind)
        .def_readonly("level_bits", &FileInfo::level_bits)
        .def_readonly("n_codes", &FileInfo::n_codes)
        .def_readonly("has_ids", &FileInfo::has_ids)
        .def_readonly("format_major", &FileInfo::format_major)
        .def_readonly("format_minor", &FileInfo::format_minor)
        .def_readonly("file_bytes", &FileInfo::file_bytes);

    module.def("load", &load_index, py::arg("path"), ReleaseGil());
    module.def("peek", &peek_file, py::arg("path"), ReleaseGil());
}

}  // namespace fasthash::python
