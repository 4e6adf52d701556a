// The module fasthash._cuda: galleries on a GPU.
//
// Device memory is passed as addresses; the Python layer has checked their device, shape and type.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <optional>

#include "arrays.h"
#include "gpu/device.h"
#include "gpu/tree_gallery.h"

namespace fasthash::python {
namespace {

template <typename T>
T* pointer(std::uintptr_t address) {
    return reinterpret_cast<T*>(address);
}

gpu::Stream stream_at(std::uintptr_t address) { return pointer<CUstream_st>(address); }

/// Device memory for a search's result, to be copied into a numpy array.
template <typename T>
py::array_t<T> to_host(const gpu::Buffer<T>& buffer, std::vector<py::ssize_t> shape, gpu::Stream stream) {
    py::array_t<T> array(std::move(shape));
    T* data = array.mutable_data();
    const WithoutGil release;
    gpu::copy_to_host(data, buffer.data(), buffer.nbytes(), stream);
    gpu::finish(stream);
    return array;
}

/// A filter converted for one gallery.
class AllowedIds {
 public:
    AllowedIds(int device, const void* gallery, gpu::Allowed entries)
        : device_(device), gallery_(gallery), entries_(std::move(entries)) {}
    AllowedIds(AllowedIds&&) = default;
    ~AllowedIds() {
        try {
            const gpu::OnDevice on(device_);
            entries_ = {};
        } catch (const gpu::DeviceError&) {  // the driver is gone, and its memory with it
        }
    }
    const gpu::Allowed& of(const void* gallery) const {
        if (gallery != gallery_) throw ArgumentError("allow was prepared for another gallery");
        return entries_;
    }

 private:
    int device_;
    const void* gallery_;
    gpu::Allowed entries_;
};

/// A gallery and its device. Locked, so that one thread at a time uses its stream.
class Gallery {
 public:
    Gallery(int device, const CodeArray& codes, const std::optional<IdArray>& ids, std::int64_t first_id,
            const std::vector<std::size_t>& level_bits, bool tree, std::size_t room)
        : device_(device) {
        const CodeView view = code_view("codes", codes);
        const std::int64_t* id_data = id_pointer(ids, view.n);
        const WithoutGil release;
        const gpu::OnDevice on(device_);
        if (tree && view.n != 0) {
            auto made =
                std::make_unique<gpu::TreeGallery>(view, LevelLayout(level_bits), id_data, first_id, nullptr, room);
            tree_ = made.get();
            gallery_ = std::move(made);
        } else {
            gallery_ = std::make_unique<gpu::FlatGallery>(view, id_data, first_id, nullptr, room);
        }
    }
    ~Gallery() {
        try {
            const gpu::OnDevice on(device_);
            gallery_.reset();
        } catch (const gpu::DeviceError&) {
            gallery_.release();  // the driver is gone, and its memory with it
        }
    }

    std::size_t nbytes() const { return gallery_->nbytes(); }
    bool streamed() const { return gallery_->streamed(); }

    AllowedIds allowed(const IdFilter& filter) const {
        const WithoutGil release;
        const gpu::OnDevice on(device_);
        return {device_, gallery_.get(), gallery_->allowed(filter, nullptr)};
    }

    /// Search with queries on the host; returns (distances, ids).
    py::tuple search(const CodeArray& queries, std::uint32_t k, const AllowedIds* allow) const {
        const CodeView view = checked(queries);
        const gpu::OnDevice on(device_);
        gpu::Buffer<std::int32_t> distances(view.n * k, nullptr);
        gpu::Buffer<std::int64_t> ids(view.n * k, nullptr);
        run([&](const Interrupt& interrupt) {
            gallery_->search(view, k, entries_of(allow), distances.data(), ids.data(), nullptr, interrupt);
        });
        const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(view.n), static_cast<py::ssize_t>(k)};
        return py::make_tuple(to_host(distances, shape, nullptr), to_host(ids, shape, nullptr));
    }
    /// Search with queries and results on the device.
    void search_on_gpu(std::uintptr_t queries, std::size_t n, std::uint32_t k, const AllowedIds* allow,
                       std::uintptr_t distances, std::uintptr_t ids, std::uintptr_t stream) const {
        const gpu::OnDevice on(device_);
        run([&](const Interrupt& interrupt) {
            gallery_->search(view_at(queries, n), k, entries_of(allow), pointer<std::int32_t>(distances),
                             pointer<std::int64_t>(ids), stream_at(stream), interrupt);
        });
    }

