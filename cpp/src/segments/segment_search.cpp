#include "segments/segment_search.h"

#include <algorithm>

#include "fasthash/threads.h"
#include "search/pruned_search.h"
#include "search/safe_cuts.h"

namespace fasthash {
namespace {

// Threads for n pieces of work. num_threads() may be a system call, as slow as comparing thousands of codes; one piece
// of work does not need it.
std::size_t threads_for(std::size_t n) { return n <= 1 ? 1 : num_threads(); }

// Queries for each thread, rounded up.
std::size_t share_of_thread(std::size_t n) {
    const std::size_t n_threads = threads_for(n);
    return (n + n_threads - 1) / n_threads;
}

// Most queries of a block that is searched at once.
std::size_t most_queries(const Segment& segment, bool scanned, const SearchTask& task) {
    return scanned ? most_queries_at_once(task.queries.n_bytes, task.wanted) : segment.queries_at_once();
}

// Smallest chunk of codes worth a thread of its own.
constexpr std::size_t kMinChunkBytes = 1024 * 1024;

// Results of a block of queries.
struct Findings {
    Findings(const SearchTask& task, NumberRange queries, IdOrder order)
        : first(queries.begin), stats(task.stats != nullptr ? queries.size() : 0) {
        nearest.reserve(queries.size());
        for (std::size_t q = 0; q < queries.size(); ++q) {
            nearest.emplace_back(task.wanted, task.queries.n_bytes * 8, order);
        }
    }

    QueryBlock block(const SearchTask& task, bool leads) {
        const CodeView queries{task.queries.row(first), nearest.size(), task.queries.n_bytes};
        return {queries, nearest.data(), stats.empty() ? nullptr : stats.data(), leads, task.share};
    }
    void join(const Findings& other) {
        for (std::size_t q = 0; q < nearest.size(); ++q) nearest[q].push_all(other.nearest[q]);
        for (std::size_t q = 0; q < stats.size(); ++q) {
            stats[q].nodes_visited += other.stats[q].nodes_visited;
            stats[q].codes_compared += other.stats[q].codes_compared;
            stats[q].exact_to = std::min(stats[q].exact_to, other.stats[q].exact_to);
        }
    }
    void hand_over(const SearchTask& task) {
        for (std::size_t q = 0; q < nearest.size(); ++q) task.found(first + q, nearest[q]);
        if (!stats.empty()) std::copy(stats.begin(), stats.end(), task.stats + first);
    }

