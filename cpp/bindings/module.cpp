// The module fasthash._core: thin bindings. Calls into the core release the GIL.
#include <pybind11/gil_safe_call_once.h>
#include <pybind11/native_enum.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstring>

#include "change_lock.h"
#include "codes/padding.h"
#include "fasthash/flat_index.h"
#include "fasthash/hier_index.h"
#include "fasthash/simd.h"
#include "joined.h"
#include "search/keep_rule.h"
#include "searches.h"
#include "segments/filtered_gallery.h"
#include "segments/merge.h"
#include "snapshot.h"

namespace fasthash::python {
namespace {

using ReleaseGil = py::call_guard<WithoutGil>;

void add(Index& index, const CodeArray& codes, const std::optional<IdArray>& ids,
         const std::optional<py::function>& progress) {
    const CodeView view = code_view("codes", codes);
    const std::int64_t* id_data = id_pointer(ids, view.n);
    run([&](const Interrupt& interrupt) { index.add(view, id_data, interrupt); }, progress);
}

void remove(Index& index, const IdArray& ids) {
    const std::size_t n = n_ids(ids);
    run([&, data = ids.data()](const Interrupt& interrupt) { index.remove(data, n, interrupt); });
}

void update(Index& index, const IdArray& ids, const CodeArray& codes) {
    const CodeView view = code_view("codes", codes);
    const std::int64_t* id_data = id_pointer(ids, view.n);
    run([&](const Interrupt& interrupt) { index.update(id_data, view, interrupt); });
}

py::array_t<std::uint8_t> reconstruct(const Index& index, const IdArray& ids) {
    const std::size_t n = n_ids(ids);
    py::array_t<std::uint8_t> codes({n, index.layout().n_bytes()});
    run([&, from = ids.data(), to = codes.mutable_data()](const Interrupt& interrupt) {
        index.reconstruct(from, n, to, interrupt);
    });
    return codes;
}

// Returns (codes, ids), sorted by id.
py::tuple to_arrays(const Index& index) {
    Export entries = run([&](const Interrupt&) { return index.export_entries(); });
    const auto n = static_cast<py::ssize_t>(entries.ids.size());
    return py::make_tuple(to_array(std::move(entries.codes), {n, static_cast<py::ssize_t>(index.layout().n_bytes())}),
                          to_array(std::move(entries.ids)));
}

py::bytes to_bytes(const Index& index, bool id_map, bool summary) {
    const std::vector<std::uint8_t> bytes =
        run([&](const Interrupt& interrupt) { return index.to_bytes(interrupt, id_map, summary); });
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::unique_ptr<Index> from_bytes(const py::buffer& data) {
    const py::buffer_info info = data.request();
    if (info.itemsize != 1 || info.ndim != 1 || info.strides[0] != 1) {
        const auto text = [](const std::vector<py::ssize_t>& values) {
            return std::string(py::str(py::tuple(py::cast(values))));
        };
        throw ArgumentError("data must be bytes that stand one after the other, got the shape " + text(info.shape) +
                            " with strides " + text(info.strides) + " and items of " + std::to_string(info.itemsize) +
                            (info.itemsize == 1 ? " byte" : " bytes"));
    }
    const WithoutGil release;
    return index_from_bytes(static_cast<const std::uint8_t*>(info.ptr), static_cast<std::size_t>(info.size));
}

std::unique_ptr<IdFilter> filter_of_mask(const MaskArray& mask) {
    if (mask.ndim() != 1) throw ArgumentError("mask must have one axis");
    const auto* data = reinterpret_cast<const std::uint8_t*>(mask.data());
    const WithoutGil release;
    return IdFilter::from_mask(data, static_cast<std::size_t>(mask.shape(0)));
}

std::unique_ptr<IdFilter> filter_of_ids(const IdArray& ids) {
    const std::size_t n = n_ids(ids);
    const std::int64_t* data = ids.data();
    const WithoutGil release;
    return std::make_unique<IdFilter>(std::vector<std::int64_t>(data, data + n));
}

Snapshot snapshot(const Index& index, const Allow& allow) {
    const WithoutGil release;
    return {allow ? index.state_of(**allow) : index.state(), index.metric()};
}

// A bit for each entry of each segment, in words.
py::list allowed(const Snapshot& snapshot, const IdFilter& filter) {
    std::vector<std::vector<std::uint32_t>> bits =
        run([&](const Interrupt&) { return allowed_entries(*snapshot.state, filter); });
    py::list arrays;
    for (std::vector<std::uint32_t>& of_segment : bits) arrays.append(to_array(std::move(of_segment)));
    return arrays;
}

// Of each level but the last: (prefixes, entries below each).
py::list level_nodes(const Snapshot& snapshot, const std::vector<std::size_t>& level_bits) {
    const LevelLayout layout(level_bits);
    std::vector<LevelNodeList> levels = run([&](const Interrupt& interrupt) {
        Stopper stopper(interrupt);
        const NewEntries nothing{{nullptr, 0, layout.n_bytes()}, nullptr, 0};
        return list_nodes(MergeCursor(snapshot.state->segments, nothing, stopper), layout);
    });
    py::list arrays;
    for (std::size_t depth = 0; depth < levels.size(); ++depth) {
        const auto n = static_cast<py::ssize_t>(levels[depth].n_entries.size());
        const auto width = static_cast<py::ssize_t>(layout.offset(depth + 1));
        arrays.append(py::make_tuple(to_array(std::move(levels[depth].prefixes), {n, width}),
                                     to_array(std::move(levels[depth].n_entries))));
    }
    return arrays;
}

std::vector<std::string> simd_level_names() {
    std::vector<std::string> names;
    for (const SimdLevel level : simd_levels()) names.emplace_back(simd_name(level));
    return names;
}

// Decodes text that may contain a file name, as os.fsdecode does: bytes that are not UTF-8 survive.
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

// Safe without the GIL on free-threaded Python: the core has its own locks, and functions here keep no state.
PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
    module.doc() = "Compiled core of fasthash; use the classes of the package instead.";
    module.attr("__version__") = FASTHASH_VERSION;
    register_errors(module);
    register_change_lock(module);
    simd_level();  // report a wrong FASTHASH_SIMD at import

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
        .value("clusters", Plan::clusters)
        .finalize();

    py::native_enum<Metric>(module, "Metric", "enum.Enum")
        .value("hamming", Metric::hamming)
        .value("jaccard", Metric::jaccard)
        .finalize();

    module.attr("PLAN_NAMES") = py::tuple(py::cast(plan_names()));
    py::class_<Index>(module, "Index")
        .def_property_readonly("kind", &Index::kind)
        .def_property_readonly("metric", &Index::metric)
        .def_property_readonly("level_bits", [](const Index& index) { return index.layout().level_bits(); })
        .def_property_readonly("n_bits", [](const Index& index) { return index.layout().n_bits(); })
        .def("nbytes", &Index::nbytes, ReleaseGil())
        .def("__len__", &Index::size, ReleaseGil())
        .def("mapped_bytes", &Index::mapped_bytes, ReleaseGil())
        .def("next_id", &Index::next_id, ReleaseGil())
        .def("n_segments", &Index::n_segments, ReleaseGil())
        .def("n_removed", &Index::n_removed, ReleaseGil())
        .def("add", &add, py::arg("codes").noconvert(), py::arg("ids").noconvert() = py::none(),
             py::arg("progress") = py::none())
        .def("remove", &remove, py::arg("ids").noconvert())
        .def("update", &update, py::arg("ids").noconvert(), py::arg("codes").noconvert())
        .def(
            "merge",
            [](Index& index, const Index& other) {
                run([&](const Interrupt& interrupt) { index.merge(other, interrupt); });
            },
            py::arg("other"))
        .def("clear", [](Index& index) { run([&](const Interrupt& interrupt) { index.clear(interrupt); }); })
        .def("compact", [](Index& index) { run([&](const Interrupt& interrupt) { index.compact(interrupt); }); })
        .def("__contains__", &Index::contains, py::arg("id"), ReleaseGil())
        .def("reconstruct", &reconstruct, py::arg("ids").noconvert())
        .def("to_arrays", &to_arrays)
        .def("copy", &Index::copy, ReleaseGil())
        .def("copy_to_prune",
             [](const Index& index) {
                 return run([&](const Interrupt& interrupt) { return index.copy_to_prune(interrupt); });
             })
        .def("search", &search, py::arg("queries").noconvert(), py::arg("k"), py::arg("allow") = py::none(),
             py::arg("stats") = false, py::arg("keep") = py::none(), py::arg("keep_mode") = py::none(),
             py::arg("cuts").noconvert() = py::none(), py::arg("share") = py::none())
        .def("range_search", &range_search, py::arg("queries").noconvert(), py::arg("radius"),
             py::arg("allow") = py::none())
        .def("count_within", &count_within, py::arg("queries").noconvert(), py::arg("radius"),
             py::arg("allow") = py::none())
        .def("search_jaccard", &search_jaccard, py::arg("queries").noconvert(), py::arg("k"),
             py::arg("allow") = py::none(), py::arg("stats") = false)
        .def("range_search_jaccard", &range_search_jaccard, py::arg("queries").noconvert(), py::arg("radius"),
             py::arg("allow") = py::none())
        .def("count_within_jaccard", &count_within_jaccard, py::arg("queries").noconvert(), py::arg("radius"),
             py::arg("allow") = py::none())
        .def(
            "save",
            [](const Index& index, const std::string& path, bool id_map, bool summary) {
                run([&](const Interrupt& interrupt) { index.save(path, interrupt, id_map, summary); });
            },
            py::arg("path"), py::arg("id_map") = false, py::arg("summary") = false)
        .def("build_id_map", &Index::build_id_map, ReleaseGil())
        .def("snapshot", &snapshot, py::arg("allow") = py::none())
        .def("to_bytes", &to_bytes, py::arg("id_map") = false, py::arg("summary") = false)
        .def("joined", &joined, py::arg("indices"), py::arg("next_id"))
        .def("without", &without, py::arg("entries").noconvert())
        .def("entry_ids", &entry_ids, py::arg("entries").noconvert())
        .def("places", &places, py::arg("ids").noconvert());

    py::class_<Snapshot>(module, "Snapshot")
        .def("__len__", [](const Snapshot& snapshot) { return snapshot.state->size(); })
        .def(
            "is_narrow",
            [](const Snapshot& snapshot, const IdFilter& filter) { return is_narrow(filter, snapshot.state->size()); },
            py::arg("filter"))
        .def("allowed", &allowed, py::arg("filter"))
        .def("level_nodes", &level_nodes, py::arg("level_bits"));
    py::class_<FlatIndex, Index>(module, "FlatIndex")
        .def(py::init<std::size_t, Metric>(), py::arg("n_bits"), py::arg("metric") = Metric::hamming);
    py::class_<HierIndex::Shape>(module, "HierShape")
        .def_readonly("plan", &HierIndex::Shape::plan)
        .def_readonly("n_substrings", &HierIndex::Shape::n_substrings)
        .def_readonly("substring_bits", &HierIndex::Shape::substring_bits)
        .def_readonly("n_clusters", &HierIndex::Shape::n_clusters)
        .def_readonly("nodes_per_level", &HierIndex::Shape::nodes_per_level);
    py::class_<HierIndex, Index>(module, "HierIndex")
        .def(py::init([](std::vector<std::size_t> level_bits, Memory memory, std::optional<Plan> plan, Metric metric) {
                 return std::make_unique<HierIndex>(LevelLayout(std::move(level_bits)), memory, plan, metric);
             }),
             py::arg("level_bits"), py::arg("memory") = Memory::standard, py::arg("plan") = py::none(),
             py::arg("metric") = Metric::hamming)
        .def_property_readonly("memory", &HierIndex::memory)
        .def_property_readonly("forced_plan", &HierIndex::forced_plan)
        .def("shape", &HierIndex::shape, ReleaseGil());

    py::class_<FileInfo>(module, "FileInfo")
        .def_readonly("kind", &FileInfo::kind)
        .def_readonly("level_bits", &FileInfo::level_bits)
        .def_readonly("n_codes", &FileInfo::n_codes)
        .def_readonly("has_ids", &FileInfo::has_ids)
        .def_readonly("format_major", &FileInfo::format_major)
        .def_readonly("format_minor", &FileInfo::format_minor)
        .def_readonly("file_bytes", &FileInfo::file_bytes)
        .def_readonly("memory", &FileInfo::memory)
        .def_readonly("n_clusters", &FileInfo::n_clusters)
        .def_readonly("has_id_map", &FileInfo::has_id_map)
        .def_readonly("metric", &FileInfo::metric);

    py::class_<FileSection>(module, "FileSection")
        .def_readonly("name", &FileSection::name)
        .def_readonly("offset", &FileSection::offset)
        .def_readonly("n_bytes", &FileSection::n_bytes)
        .def_readonly("checksum", &FileSection::checksum)
        .def_readonly("intact", &FileSection::intact);
    py::class_<FileReport>(module, "FileReport")
        .def_readonly("info", &FileReport::info)
        .def_readonly("sections", &FileReport::sections)
        .def_readonly("fault", &FileReport::fault);

    py::class_<IdFilter>(module, "IdFilter")
        .def_static("of_ids", &filter_of_ids, py::arg("ids").noconvert())
        .def_static("of_mask", &filter_of_mask, py::arg("mask").noconvert())
        .def("__len__", &IdFilter::size)
        .def("__contains__", &IdFilter::contains, py::arg("id"))
        .def("ids", [](const IdFilter& filter) { return to_array(filter.ids()); })
        .def("nbytes", &IdFilter::nbytes, ReleaseGil())
        .def("set_reusable", &IdFilter::set_reusable);

    // For callers that check codes before they reach an index. `codes`: as wide as n_bits takes.
    module.def(
        "check_padding",
        [](const std::string& name, const CodeArray& codes, std::size_t n_bits) {
            const CodeView view = code_view("codes", codes);
            if (view.n_bytes == (n_bits + 7) / 8 && n_bits > 0) check_padding(name.c_str(), view, n_bits);
        },
        py::arg("name"), py::arg("codes").noconvert(), py::arg("n_bits"));

    module.def("simd_level", [] { return std::string(simd_name(simd_level())); });
    module.def("simd_levels", &simd_level_names);
    module.def("set_simd_level", [](const std::string& name) { set_simd_level(name); }, py::arg("name"));
    module.def("get_num_threads", &num_threads);
    module.def("set_num_threads", &set_num_threads, py::arg("n"));
    module.def("work_in_background", &work_in_background);

    // HDHash's rule for `keep`, for shards, which choose nodes in Python.
    module.def(
        "keep_at_least",
        [](double keep, double total) { return static_cast<std::int64_t>(keep_at_least(keep, total)); },
        py::arg("keep"), py::arg("total"));
    module.def(
        "keep_at_most", [](double keep, double total) { return static_cast<std::int64_t>(keep_at_most(keep, total)); },
        py::arg("keep"), py::arg("total"));

    module.def("load", &load_index, py::arg("path"), py::arg("mmap") = false, py::arg("check") = true, ReleaseGil());
    module.def("from_bytes", &from_bytes, py::arg("data"));
    module.def("peek", &peek_file, py::arg("path"), ReleaseGil());
    module.def("verify", &verify_file, py::arg("path"), ReleaseGil());
}

}  // namespace fasthash::python