    /// Pruned search; returns (distances, ids, failed). The gallery must have several levels and not be empty.
    py::tuple search_pruned(const CodeArray& queries, std::uint32_t k, double keep, int keep_mode) const {
        const CodeView view = checked(queries);
        const gpu::OnDevice on(device_);
        gpu::Buffer<std::int32_t> distances(view.n * k, nullptr);
        gpu::Buffer<std::int64_t> ids(view.n * k, nullptr);
        const py::array_t<bool> failed = prune(view, k, keep, keep_mode, distances.data(), ids.data(), nullptr);
        const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(view.n), static_cast<py::ssize_t>(k)};
        return py::make_tuple(to_host(distances, shape, nullptr), to_host(ids, shape, nullptr), failed);
    }
    py::array_t<bool> search_pruned_on_gpu(std::uintptr_t queries, std::size_t n, std::uint32_t k, double keep,
                                           int keep_mode, std::uintptr_t distances, std::uintptr_t ids,
                                           std::uintptr_t stream) const {
        const gpu::OnDevice on(device_);
        return prune(view_at(queries, n), k, keep, keep_mode, pointer<std::int32_t>(distances),
                     pointer<std::int64_t>(ids), stream_at(stream));
    }

    py::array_t<std::int64_t> count_within(const CodeArray& queries, std::int32_t radius,
                                           const AllowedIds* allow) const {
        return count(checked(queries), radius, allow, nullptr);
    }
    py::array_t<std::int64_t> count_within_on_gpu(std::uintptr_t queries, std::size_t n, std::int32_t radius,
                                                  const AllowedIds* allow, std::uintptr_t stream) const {
        return count(view_at(queries, n), radius, allow, stream_at(stream));
    }

    /// Range search; returns (distances, ids). `offsets`: running sums of count_within's result.
    py::tuple range_search(const CodeArray& queries, std::int32_t radius, const AllowedIds* allow,
                           const IdArray& offsets) const {
        const CodeView view = checked(queries);
        const auto n = static_cast<std::size_t>(last_of(offsets, view.n));
        const gpu::OnDevice on(device_);
        gpu::Buffer<std::int32_t> distances(n, nullptr);
        gpu::Buffer<std::int64_t> ids(n, nullptr);
        run([&, sums = offsets.data()](const Interrupt& interrupt) {
            gallery_->range_search(view, radius, entries_of(allow), sums, distances.data(), ids.data(), nullptr,
                                   interrupt);
        });
        const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(n)};
        return py::make_tuple(to_host(distances, shape, nullptr), to_host(ids, shape, nullptr));
    }
    void range_search_on_gpu(std::uintptr_t queries, std::size_t n, std::int32_t radius, const AllowedIds* allow,
                             const IdArray& offsets, std::uintptr_t distances, std::uintptr_t ids,
                             std::uintptr_t stream) const {
        last_of(offsets, n);
        const gpu::OnDevice on(device_);
        run([&, sums = offsets.data()](const Interrupt& interrupt) {
            gallery_->range_search(view_at(queries, n), radius, entries_of(allow), sums,
                                   pointer<std::int32_t>(distances), pointer<std::int64_t>(ids), stream_at(stream),
                                   interrupt);
        });
    }

 private:
    const gpu::Allowed* entries_of(const AllowedIds* allow) const {
        return allow == nullptr ? nullptr : &allow->of(gallery_.get());
    }
    CodeView checked(const CodeArray& queries) const {
        const CodeView view = code_view("queries", queries);
        if (view.n_bytes != gallery_->n_bytes()) throw ArgumentError("queries must be as wide as the codes");
        return view;
    }
    CodeView view_at(std::uintptr_t queries, std::size_t n) const {
        return {pointer<const std::uint8_t>(queries), n, gallery_->n_bytes()};
    }
    static std::int64_t last_of(const IdArray& offsets, std::size_t n) {
        if (n_ids(offsets) != n + 1) throw ArgumentError("offsets must be one more than the queries");
        return offsets.data()[n];
    }
    py::array_t<bool> prune(CodeView queries, std::uint32_t k, double keep, int keep_mode, std::int32_t* distances,
                            std::int64_t* ids, gpu::Stream stream) const {
        if (tree_ == nullptr) throw ArgumentError("a pruned search needs levels and codes");
        const Pruning pruning{keep, static_cast<KeepMode>(keep_mode)};
        py::array_t<bool> failed(static_cast<py::ssize_t>(queries.n));
        run([&, data = failed.mutable_data()](const Interrupt& interrupt) {
            tree_->search_pruned(queries, k, pruning, distances, ids, data, stream, interrupt);
        });
        return failed;
    }
    py::array_t<std::int64_t> count(CodeView queries, std::int32_t radius, const AllowedIds* allow,
                                    gpu::Stream stream) const {
        py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(queries.n));
        const gpu::OnDevice on(device_);
        run([&, data = counts.mutable_data()](const Interrupt& interrupt) {
            gallery_->count_within(queries, radius, entries_of(allow), data, stream, interrupt);
        });
        return counts;
    }

    int device_;
    std::unique_ptr<gpu::FlatGallery> gallery_;
    const gpu::TreeGallery* tree_ = nullptr;  // gallery_ as a TreeGallery; null if it is flat
};

}  // namespace

