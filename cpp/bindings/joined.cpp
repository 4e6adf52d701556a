#include "joined.h"

namespace fasthash::python {

std::unique_ptr<Index> joined(const Index& index, const std::vector<const Index*>& indices, std::uint64_t next_id) {
    for (const Index* each : indices) {
        if (each == nullptr) throw ArgumentError("indices must not hold None");
    }
    return run([&](const Interrupt&) { return index.joined(indices, next_id); });
}

std::unique_ptr<Index> without(const Index& index, const IdArray& entries) {
    const std::size_t n = n_ids(entries);
    return run([&, data = entries.data()](const Interrupt&) { return index.without(data, n); });
}

IdArray entry_ids(const Index& index, const IdArray& entries) {
    const std::size_t n = n_ids(entries);
    IdArray ids(static_cast<py::ssize_t>(n));
    run([&, from = entries.data(), to = ids.mutable_data()](const Interrupt&) { index.entry_ids(from, n, to); });
    return ids;
}

py::tuple places(const Index& index, const IdArray& ids) {
    const std::size_t n = n_ids(ids);
    IdArray segments(static_cast<py::ssize_t>(n)), entries(static_cast<py::ssize_t>(n));
    run([&, from = ids.data(), to_segments = segments.mutable_data(),
         to_entries = entries.mutable_data()](const Interrupt&) { index.places(from, n, to_segments, to_entries); });
    return py::make_tuple(segments, entries);
}

}  // namespace fasthash::python
