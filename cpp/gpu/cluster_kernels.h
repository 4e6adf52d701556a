// The kernels of the exact search over clusters, by the triangle inequality (see search/cluster_search.h).
//
// Launched by cluster_search.cu. For a query q, a centroid c and a code x of its cluster, the distance of q and x is at
// least |d(q, c) - d(x, c)| and at least half of d(q, c) - d(q, c') for the centroid c' that is nearest to q.
#pragma once

#include "gpu/search_kernels.h"

namespace fasthash::gpu {

constexpr unsigned kClusterThreads = 256;
constexpr unsigned kOffsetThreads = 1024;
constexpr std::size_t kRowsOfTile = 2048;   // of a cluster, compared with a tile of queries by one block
constexpr std::size_t kQueriesOfTile = 64;  // as many as both scans take
constexpr unsigned kSampledClusters = 128;

/// A range of distances to a centroid, both ends included; empty if first > last.
struct Radii {
    int first;
    int last;
};

/// Clusters, on the device.
struct ClusterView {
    PlaneView centroids;
    std::uint32_t n;
    unsigned n_rings;                 ///< distances that a code can have to its centroid
    const std::uint32_t* ring_begin;  ///< of each cluster, its first row at each distance; last, the number of rows
    const std::uint32_t* radii;       ///< smallest distance of a row to the centroid, and 2^16 times the largest

    FASTHASH_DEVICE Radii radii_of(std::uint32_t cluster) const {
        return {static_cast<int>(radii[cluster] & 0xffff), static_cast<int>(radii[cluster] >> 16)};
    }
    FASTHASH_DEVICE std::uint32_t first_row(std::uint32_t cluster, int radius) const {
        return ring_begin[std::size_t{cluster} * n_rings + static_cast<unsigned>(radius)];
    }
    FASTHASH_DEVICE std::uint32_t n_rows(std::uint32_t cluster, const Radii& some) const {
        return some.first > some.last ? 0 : first_row(cluster, some.last + 1) - first_row(cluster, some.first);
    }
};

/// For each query: the distance of its nearest centroid, and the distance up to which clusters are visited first.
struct Nearness {
    std::uint32_t least;
    std::uint32_t reach;
};

/// Which clusters a query visits: those within its reach, or of the others those that can hold results.
enum class Visits { near, others, all };

struct ClusterTask {
    ClusterView clusters;
    SegmentView segment;
    unsigned n_words;
    unsigned n_bits;
    QueryView queries;
    Nearness* nearness;  ///< by query of the batch

    FASTHASH_DEVICE int distance(std::size_t query, std::uint32_t cluster) const {
        int sum = 0;
        for (unsigned w = 0; w < n_words; ++w) {
            sum += count_bits(clusters.centroids.word(cluster, w) ^ queries.words[query * n_words + w]);
        }
        return sum;
    }
    /// The radii at which rows of a cluster can enter the results of a query.
    FASTHASH_DEVICE Radii wanted(std::size_t query, std::uint32_t cluster, int d) const {
        const std::uint64_t threshold = queries.thresholds[query];
        if (threshold == 0) return {1, 0};
        const int most = key_distance(threshold - 1);  // the largest distance that can
        if ((d - static_cast<int>(nearness[query].least) + 1) / 2 > most) return {1, 0};
        const Radii radii = clusters.radii_of(cluster);
        return {d - most > radii.first ? d - most : radii.first, d + most < radii.last ? d + most : radii.last};
    }
    /// The rows of a cluster that a query visits.
    FASTHASH_DEVICE Radii visited(std::size_t query, std::uint32_t cluster, Visits visits) const {
        const int d = distance(query, cluster);
        const bool is_near = d <= static_cast<int>(nearness[query].reach);
        if (visits != Visits::all && is_near != (visits == Visits::near)) return {1, 0};
        return wanted(query, cluster, d);
    }
};

/// Finds the nearest centroid of each query and, if `n_sample` is not 0, the reach within which clusters hold so many
/// rows; their codes give the query its first threshold. One block for each query.
struct Approach {
    ClusterTask task;
    std::uint32_t n_sample;
    std::uint32_t k;
    std::uint64_t* thresholds;

