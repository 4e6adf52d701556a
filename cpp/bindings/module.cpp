// The module fasthash._core: thin bindings, every call into the core without the GIL.
#include <pybind11/gil_safe_call_once.h>
#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "arrays.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "fasthash/simd.h"

namespace fasthash::python {
namespace {

using ReleaseGil = py::call_guard<py::gil_scoped_release>;

void add(Index& index, const CodeArray& codes, const std::optional<IdArray>& ids) {
    const CodeView view = code_view("codes", codes);
    const std::int64_t* id_data = id_pointer(ids, view.n);
    const py::gil_scoped_release release;
    index.add(view, id_data);
}

struct Found {
    Found(py::ssize_t rows, py::ssize_t columns) : distances({rows, columns}), ids({rows, columns}) {}

    py::array_t<std::int32_t> distances;
    py::array_t<std::int64_t> ids;
};

// Searches without the GIL; Ctrl-C ends a long search.
Found run_search(const Index& index, CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                 QueryStats* stats) {
    Found found(static_cast<py::ssize_t>(queries.n), static_cast<py::ssize_t>(k));
    std::int32_t* distances = found.distances.mutable_data();
    std::int64_t* ids = found.ids.mutable_data();
    const Interrupt interrupt = [] {
        const py::gil_scoped_acquire acquire;
        return PyErr_CheckSignals() != 0;
    };
    try {
        const py::gil_scoped_release release;
        index.search(queries, k, pruning, distances, ids, stats, interrupt);
    } catch (const Interrupted&) {
        throw py::error_already_set();  // what the signal's handler raised
    }
    return found;
}

// (distances, ids) of an exact search, or None if the queries are not just as they must be: Python then says why.
py::object search_exact(const Index& index, const py::object& queries, std::size_t k) {
    if (!py::isinstance<CodeArray>(queries)) return py::none();
    const auto array = py::reinterpret_borrow<CodeArray>(queries);
    if (array.ndim() != 2 || static_cast<std::size_t>(array.shape(1)) != index.layout().n_bytes()) return py::none();
    const Found found = run_search(index, code_view("queries", array), k, std::nullopt, nullptr);
    return py::make_tuple(found.distances, found.ids);
}

// (distances, ids, plan, gave_up, nodes_visited, codes_compared)
py::tuple search(const Index& index, const CodeArray& queries, std::size_t k, std::optional<double> keep,
                 KeepMode keep_mode) {
    const CodeView view = code_view("queries", queries);
    std::optional<Pruning> pruning;
    if (keep) pruning = Pruning{*keep, keep_mode};
    std::vector<QueryStats> stats(view.n);
    const Found found = run_search(index, view, k, pruning, stats.data());
    const auto rows = static_cast<py::ssize_t>(view.n);
    py::array_t<std::uint8_t> plan(rows);
    py::array_t<bool> gave_up(rows);
    py::array_t<std::int64_t> nodes_visited(rows), codes_compared(rows);
    for (py::ssize_t q = 0; q < rows; ++q) {
        const QueryStats& of_query = stats[static_cast<std::size_t>(q)];
        plan.mutable_at(q) = static_cast<std::uint8_t>(of_query.plan);
        gave_up.mutable_at(q) = of_query.gave_up;
        nodes_visited.mutable_at(q) = of_query.nodes_visited;
        codes_compared.mutable_at(q) = of_query.codes_compared;
    }
    return py::make_tuple(found.distances, found.ids, plan, gave_up, nodes_visited, codes_compared);
}

std::vector<std::string> simd_level_names() {
    std::vector<std::string> names;
    for (const SimdLevel level : simd_levels()) names.emplace_back(simd_name(level));
    return names;
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
    simd_level();  // a wrong FASTHASH_SIMD is told at import

    py::native_enum<IndexKind>(module, "IndexKind", "enum.Enum")
        .value("flat", IndexKind::flat)
        .value("hier", IndexKind::hier)
        .finalize();
    py::native_enum<KeepMode>(module, "KeepMode", "enum.Enum")
        .value("node_ratio", KeepMode::node_ratio)
        .value("gallery_ratio", KeepMode::gallery_ratio)
        .value("radius", KeepMode::radius)
        .finalize();

    py::native_enum<Memory>(module, "Memory", "enum.Enum")
        .value("standard", Memory::standard)
        .value("compact", Memory::compact)
        .value("fast", Memory::fast)
        .finalize();
    py::native_enum<Plan>(module, "Plan", "enum.Enum")
        .value("scan", Plan::scan)
        .value("prefix", Plan::prefix)
        .value("multi_index", Plan::multi_index)
        .finalize();

    py::class_<Index>(module, "Index")
        .def_property_readonly("kind", &Index::kind)
        .def_property_readonly("level_bits", [](const Index& index) { return index.layout().level_bits(); })
        .def_property_readonly("n_bits", [](const Index& index) { return index.layout().n_bits(); })
        .def("nbytes", &Index::nbytes, ReleaseGil())
        .def("__len__", &Index::size, ReleaseGil())
        .def("add", &add, py::arg("codes").noconvert(), py::arg("ids").noconvert() = py::none())
        .def("search_exact", &search_exact, py::arg("queries"), py::arg("k"))
        .def("search", &search, py::arg("queries").noconvert(), py::arg("k"), py::arg("keep") = py::none(),
             py::arg("keep_mode") = KeepMode::node_ratio)
        .def("save", &Index::save, py::arg("path"), ReleaseGil());

    py::class_<FlatIndex, Index>(module, "FlatIndex").def(py::init<std::size_t>(), py::arg("n_bits"));
    py::class_<HierIndex::Shape>(module, "HierShape")
        .def_readonly("plan", &HierIndex::Shape::plan)
        .def_readonly("n_parts", &HierIndex::Shape::n_parts)
        .def_readonly("part_bits", &HierIndex::Shape::part_bits)
        .def_readonly("nodes_per_level", &HierIndex::Shape::nodes_per_level);
    py::class_<HierIndex, Index>(module, "HierIndex")
        .def(py::init([](std::vector<std::size_t> level_bits, Memory memory, std::optional<Plan> plan) {
                 return std::make_unique<HierIndex>(LevelLayout(std::move(level_bits)), memory, plan);
             }),
             py::arg("level_bits"), py::arg("memory") = Memory::standard, py::arg("plan") = py::none())
        .def_property_readonly("memory", &HierIndex::memory)
        .def("shape", &HierIndex::shape, ReleaseGil());

    py::class_<FileInfo>(module, "FileInfo")
        .def_readonly("kind", &FileInfo::kind)
        .def_readonly("level_bits", &FileInfo::level_bits)
        .def_readonly("n_codes", &FileInfo::n_codes)
        .def_readonly("has_ids", &FileInfo::has_ids)
        .def_readonly("format_major", &FileInfo::format_major)
        .def_readonly("format_minor", &FileInfo::format_minor)
        .def_readonly("file_bytes", &FileInfo::file_bytes);

    module.def("simd_level", [] { return std::string(simd_name(simd_level())); });
    module.def("simd_levels", &simd_level_names);
    module.def("set_simd_level", [](const std::string& name) { set_simd_level(name); }, py::arg("name"));
    module.def("get_num_threads", &num_threads);
    module.def("set_num_threads", &set_num_threads, py::arg("n"));

    module.def("load", &load_index, py::arg("path"), ReleaseGil());
    module.def("peek", &peek_file, py::arg("path"), ReleaseGil());
}

}  // namespace fasthash::python