    std::size_t first;
    std::vector<TopK> nearest;
    std::vector<QueryStats> stats;
};

// How a search is divided: blocks of queries, and chunks of the codes that are scanned.
struct Division {
    std::vector<bool> scanned;  // for each segment
    std::size_t n_blocks, n_chunks;
};

Division divide(const std::vector<SearchedSegment>& segments, const SearchTask& task) {
    Division division{std::vector<bool>(segments.size()), 0, 0};
    const std::size_t n = task.queries.n, per_thread = n / std::min(n, threads_for(n));
    std::size_t scan_bytes = 0;
    for (std::size_t s = 0; s < segments.size(); ++s) {
        division.scanned[s] = segments[s].segment->scans(per_thread, task.wanted);
        if (division.scanned[s]) scan_bytes += segments[s].segment->scan_bytes();
    }
    const std::size_t most_chunks = scan_bytes / kMinChunkBytes, n_threads = threads_for(std::max(n, most_chunks));
    std::size_t per_block = 1;
    if (!segments.empty()) {
        per_block =
            std::min(most_queries(*segments[0].segment, division.scanned[0], task), (n + n_threads - 1) / n_threads);
    }
    division.n_blocks = (n + per_block - 1) / per_block;
    // With fewer blocks than threads, several threads share the scans of a block.
    const std::size_t n_threads_of_block = (n_threads + division.n_blocks - 1) / division.n_blocks;
    division.n_chunks = std::max<std::size_t>(1, std::min(n_threads_of_block, most_chunks));
    return division;
}

}  // namespace

void search_segments(const std::vector<SearchedSegment>& segments, IdOrder order, const SearchTask& task,
                     Stopper& stopper) {
    const std::size_t n = task.queries.n;
    if (n == 0) return;
    const Division division = divide(segments, task);
    const std::size_t n_blocks = division.n_blocks, n_chunks = division.n_chunks;
    if (n_chunks > 1 && segments.size() > 1) order = IdOrder::any;  // threads take chunks of all of them

    const auto search_chunk = [&](Findings& findings, std::size_t chunk) {
        for (std::size_t s = 0; s < segments.size() && !stopper.stopped(); ++s) {
            const QueryBlock block = findings.block(task, s == 0);
            if (division.scanned[s]) {
                segments[s].segment->scan_chunk(block, segments[s].visibility, chunk, n_chunks, stopper);
            } else if (chunk == 0) {
                segments[s].segment->search(block, segments[s].visibility, stopper);
            }
        }
    };
    const auto queries_of = [&](std::size_t block) { return chunk_of(n, n_blocks, block); };
    if (n_chunks == 1) {
        parallel_for(n_blocks, [&](std::size_t b) {
            Findings findings(task, queries_of(b), order);
            search_chunk(findings, 0);
            findings.hand_over(task);
        });
    } else {
        std::vector<Findings> findings;
        findings.reserve(n_blocks * n_chunks);
        for (std::size_t i = 0; i < n_blocks * n_chunks; ++i)
            findings.emplace_back(task, queries_of(i / n_chunks), order);
        parallel_for(findings.size(), [&](std::size_t i) { search_chunk(findings[i], i % n_chunks); });
        for (std::size_t b = 0; b < n_blocks; ++b) {
            for (std::size_t chunk = 1; chunk < n_chunks; ++chunk) {
                findings[b * n_chunks].join(findings[b * n_chunks + chunk]);
            }
            findings[b * n_chunks].hand_over(task);
        }
    }
    stopper.finish();
}

namespace {

bool is_scanned(const Segment& segment) { return segment.search_plan().plan == Plan::scan; }

void note_pruned(Findings& findings) {
    for (QueryStats& of_query : findings.stats) {
        of_query.plan = Plan::scan;
        of_query.pruned = true;
        of_query.exact_to = -1;
    }
}

// Answers queries by exact search where that gives the same result for certain; returns the others.
std::vector<std::size_t> search_safe(const Segment& segment, const LevelLayout& layout, const Pruning& pruning,
                                     const SearchTask& task, CutKind kind, Stopper& stopper) {
    const bool scanned = is_scanned(segment);
    const IdOrder order = scanned && segment.ids_ascend() ? IdOrder::ascending : IdOrder::any;
    const std::size_t n = task.queries.n;
    const std::size_t per_block = std::clamp<std::size_t>(share_of_thread(n), 1, most_queries(segment, scanned, task));
    const std::size_t n_blocks = (n + per_block - 1) / per_block;
    std::vector<std::vector<std::size_t>> left(n_blocks);
    parallel_for(n_blocks, [&](std::size_t b) {
        const NumberRange queries = chunk_of(n, n_blocks, b);
        const CodeView codes{task.queries.row(queries.begin), queries.size(), task.queries.n_bytes};
        const SafeCuts safe_cuts = segment.safe_cuts(codes, layout, pruning, task.wanted.k, kind);
        if (safe_cuts.empty()) {
            for (std::size_t q = queries.begin; q < queries.end; ++q) left[b].push_back(q);
            return;
        }
        Findings findings(task, queries, order);
        QueryBlock block = findings.block(task, true);
        block.safe_cuts = &safe_cuts;
        for (std::size_t q = 0; q < queries.size(); ++q) {
            if (safe_cuts.radius(q) < 0) findings.nearest[q].limit(-1);  // finds nothing
        }
        if (scanned) {
            segment.scan_chunk(block, {}, 0, 1, stopper);
        } else {
            segment.search(block, {}, stopper);
        }
        note_pruned(findings);
        for (std::size_t q = 0; q < queries.size(); ++q) {
            if (!findings.nearest[q].has_k()) {
                left[b].push_back(queries.begin + q);
                continue;
            }
            if (task.stats != nullptr) task.stats[queries.begin + q] = findings.stats[q];
            task.found(queries.begin + q, findings.nearest[q]);
        }
    });
    std::vector<std::size_t> all;
    for (const std::vector<std::size_t>& of_block : left) all.insert(all.end(), of_block.begin(), of_block.end());
    segment.safe_searches(pruning, kind).note(n, n - all.size());
    return all;
}

void search_trees(const Segment* segment, const LevelLayout& layout, const Pruning& pruning, const SearchTask& task,
                  Stopper& stopper) {
    const std::size_t per_block = std::clamp<std::size_t>(share_of_thread(task.queries.n), 1, kQueriesOfTree);
    const std::size_t n_blocks = (task.queries.n + per_block - 1) / per_block;
    parallel_for(n_blocks, [&](std::size_t b) {
        Findings findings(task, chunk_of(task.queries.n, n_blocks, b), IdOrder::any);
        Pruning of_block = pruning;
        if (of_block.cuts != nullptr) of_block.cuts += findings.first * (layout.n_levels() - 1);
        if (segment != nullptr) segment->search_pruned(findings.block(task, true), layout, of_block, stopper);
        note_pruned(findings);
        findings.hand_over(task);
    });
}

// Tries exact search within bounds of the cuts, then within the cuts, then the tree.
void try_from(CutKind kind, const Segment& segment, const LevelLayout& layout, const Pruning& pruning,
              const SearchTask& task, Stopper& stopper) {
    const auto go_on = [&](const SearchTask& left) {
        if (kind == CutKind::bounds) return try_from(CutKind::exact, segment, layout, pruning, left, stopper);
        search_trees(&segment, layout, pruning, left, stopper);
    };
    const std::size_t n = task.queries.n, n_bytes = task.queries.n_bytes;
    // A failed scan costs nearly as much as a search of the tree, other plans much less. For a small share, the tree
    // costs less than a scan.
    constexpr double kLeastOfScan = 0.5;
    const double least_successful = is_scanned(segment) ? 0.75 : 0.5;
    const bool is_small = is_scanned(segment) && pruning.keep < kLeastOfScan;
    if (is_small || !segment.safe_searches(pruning, kind).is_worthwhile(least_successful)) return go_on(task);
    const std::vector<std::size_t> left = search_safe(segment, layout, pruning, task, kind, stopper);
    if (left.empty()) return;
    if (left.size() == n) return go_on(task);
    Array<std::uint8_t> queries;
    for (const std::size_t q : left) queries.append(task.queries.row(q), n_bytes);
    std::vector<QueryStats> stats(task.stats != nullptr ? left.size() : 0);
    go_on({{queries.data(), left.size(), n_bytes},
           task.wanted,
           stats.empty() ? nullptr : stats.data(),
           [&](std::size_t q, TopK& nearest) { task.found(left[q], nearest); }});
    for (std::size_t q = 0; q < stats.size(); ++q) task.stats[left[q]] = stats[q];
}

}  // namespace

void search_levels(const Segment* segment, const LevelLayout& layout, Pruning pruning, const SearchTask& task,
                   Stopper& stopper) {
    if (segment == nullptr || pruning.cuts != nullptr) {
        search_trees(segment, layout, pruning, task, stopper);
    } else {
        try_from(CutKind::bounds, *segment, layout, pruning, task, stopper);
    }
    stopper.finish();
}

}  // namespace fasthash