    struct Shared {
        std::uint64_t least;
        std::uint32_t reach;
        std::uint32_t n_near;
        std::uint32_t near[kSampledClusters];
    };
    static std::size_t shared_bytes(unsigned n_bits) { return sizeof(Shared) + (n_bits + 1) * sizeof(std::uint32_t); }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        auto& shared = *static_cast<Shared*>(block.shared());
        auto* const counts = reinterpret_cast<std::uint32_t*>(&shared + 1);  // by distance: rows, then entries
        const std::size_t query = task.queries.number(block.x());
        clear(block, counts);
        if (block.thread() == 0) {
            shared.least = kNoKey;
            shared.n_near = 0;
        }
        block.sync();
        for (std::uint32_t c = block.thread(); c < task.clusters.n; c += block.n_threads()) {
            const int d = task.distance(query, c);
            lower_to(&shared.least, static_cast<std::uint64_t>(d));
            if (n_sample != 0) add_to(counts + d, task.clusters.n_rows(c, task.clusters.radii_of(c)));
        }
        block.sync();
        if (block.thread() == 0) {
            task.nearness[query] = {static_cast<std::uint32_t>(shared.least), 0};
            shared.reach = static_cast<std::uint32_t>(shared.least);
            std::uint32_t n_rows = counts[shared.reach];
            while (n_rows < n_sample && shared.reach < task.n_bits) n_rows += counts[++shared.reach];
            if (n_sample != 0) task.nearness[query].reach = shared.reach;
        }
        block.sync();
        if (n_sample != 0) sample(block, shared, counts, query);
    }

 private:
    FASTHASH_DEVICE void clear(const Block& block, std::uint32_t* counts) const {
        for (unsigned d = block.thread(); d <= task.n_bits; d += block.n_threads()) counts[d] = 0;
    }

    /// Lowers the threshold to the k-th distance of rows within reach: some, so that one large cluster does not take
    /// long.
    FASTHASH_DEVICE void sample(const Block& block, Shared& shared, std::uint32_t* counts, std::size_t query) const {
        clear(block, counts);
        for (std::uint32_t c = block.thread(); c < task.clusters.n; c += block.n_threads()) {
            if (task.distance(query, c) > static_cast<int>(shared.reach)) continue;
            const std::uint32_t place = add_to(&shared.n_near, 1);
            if (place < kSampledClusters) shared.near[place] = c;
        }
        block.sync();
        const std::uint32_t n_near = shared.n_near < kSampledClusters ? shared.n_near : kSampledClusters;
        for (std::uint32_t i = 0; i < n_near; ++i) {
            const Radii radii = task.clusters.radii_of(shared.near[i]);
            if (radii.first > radii.last) continue;
            const std::uint32_t first = task.clusters.first_row(shared.near[i], radii.first);
            const std::uint32_t n = task.clusters.n_rows(shared.near[i], radii);
            for (std::uint32_t row = block.thread(); row < n && row < n_sample; row += block.n_threads()) {
                count(counts, query, first + row);
            }
        }
        block.sync();
        if (block.thread() == 0) thresholds[query] = tightened(thresholds[query], counts, task.n_bits, k);
    }

    FASTHASH_DEVICE void count(std::uint32_t* counts, std::size_t query, std::uint32_t row) const {
        if (!task.queries.keeps(query, task.segment.codes, task.n_words, row)) return;
        const int d = task.queries.distance(query, task.segment.codes, task.n_words, row, 0, task.n_bits / 8);
        take_entries(task.segment, row, d, kNoKey, k, [&](std::uint64_t) { add_to(counts + d, 1); });
    }
};

