// The module fasthash._cuda: galleries on a GPU.
//
// Device memory is passed as addresses; the Python layer has checked their device, shape and type.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <type_traits>

#include "arrays.h"
#include "gpu/device.h"
#include "gpu/gallery.h"
#include "snapshot.h"

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
            entries_.clear();
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

using Words = py::array_t<std::uint32_t, py::array::c_style>;

/// Frees what is in the memory of a device.
template <typename T>
void release_on(int device, std::unique_ptr<T>& held) {
    try {
        const gpu::OnDevice on(device);
        held.reset();
    } catch (const gpu::DeviceError&) {
        held.release();  // the driver is gone, and its memory with it
    }
}

/// The levels of an index on a device, for pruned searches.
class Levels {
 public:
    /// `nodes`: of each level but the last, (prefixes, entries below each). `n`: entries of the index.
    Levels(int device, const std::vector<std::pair<CodeArray, Words>>& nodes, std::size_t n) : device_(device) {
        std::vector<std::pair<CodeView, const std::uint32_t*>> views;
        for (const auto& [prefixes, weights] : nodes)
            views.emplace_back(code_view("prefixes", prefixes), weights.data());
        const WithoutGil release;
        const gpu::OnDevice on(device_);
        std::vector<gpu::LevelNodes> levels;
        std::size_t parent_bytes = 0;
        for (const auto& [prefixes, weights] : views) {
            levels.emplace_back(prefixes, parent_bytes, weights, nullptr);
            parent_bytes = prefixes.n_bytes;
        }
        table_ = std::make_unique<gpu::LevelTable>(std::move(levels), n, nullptr);
    }
    ~Levels() { release_on(device_, table_); }

    const gpu::LevelTable& table() const { return *table_; }
    std::size_t nbytes() const { return table_->device_nbytes(); }

 private:
    int device_;
    std::unique_ptr<gpu::LevelTable> table_;
};

/// A gallery and its device.
class Gallery {
 public:
    Gallery(int device, const Snapshot& snapshot, std::size_t n_bits, std::size_t room, const Gallery* previous,
            std::size_t share, std::size_t n_shares, std::size_t n_threads)
        : device_(device) {
        const WithoutGil release;
        set_num_threads(n_threads);  // this module has threads of its own
        const gpu::OnDevice on(device_);
        gallery_ = std::make_unique<gpu::Gallery>(*snapshot.state, n_bits, snapshot.metric, nullptr, room,
                                                  previous == nullptr ? nullptr : previous->gallery_.get(),
                                                  gpu::Share{share, n_shares});
    }
    ~Gallery() { release_on(device_, gallery_); }

    /// Bytes that a gallery needs: in all, and beside those that it shares with `previous`.
    static std::pair<std::size_t, std::size_t> needed_bytes(const Snapshot& snapshot, const Gallery* previous,
                                                            std::size_t share, std::size_t n_shares) {
        const gpu::Gallery::Needs needs =
            gpu::Gallery::needs(*snapshot.state, snapshot.metric,
                                previous == nullptr ? nullptr : previous->gallery_.get(), gpu::Share{share, n_shares});
        return {needs.all, needs.fresh};
    }
    std::size_t nbytes() const { return gallery_->device_nbytes(); }
    bool streamed() const { return gallery_->streamed(); }
    std::size_t n_segments() const { return gallery_->n_segments(); }
    std::size_t n_reused() const { return gallery_->n_reused(); }

    /// `bits`: of Snapshot.allowed.
    AllowedIds allowed(const std::vector<Words>& bits) const {
        if (bits.size() != gallery_->n_segments()) throw ArgumentError("bits must be those of the same snapshot");
        std::vector<const std::uint32_t*> words;
        for (const Words& of_segment : bits) words.push_back(of_segment.data());
        const WithoutGil release;
        const gpu::OnDevice on(device_);
        return {device_, gallery_.get(), gallery_->allowed(words, nullptr)};
    }

