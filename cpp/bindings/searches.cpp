#include "searches.h"

namespace fasthash::python {
namespace {

struct Found {
    Found(py::ssize_t rows, py::ssize_t columns) : distances({rows, columns}), ids({rows, columns}) {}

    py::array_t<std::int32_t> distances;
    py::array_t<std::int64_t> ids;
};

Found run_search(const Index& index, CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                 const IdFilter* allow, QueryStats* stats) {
    Found found(static_cast<py::ssize_t>(queries.n), static_cast<py::ssize_t>(k));
    std::int32_t* distances = found.distances.mutable_data();
    std::int64_t* ids = found.ids.mutable_data();
    run([&](const Interrupt& interrupt) {
        index.search(queries, k, pruning, allow, distances, ids, stats, interrupt);
    });
    return found;
}

// (plan, gave_up, nodes_visited, codes_compared)
py::tuple stats_tuple(const std::vector<QueryStats>& stats) {
    const auto n = static_cast<py::ssize_t>(stats.size());
    py::array_t<std::uint8_t> plan(n);
    py::array_t<bool> gave_up(n);
    py::array_t<std::int64_t> nodes_visited(n), codes_compared(n);
    for (py::ssize_t q = 0; q < n; ++q) {
        const QueryStats& of_query = stats[static_cast<std::size_t>(q)];
        plan.mutable_at(q) = static_cast<std::uint8_t>(of_query.plan);
        gave_up.mutable_at(q) = of_query.gave_up;
        nodes_visited.mutable_at(q) = of_query.nodes_visited;
        codes_compared.mutable_at(q) = of_query.codes_compared;
    }
    return py::make_tuple(plan, gave_up, nodes_visited, codes_compared);
}

}  // namespace

py::object search_exact(const Index& index, const py::object& queries, std::size_t k, const IdFilter* allow) {
    if (!py::isinstance<CodeArray>(queries)) return py::none();
    const auto array = py::reinterpret_borrow<CodeArray>(queries);
    if (array.ndim() != 2 || static_cast<std::size_t>(array.shape(1)) != index.layout().n_bytes()) return py::none();
    const Found found = run_search(index, code_view("queries", array), k, std::nullopt, allow, nullptr);
    return py::make_tuple(found.distances, found.ids);
}

py::tuple search(const Index& index, const CodeArray& queries, std::size_t k, std::optional<double> keep,
                 KeepMode keep_mode, const IdFilter* allow, const std::optional<CutArray>& cuts) {
    const CodeView view = code_view("queries", queries);
    std::optional<Pruning> pruning;
    if (keep) pruning = Pruning{*keep, keep_mode};
    if (cuts) {
        const auto n_cuts = static_cast<py::ssize_t>(index.layout().n_levels() - 1);
        if (cuts->ndim() != 2 || cuts->shape(0) != queries.shape(0) || cuts->shape(1) != n_cuts)
            throw ArgumentError("cuts must have shape (n queries, n levels - 1)");
        pruning = Pruning{1, keep_mode, cuts->data()};
    }
    std::vector<QueryStats> stats(view.n);
    const Found found = run_search(index, view, k, pruning, allow, stats.data());
    return py::make_tuple(found.distances, found.ids, stats_tuple(stats));
}

py::tuple range_search(const Index& index, const CodeArray& queries, std::int32_t radius, const IdFilter* allow) {
    const CodeView view = code_view("queries", queries);
    std::vector<QueryStats> stats(view.n);
    RangeResult found = run(
        [&](const Interrupt& interrupt) { return index.range_search(view, radius, allow, stats.data(), interrupt); });
    return py::make_tuple(to_array(std::move(found.offsets)), to_array(std::move(found.distances)),
                          to_array(std::move(found.ids)), stats_tuple(stats));
}

py::array_t<std::int64_t> count_within(const Index& index, const CodeArray& queries, std::int32_t radius,
                                       const IdFilter* allow) {
    const CodeView view = code_view("queries", queries);
    py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(view.n));
    std::int64_t* data = counts.mutable_data();
    run([&](const Interrupt& interrupt) { index.count_within(view, radius, allow, data, interrupt); });
    return counts;
}

}  // namespace fasthash::python