/// The visits of some queries to clusters.
struct VisitLists {
    std::uint32_t* counts;       ///< queries that visit each cluster
    std::uint32_t* begins;       ///< of the queries of each cluster in `queries`; last, the number of visits
    std::uint32_t* tile_begins;  ///< of the tiles of each cluster; last, the number of tiles
    std::uint32_t* queries;      ///< their numbers in the batch
};

/// Counts the queries that visit each cluster. A query whose visits hold more than `most_rows` gives up: it visits
/// none. One block for each query.
struct CountVisits {
    ClusterTask task;
    Visits visits;
    std::uint64_t most_rows;
    VisitLists lists;
    std::uint8_t* flags;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        auto* const n_rows = static_cast<std::uint64_t*>(block.shared());
        const std::size_t query = task.queries.number(block.x());
        if (block.thread() == 0) *n_rows = 0;
        block.sync();
        if ((flags[query] & kGaveUp) != 0) return;
        std::uint64_t n_own = 0;
        for (std::uint32_t c = block.thread(); c < task.clusters.n; c += block.n_threads()) {
            n_own += task.clusters.n_rows(c, task.visited(query, c, visits));
        }
        add_to(n_rows, n_own);
        block.sync();
        if (*n_rows > most_rows) {
            if (block.thread() == 0) flags[query] |= kGaveUp;
            return;
        }
        for (std::uint32_t c = block.thread(); c < task.clusters.n; c += block.n_threads()) {
            if (task.clusters.n_rows(c, task.visited(query, c, visits)) != 0) add_to(lists.counts + c, 1);
        }
    }
};

/// Turns the counts of visits into places: of the queries of each cluster, and of its tiles. One block.
struct PlaceVisits {
    ClusterView clusters;
    VisitLists lists;

    static std::size_t shared_bytes() { return 2 * (kOffsetThreads + 1) * sizeof(std::uint32_t); }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        auto* const visits_of = static_cast<std::uint32_t*>(block.shared());  // of the clusters of each thread
        auto* const tiles_of = visits_of + block.n_threads() + 1;
        const std::uint32_t each = (clusters.n + block.n_threads() - 1) / block.n_threads();
        const std::uint32_t first = block.thread() * each < clusters.n ? block.thread() * each : clusters.n;
        const std::uint32_t end = first + each < clusters.n ? first + each : clusters.n;
        std::uint32_t n_visits = 0, n_tiles = 0;
        for (std::uint32_t c = first; c < end; ++c) {
            n_visits += lists.counts[c];
            n_tiles += tiles(c);
        }
        visits_of[block.thread() + 1] = n_visits;
        tiles_of[block.thread() + 1] = n_tiles;
        block.sync();
        if (block.thread() == 0) {
            visits_of[0] = tiles_of[0] = 0;
            for (unsigned t = 0; t < block.n_threads(); ++t) {
                visits_of[t + 1] += visits_of[t];
                tiles_of[t + 1] += tiles_of[t];
            }
            lists.begins[clusters.n] = visits_of[block.n_threads()];
            lists.tile_begins[clusters.n] = tiles_of[block.n_threads()];
        }
        block.sync();
        n_visits = visits_of[block.thread()];
        n_tiles = tiles_of[block.thread()];
        for (std::uint32_t c = first; c < end; ++c) {
            lists.begins[c] = n_visits;
            lists.tile_begins[c] = n_tiles;
            n_visits += lists.counts[c];
            n_tiles += tiles(c);
            lists.counts[c] = 0;  // ListVisits counts anew
        }
    }

 private:
    FASTHASH_DEVICE std::uint32_t tiles(std::uint32_t cluster) const {
        const std::uint32_t n_rows = clusters.n_rows(cluster, clusters.radii_of(cluster));
        return static_cast<std::uint32_t>((lists.counts[cluster] + kQueriesOfTile - 1) / kQueriesOfTile *
                                          ((n_rows + kRowsOfTile - 1) / kRowsOfTile));
    }
};