    /// Search with queries on the host; returns (distances, ids). `levels`: for a pruned search, else None.
    py::tuple search(const CodeArray& queries, std::uint32_t k, const AllowedIds* allow, const Levels* levels,
                     double keep, int keep_mode) const {
        const CodeView view = checked(queries);
        const gpu::OnDevice on(device_);
        return by_metric([&](auto distance) -> py::tuple {
            gpu::Buffer<decltype(distance)> distances(view.n * k, nullptr);
            gpu::Buffer<std::int64_t> ids(view.n * k, nullptr);
            find(view, k, allow, levels, keep, keep_mode, distances.data(), ids.data(), nullptr);
            const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(view.n), static_cast<py::ssize_t>(k)};
            return py::make_tuple(to_host(distances, shape, nullptr), to_host(ids, shape, nullptr));
        });
    }
    /// Search with queries and results on the device.
    void search_on_gpu(std::uintptr_t queries, std::size_t n, std::uint32_t k, const AllowedIds* allow,
                       const Levels* levels, double keep, int keep_mode, std::uintptr_t distances, std::uintptr_t ids,
                       std::uintptr_t stream) const {
        const gpu::OnDevice on(device_);
        by_metric([&](auto distance) {
            find(view_at(queries, n), k, allow, levels, keep, keep_mode, pointer<decltype(distance)>(distances),
                 pointer<std::int64_t>(ids), stream_at(stream));
        });
    }

    /// `radius`: in bits or, by Jaccard distance, a share.
    py::array_t<std::int64_t> count_within(const CodeArray& queries, double radius, const AllowedIds* allow) const {
        return count(checked(queries), radius, allow, nullptr);
    }
    py::array_t<std::int64_t> count_within_on_gpu(std::uintptr_t queries, std::size_t n, double radius,
                                                  const AllowedIds* allow, std::uintptr_t stream) const {
        return count(view_at(queries, n), radius, allow, stream_at(stream));
    }

    /// Range search; returns (distances, ids). `offsets`: running sums of count_within's result.
    py::tuple range_search(const CodeArray& queries, double radius, const AllowedIds* allow,
                           const IdArray& offsets) const {
        const CodeView view = checked(queries);
        const auto n = static_cast<std::size_t>(last_of(offsets, view.n));
        const gpu::OnDevice on(device_);
        return by_metric([&](auto distance) -> py::tuple {
            gpu::Buffer<decltype(distance)> distances(n, nullptr);
            gpu::Buffer<std::int64_t> ids(n, nullptr);
            find_within(view, radius, allow, offsets, distances.data(), ids.data(), nullptr);
            const std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(n)};
            return py::make_tuple(to_host(distances, shape, nullptr), to_host(ids, shape, nullptr));
        });
    }
    void range_search_on_gpu(std::uintptr_t queries, std::size_t n, double radius, const AllowedIds* allow,
                             const IdArray& offsets, std::uintptr_t distances, std::uintptr_t ids,
                             std::uintptr_t stream) const {
        last_of(offsets, n);
        const gpu::OnDevice on(device_);
        by_metric([&](auto distance) {
            find_within(view_at(queries, n), radius, allow, offsets, pointer<decltype(distance)>(distances),
                        pointer<std::int64_t>(ids), stream_at(stream));
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
    /// Call use(distance) with a value of the type of the distances.
    template <typename Use>
    std::invoke_result_t<Use, float> by_metric(const Use& use) const {
        return gallery_->metric() == Metric::jaccard ? use(float{}) : use(std::int32_t{});
    }
    /// A radius in the type of the distances. Those of the CPU are compared as float too; none is larger than 1.
    template <typename Distance>
    static Distance radius_as(double radius) {
        if constexpr (std::is_same_v<Distance, float>) return static_cast<float>(std::max(0.0, std::min(radius, 1.0)));
        return static_cast<Distance>(radius);
    }
    template <typename Distance>
    void find(CodeView queries, std::uint32_t k, const AllowedIds* allow, const Levels* levels, double keep,
              int keep_mode, Distance* distances, std::int64_t* ids, gpu::Stream stream) const {
        std::optional<gpu::PrunedSearch> pruned;
        if (levels != nullptr)
            pruned.emplace(gpu::PrunedSearch{levels->table(), {keep, static_cast<KeepMode>(keep_mode)}});
        run([&](const Interrupt& interrupt) {
            gallery_->search(queries, k, entries_of(allow), pruned ? &*pruned : nullptr, distances, ids, stream,
                             interrupt);
        });
    }
    template <typename Distance>
    void find_within(CodeView queries, double radius, const AllowedIds* allow, const IdArray& offsets,
                     Distance* distances, std::int64_t* ids, gpu::Stream stream) const {
        run([&, sums = offsets.data()](const Interrupt& interrupt) {
            gallery_->range_search(queries, radius_as<Distance>(radius), entries_of(allow), sums, distances, ids,
                                   stream, interrupt);
        });
    }
    py::array_t<std::int64_t> count(CodeView queries, double radius, const AllowedIds* allow,
                                    gpu::Stream stream) const {
        py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(queries.n));
        const gpu::OnDevice on(device_);
        by_metric([&](auto distance) {
            run([&, data = counts.mutable_data()](const Interrupt& interrupt) {
                gallery_->count_within(queries, radius_as<decltype(distance)>(radius), entries_of(allow), data, stream,
                                       interrupt);
            });
        });
        return counts;
    }

    int device_;
    std::unique_ptr<gpu::Gallery> gallery_;
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
    py::class_<Levels>(module, "Levels")
        .def(py::init<int, const std::vector<std::pair<CodeArray, Words>>&, std::size_t>(), py::arg("device"),
             py::arg("nodes"), py::arg("n"))
        .def("nbytes", &Levels::nbytes);
    py::class_<Gallery>(module, "Gallery")
        .def(py::init<int, const Snapshot&, std::size_t, std::size_t, const Gallery*, std::size_t, std::size_t,
                      std::size_t>(),
             py::arg("device"), py::arg("snapshot"), py::arg("n_bits"), py::arg("room"),
             py::arg("previous") = py::none(), py::arg("share") = 0, py::arg("n_shares") = 1, py::arg("n_threads") = 1)
        .def_static("needed_bytes", &Gallery::needed_bytes, py::arg("snapshot"), py::arg("previous"), py::arg("share"),
                    py::arg("n_shares"))
        .def("nbytes", &Gallery::nbytes)
        .def("streamed", &Gallery::streamed)
        .def("n_segments", &Gallery::n_segments)
        .def("n_reused", &Gallery::n_reused)
        .def("allowed", &Gallery::allowed, py::arg("bits"))
        .def("search", &Gallery::search, py::arg("queries"), py::arg("k"), py::arg("allow") = py::none(),
             py::arg("levels") = py::none(), py::arg("keep") = 1.0, py::arg("keep_mode") = 0)
        .def("search_on_gpu", &Gallery::search_on_gpu, py::arg("queries"), py::arg("n"), py::arg("k"), py::arg("allow"),
             py::arg("levels"), py::arg("keep"), py::arg("keep_mode"), py::arg("distances"), py::arg("ids"),
             py::arg("stream"))
        .def("count_within", &Gallery::count_within, py::arg("queries"), py::arg("radius"), py::arg("allow"))
        .def("count_within_on_gpu", &Gallery::count_within_on_gpu, py::arg("queries"), py::arg("n"), py::arg("radius"),
             py::arg("allow"), py::arg("stream"))
        .def("range_search", &Gallery::range_search, py::arg("queries"), py::arg("radius"), py::arg("allow"),
             py::arg("offsets"))
        .def("range_search_on_gpu", &Gallery::range_search_on_gpu, py::arg("queries"), py::arg("n"), py::arg("radius"),
             py::arg("allow"), py::arg("offsets"), py::arg("distances"), py::arg("ids"), py::arg("stream"));
}

}  // namespace fasthash::python
