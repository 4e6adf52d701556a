#include "segments/jaccard_search.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "fasthash/threads.h"
#include "search/jaccard_scan.h"
#include "segments/bit_major_segment.h"

namespace fasthash {
namespace {

// Queries that read a block of codes while it is in the cache.
constexpr std::size_t kMostQueries = 512;
// Fewest codes worth a thread of their own.
constexpr std::size_t kMinChunkCodes = 16 * BitMajorCodes::kBlock;

// Numbers of the queries in the order of their number of bits set, so that those of a block visit the same codes.
std::vector<std::size_t> by_bits_set(CodeView queries) {
    std::vector<std::size_t> n_set(queries.n), order(queries.n);
    for (std::size_t q = 0; q < queries.n; ++q) n_set[q] = count_set(queries.row(q), queries.n_bytes);
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return n_set[a] < n_set[b]; });
    return order;
}

// Results of some queries over a chunk of the codes.
struct Findings {
    std::vector<JaccardTopK> nearest;
    std::vector<QueryStats> stats;

    void join(const Findings& other) {
        for (std::size_t i = 0; i < nearest.size(); ++i) {
            nearest[i].push_all(other.nearest[i]);
            stats[i].codes_compared += other.stats[i].codes_compared;
        }
    }
};

}  // namespace

void search_jaccard(const std::vector<SearchedSegment>& segments, const JaccardTask& task, Stopper& stopper) {
    const std::size_t n = task.queries.n, n_bytes = task.queries.n_bytes, n_threads = num_threads();
    if (n == 0) return;
    std::size_t n_codes = 0;
    for (const SearchedSegment& each : segments) n_codes += each.segment->n_entries();
    const std::size_t per_block = std::min(kMostQueries, (n + n_threads - 1) / n_threads);
    const std::size_t n_blocks = (n + per_block - 1) / per_block;
    // With fewer blocks of queries than threads, several threads share the codes.
    const std::size_t n_chunks =
        std::max<std::size_t>(1, std::min((n_threads + n_blocks - 1) / n_blocks, n_codes / kMinChunkCodes));
    const std::vector<std::size_t> order = by_bits_set(task.queries);

    std::vector<Findings> findings(n_blocks * n_chunks);
    const auto queries_of = [&](std::size_t i) { return chunk_of(n, n_blocks, i / n_chunks); };
    const auto search_chunk = [&](std::size_t i) {
        const NumberRange numbers = queries_of(i);
        Array<std::uint8_t> rows(numbers.size() * n_bytes);
        for (std::size_t q = 0; q < numbers.size(); ++q) {
            std::memcpy(rows.data() + q * n_bytes, task.queries.row(order[numbers.begin + q]), n_bytes);
        }
        const JaccardQueries queries({rows.data(), numbers.size(), n_bytes});
        Findings& own = findings[i];
        own.nearest.assign(numbers.size(), JaccardTopK(task.k, task.radius, task.count_only));
        own.stats.resize(numbers.size());
        for (const SearchedSegment& each : segments) {
            const BitMajorSegment& segment = *each.segment->bit_major();
            scan_jaccard({segment.codes(), segment, each.visibility}, queries, i % n_chunks, n_chunks,
                         own.nearest.data(), own.stats.data(), stopper);
        }
    };
    const auto hand_over = [&](std::size_t i) {
        for (std::size_t chunk = 1; chunk < n_chunks; ++chunk) findings[i].join(findings[i + chunk]);
        const NumberRange numbers = queries_of(i);
        for (std::size_t q = 0; q < numbers.size(); ++q) {
            const std::size_t query = order[numbers.begin + q];
            if (task.stats != nullptr) task.stats[query] = findings[i].stats[q];
            task.found(query, findings[i].nearest[q]);
        }
        findings[i] = {};
    };
    parallel_for(findings.size(), [&](std::size_t i) {
        search_chunk(i);
        if (n_chunks == 1) hand_over(i);
    });
    stopper.finish();
    if (n_chunks == 1) return;
    for (std::size_t block = 0; block < n_blocks; ++block) hand_over(block * n_chunks);
}

}  // namespace fasthash