PYBIND11_MODULE(_cuda, module) {
    py::register_exception<gpu::DeviceError>(module, "DeviceError", PyExc_RuntimeError);
    py::register_exception<gpu::OutOfMemory>(module, "OutOfMemory", PyExc_MemoryError);
    py::register_local_exception<ArgumentError>(module, "ArgumentError", PyExc_ValueError);
    module.def("n_devices", &gpu::n_devices);
    module.def("device_name", &gpu::device_name, py::arg("device"));
    module.def(
        "free_bytes",
        [](int device) {
            const gpu::OnDevice on(device);
            return gpu::free_bytes();
        },
        py::arg("device"));
    py::class_<AllowedIds>(module, "AllowedIds");
    py::class_<Gallery>(module, "Gallery")
        .def(py::init<int, const CodeArray&, const std::optional<IdArray>&, std::int64_t,
                      const std::vector<std::size_t>&, bool, std::size_t>(),
             py::arg("device"), py::arg("codes"), py::arg("ids"), py::arg("first_id"), py::arg("level_bits"),
             py::arg("tree"), py::arg("room"))
        .def("nbytes", &Gallery::nbytes)
        .def("streamed", &Gallery::streamed)
        .def("allowed", &Gallery::allowed, py::arg("filter"))
        .def("search", &Gallery::search, py::arg("queries"), py::arg("k"), py::arg("allow"))
        .def("search_on_gpu", &Gallery::search_on_gpu, py::arg("queries"), py::arg("n"), py::arg("k"), py::arg("allow"),
             py::arg("distances"), py::arg("ids"), py::arg("stream"))
        .def("search_pruned", &Gallery::search_pruned, py::arg("queries"), py::arg("k"), py::arg("keep"),
             py::arg("keep_mode"))
        .def("search_pruned_on_gpu", &Gallery::search_pruned_on_gpu, py::arg("queries"), py::arg("n"), py::arg("k"),
             py::arg("keep"), py::arg("keep_mode"), py::arg("distances"), py::arg("ids"), py::arg("stream"))
        .def("count_within", &Gallery::count_within, py::arg("queries"), py::arg("radius"), py::arg("allow"))
        .def("count_within_on_gpu", &Gallery::count_within_on_gpu, py::arg("queries"), py::arg("n"), py::arg("radius"),
             py::arg("allow"), py::arg("stream"))
        .def("range_search", &Gallery::range_search, py::arg("queries"), py::arg("radius"), py::arg("allow"),
             py::arg("offsets"))
        .def("range_search_on_gpu", &Gallery::range_search_on_gpu, py::arg("queries"), py::arg("n"), py::arg("radius"),
             py::arg("allow"), py::arg("offsets"), py::arg("distances"), py::arg("ids"), py::arg("stream"));
}

}  // namespace fasthash::python
