#include "searches.h"

#include <algorithm>

namespace fasthash::python {
namespace {

struct Found {
    Found(py::ssize_t rows, py::ssize_t columns) : distances({rows, columns}), ids({rows, columns}) {}

    py::array_t<std::int32_t> distances;
    py::array_t<std::int64_t> ids;
};

Found run_search(const Index& index, CodeView queries, std::size_t k, const std::optional<Pruning>& pruning,
                 std::optional<double> share, const IdFilter* allow, QueryStats* stats) {
    Found found(static_cast<py::ssize_t>(queries.n), static_cast<py::ssize_t>(k));
    std::int32_t* distances = found.distances.mutable_data();
    std::int64_t* ids = found.ids.mutable_data();
    run([&](const Interrupt& interrupt) {
        if (share) return index.search_share(queries, k, *share, allow, distances, ids, stats, interrupt);
        index.search(queries, k, pruning, allow, distances, ids, stats, interrupt);
    });
    return found;
}

std::uint8_t place_of_plan(const QueryStats& of_query) {
    constexpr std::uint8_t kGaveUp = 2, kPruned = 5, kClusters = 6;  // places in plan_names()
    if (of_query.pruned) return kPruned;
    if (of_query.plan == Plan::clusters) return kClusters;
    return static_cast<std::uint8_t>(static_cast<std::uint8_t>(of_query.plan) + (of_query.gave_up ? kGaveUp : 0));
}

// (plan, nodes_visited, codes_compared, exact_to), plan as a place in plan_names().
py::tuple stats_tuple(const std::vector<QueryStats>& stats, std::size_t n_bits) {
    const auto n = static_cast<py::ssize_t>(stats.size());
    py::array_t<std::uint8_t> plan(n);
    py::array_t<std::int32_t> exact_to(n);
    py::array_t<std::int64_t> nodes_visited(n), codes_compared(n);
    for (py::ssize_t q = 0; q < n; ++q) {
        const QueryStats& of_query = stats[static_cast<std::size_t>(q)];
        plan.mutable_at(q) = place_of_plan(of_query);
        nodes_visited.mutable_at(q) = of_query.nodes_visited;
        codes_compared.mutable_at(q) = of_query.codes_compared;
        exact_to.mutable_at(q) = std::min(of_query.exact_to, static_cast<std::int32_t>(n_bits));
    }
    return py::make_tuple(plan, nodes_visited, codes_compared, exact_to);
}

}  // namespace

std::vector<std::string> plan_names() {
    return {"scan", "prefix", "multi-index", "prefix+scan", "multi-index+scan", "pruned", "clusters"};
}

py::tuple search(const Index& index, const CodeArray& queries, std::size_t k, const Allow& allow, bool with_stats,
                 std::optional<double> keep, std::optional<KeepMode> keep_mode, const std::optional<CutArray>& cuts,
                 std::optional<double> share) {
    const CodeView view = code_view("queries", queries);
    std::optional<Pruning> pruning;
    const KeepMode mode = keep_mode.value_or(KeepMode::node_ratio);
    if (keep) pruning = Pruning{*keep, mode};
    if (cuts) {
        const auto n_cuts = static_cast<py::ssize_t>(index.layout().n_levels() - 1);
        if (cuts->ndim() != 2 || cuts->shape(0) != queries.shape(0) || cuts->shape(1) != n_cuts)
            throw ArgumentError("cuts must have shape (n queries, n levels - 1)");
        pruning = Pruning{1, mode, cuts->data()};
    }
    std::vector<QueryStats> stats(with_stats ? view.n : 0);
    const Found found =
        run_search(index, view, k, pruning, share, allow.value_or(nullptr), with_stats ? stats.data() : nullptr);
    return py::make_tuple(found.distances, found.ids,
                          with_stats ? py::object(stats_tuple(stats, index.layout().n_bits())) : py::none());
}

py::tuple range_search(const Index& index, const CodeArray& queries, std::int32_t radius, const Allow& allow) {
    const CodeView view = code_view("queries", queries);
    std::vector<QueryStats> stats(view.n);
    RangeResult found = run([&](const Interrupt& interrupt) {
        return index.range_search(view, radius, allow.value_or(nullptr), stats.data(), interrupt);
    });
    return py::make_tuple(to_array(std::move(found.offsets)), to_array(std::move(found.distances)),
                          to_array(std::move(found.ids)), stats_tuple(stats, index.layout().n_bits()));
}

py::array_t<std::int64_t> count_within(const Index& index, const CodeArray& queries, std::int32_t radius,
                                       const Allow& allow) {
    const CodeView view = code_view("queries", queries);
    py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(view.n));
    std::int64_t* data = counts.mutable_data();
    run([&](const Interrupt& interrupt) {
        index.count_within(view, radius, allow.value_or(nullptr), data, interrupt);
    });
    return counts;
}

py::tuple search_jaccard(const Index& index, const CodeArray& queries, std::size_t k, const Allow& allow,
                         bool with_stats) {
    const CodeView view = code_view("queries", queries);
    py::array_t<float> distances({static_cast<py::ssize_t>(view.n), static_cast<py::ssize_t>(k)});
    py::array_t<std::int64_t> ids({static_cast<py::ssize_t>(view.n), static_cast<py::ssize_t>(k)});
    std::vector<QueryStats> stats(with_stats ? view.n : 0);
    run([&, to_distances = distances.mutable_data(), to_ids = ids.mutable_data()](const Interrupt& interrupt) {
        index.search_jaccard(view, k, allow.value_or(nullptr), to_distances, to_ids,
                             with_stats ? stats.data() : nullptr, interrupt);
    });
    return py::make_tuple(distances, ids,
                          with_stats ? py::object(stats_tuple(stats, index.layout().n_bits())) : py::none());
}

py::tuple range_search_jaccard(const Index& index, const CodeArray& queries, double radius, const Allow& allow) {
    const CodeView view = code_view("queries", queries);
    std::vector<QueryStats> stats(view.n);
    JaccardRangeResult found = run([&](const Interrupt& interrupt) {
        return index.range_search_jaccard(view, radius, allow.value_or(nullptr), stats.data(), interrupt);
    });
    return py::make_tuple(to_array(std::move(found.offsets)), to_array(std::move(found.distances)),
                          to_array(std::move(found.ids)), stats_tuple(stats, index.layout().n_bits()));
}

py::array_t<std::int64_t> count_within_jaccard(const Index& index, const CodeArray& queries, double radius,
                                               const Allow& allow) {
    const CodeView view = code_view("queries", queries);
    py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(view.n));
    run([&, data = counts.mutable_data()](const Interrupt& interrupt) {
        index.count_within_jaccard(view, radius, allow.value_or(nullptr), data, interrupt);
    });
    return counts;
}

}  // namespace fasthash::python
