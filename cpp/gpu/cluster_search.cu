#include "gpu/cluster_kernels.h"
#include "gpu/cluster_search.h"
#include "gpu/clusters.h"
#include "gpu/query_batch.h"
#include "gpu/scan_kernels.h"
#include "gpu/tuning.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kVisitBytes = std::size_t{256} << 20;  // lists of visits, if every query visits every cluster
constexpr std::size_t kTileBlocks = 4096;

/// A search of one segment for some queries of a batch.
class ClusterSearch {
 public:
    ClusterSearch(const GpuSegment& segment, const SegmentView& view, const ScanSettings& settings,
                  const QueryBatch& batch, const Selection& some)
        : batch_(batch),
          settings_(settings),
          some_(some),
          n_rows_(segment.n_rows()),
          n_clusters_(segment.clusters()->n()),
          task_{segment.clusters()->view(), view,   batch.n_words, static_cast<unsigned>(segment.codes().n_bytes() * 8),
                batch.view(some),           nullptr} {
        arena_.reserve(task_.nearness, batch.n);
        arena_.reserve(lists_.counts, n_clusters_);
        arena_.reserve(lists_.begins, n_clusters_ + 1);
        arena_.reserve(lists_.tile_begins, n_clusters_ + 1);
        arena_.reserve(lists_.queries, some.n * n_clusters_);
        arena_.allocate(batch.stream);
    }

    /// `n_sample`: rows that give the first threshold; 0 for queries that have one.
    void approach(std::size_t n_sample) {
        launch(Approach{task_, static_cast<std::uint32_t>(std::min(n_sample, n_rows_)), batch_.k, batch_.thresholds},
               {static_cast<unsigned>(some_.n)}, kClusterThreads, Approach::shared_bytes(task_.n_bits), batch_.stream);
    }

    void visit(Visits visits, std::size_t most_rows) {
        batch_.stopper.check();
        const Grid of_queries{static_cast<unsigned>(some_.n)};
        fill_bytes(lists_.counts, 0, n_clusters_ * sizeof(std::uint32_t), batch_.stream);
        launch(CountVisits{task_, visits, most_rows, lists_, batch_.flags}, of_queries, kClusterThreads,
               sizeof(std::uint64_t), batch_.stream);
        launch(PlaceVisits{task_.clusters, lists_}, {}, kOffsetThreads, PlaceVisits::shared_bytes(), batch_.stream);
        launch(ListVisits{task_, visits, lists_, batch_.flags}, of_queries, kClusterThreads, 0, batch_.stream);
        const std::size_t most_tiles =
            (n_rows_ / kRowsOfTile + n_clusters_) * ((some_.n + kQueriesOfTile - 1) / kQueriesOfTile);
        const auto n_blocks = static_cast<unsigned>(std::min(most_tiles, kTileBlocks));
        // A tile of many queries is compared by products, others by popcounts: the host does not know which there are.
        const bool all = takes_products(settings_.unit, batch_.n_words, 0, 0, 1);
        const bool some = takes_products(settings_.unit, batch_.n_words, some_.n, n_rows_, 1);
        const std::uint32_t from = all ? 1 : some ? kProductQueries : kQueriesOfTile + 1;
        if (from > 1) compare(false, 1, from - 1, n_blocks);
        if (some) compare(true, from, kQueriesOfTile, n_blocks);
    }

    std::size_t most_rows() const { return n_rows_ / kGiveUp; }

 private:
    void compare(bool products, std::uint32_t least, std::uint32_t most, unsigned n_blocks) {
        with_scan(batch_.n_words, products, [&](auto type) {
            using Compare = CompareTiles<typename decltype(type)::Scan>;
            launch(Compare{task_, lists_, batch_.candidates(), batch_.k, least, most}, {n_blocks}, kClusterThreads,
                   Compare::shared_bytes(batch_.n_words), batch_.stream);
        });
    }