/// Lists the queries that visit each cluster. One block for each query.
struct ListVisits {
    ClusterTask task;
    Visits visits;
    VisitLists lists;
    const std::uint8_t* flags;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t query = task.queries.number(block.x());
        if ((flags[query] & kGaveUp) != 0) return;
        for (std::uint32_t c = block.thread(); c < task.clusters.n; c += block.n_threads()) {
            if (task.clusters.n_rows(c, task.visited(query, c, visits)) == 0) continue;
            lists.queries[lists.begins[c] + add_to(lists.counts + c, 1)] = static_cast<std::uint32_t>(query);
        }
    }
};

/// Compares tiles of queries with tiles of rows of the clusters that they visit: tiles of `least` to `most` queries.
/// Blocks take tiles in turn.
template <typename Scan>
struct CompareTiles {
    ClusterTask task;
    VisitLists lists;
    Candidates found;
    std::uint32_t k;
    std::uint32_t least;
    std::uint32_t most;

    struct Shared {
        std::uint32_t n;
        std::uint32_t queries[kQueriesOfTile];
    };
    static std::size_t shared_bytes(unsigned n_words) { return sizeof(Shared) + 16 + Scan::shared_bytes(n_words); }

    FASTHASH_KERNEL void operator()(const Block& block) const {
        static_assert(Scan::kQueries == kQueriesOfTile);
        auto& shared = *static_cast<Shared*>(block.shared());
        for (std::uint32_t tile = block.x(); tile < lists.tile_begins[task.clusters.n]; tile += block.n_x()) {
            const std::uint32_t c = cluster_of(tile);
            const std::uint32_t n_visits = lists.begins[c + 1] - lists.begins[c];
            const auto n_query_tiles = static_cast<std::uint32_t>((n_visits + kQueriesOfTile - 1) / kQueriesOfTile);
            const std::uint32_t place = tile - lists.tile_begins[c];
            const Radii radii = task.clusters.radii_of(c);
            const std::uint32_t end_of_cluster = task.clusters.first_row(c, radii.last + 1);
            const auto first = static_cast<std::uint32_t>(task.clusters.first_row(c, radii.first) +
                                                          place / n_query_tiles * kRowsOfTile);
            const std::uint32_t end =
                end_of_cluster - first < kRowsOfTile ? end_of_cluster : static_cast<std::uint32_t>(first + kRowsOfTile);
            const auto first_visit = static_cast<std::uint32_t>(place % n_query_tiles * kQueriesOfTile);
            if (block.thread() == 0) shared.n = 0;
            block.sync();
            for (std::uint32_t i = block.thread(); i < kQueriesOfTile && first_visit + i < n_visits;
                 i += block.n_threads()) {
                const std::uint32_t query = lists.queries[lists.begins[c] + first_visit + i];
                const Radii wanted = task.wanted(query, c, task.distance(query, c));
                if (task.clusters.first_row(c, wanted.first) < end &&
                    task.clusters.first_row(c, wanted.last + 1) > first) {
                    shared.queries[add_to(&shared.n, 1)] = query;
                }
            }
            block.sync();
            QueryView queries = task.queries;
            queries.numbers = shared.queries;
            queries.n = shared.n;
            auto* const memory = static_cast<unsigned char*>(block.shared()) + (sizeof(Shared) + 15) / 16 * 16;
            if (queries.n >= least && queries.n <= most) {
                Scan{{task.segment, task.n_words, first, end, queries, found, k}}.compare(
                    block, memory, 0, block.thread(), block.n_threads());
            }
            block.sync();  // before the next tile takes the shared memory
        }
    }

 private:
    FASTHASH_DEVICE std::uint32_t cluster_of(std::uint32_t tile) const {
        std::uint32_t low = 0, high = task.clusters.n;  // the last cluster whose tiles begin at or before this one
        while (high - low > 1) {
            const std::uint32_t middle = low + (high - low) / 2;
            (lists.tile_begins[middle] <= tile ? low : high) = middle;
        }
        return low;
    }
};

}  // namespace fasthash::gpu