    const QueryBatch& batch_;
    const ScanSettings& settings_;
    const Selection some_;
    const std::size_t n_rows_;
    const std::size_t n_clusters_;
    ClusterTask task_;
    VisitLists lists_{};
    Arena arena_;
};

/// Calls use(search) for groups of queries whose lists fit.
template <typename Use>
void for_groups(const GpuSegment& segment, const SegmentView& view, const ScanSettings& settings,
                const QueryBatch& batch, const Use& use) {
    const std::size_t most = std::max<std::size_t>(1, kVisitBytes / (segment.clusters()->n() * sizeof(std::uint32_t)));
    if (batch.n <= most) {
        ClusterSearch search(segment, view, settings, batch, batch.all());
        return use(search, batch.all());
    }
    std::vector<std::uint32_t> numbers(batch.n);
    for (std::size_t i = 0; i < batch.n; ++i) numbers[i] = static_cast<std::uint32_t>(i);
    const Buffer<std::uint32_t> on_device = loaded(numbers.data(), batch.n, batch.stream);
    for (std::size_t first = 0; first < batch.n; first += most) {
        const Selection some{on_device.data() + first, std::min(most, batch.n - first)};
        ClusterSearch search(segment, view, settings, batch, some);
        use(search, some);
    }
    finish(batch.stream);  // before the numbers are freed
}

}  // namespace

Clusters::Clusters(const ArrangedCodes& codes, NumberRange rows, Staging& staging, Stream stream) {
    const WaitOnError guard([&] { staging.finish(); });
    const CodeView centroids = codes.centroids();
    Array<std::uint8_t> copied(centroids.n * centroids.n_bytes);
    std::copy_n(centroids.data, copied.size(), copied.data());
    const ByteMajorCodes groups = ByteMajorCodes::from_rows(std::move(copied), centroids.n_bytes);
    centroids_ = Planes(groups, {0, groups.n_groups()}, staging, stream);
    const std::size_t n_rings = centroids.n_bytes * 8 + 1;
    std::vector<std::uint32_t> begins, radii;
    for (const std::uint32_t row : codes.ring_begin()) {
        begins.push_back(static_cast<std::uint32_t>(std::clamp<std::size_t>(row, rows.begin, rows.end) - rows.begin));
    }
    for (std::size_t c = 0; c < centroids.n; ++c) {
        const std::uint32_t* const begin = begins.data() + c * n_rings;
        std::size_t first = 0, last = n_rings - 1;
        while (first < n_rings && begin[first] == begin[first + 1]) ++first;
        while (last > 0 && begin[last] == begin[last + 1]) --last;
        radii.push_back(static_cast<std::uint32_t>(first == n_rings ? 1 : first | last << 16));  // 1, 0: none
    }
    ring_begin_ = loaded(begins.data(), begins.size(), stream);
    radii_ = loaded(radii.data(), radii.size(), stream);
    finish(stream);  // before the vectors are freed
}

ClusterView Clusters::view() const {
    return {{centroids_.words(), centroids_.stride()},
            static_cast<std::uint32_t>(n()),
            static_cast<unsigned>(centroids_.n_bytes() * 8 + 1),
            ring_begin_.data(),
            radii_.data()};
}

void search_clusters(const GpuSegment& segment, const SegmentView& view, const ScanSettings& settings,
                     const QueryBatch& batch, bool first) {
    for_groups(segment, view, settings, batch, [&](ClusterSearch& search, const Selection& some) {
        search.approach(first ? std::max(kSampleRows, kSampleRowsPerK * batch.k) : 0);
        if (first) {
            search.visit(Visits::near, segment.n_rows());
            tighten(batch, some);
        }
        search.visit(first ? Visits::others : Visits::all, search.most_rows());
        tighten(batch, some);
    });
}

void compare_clusters(const GpuSegment& segment, const SegmentView& view, const ScanSettings& settings,
                      const QueryBatch& batch) {
    for_groups(segment, view, settings, batch, [&](ClusterSearch& search, const Selection&) {
        search.approach(0);
        search.visit(Visits::all, search.most_rows());
    });
}

}  // namespace fasthash::gpu
