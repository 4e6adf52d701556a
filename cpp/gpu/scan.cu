#include <cstdlib>
#include <string>

#include "gpu/jaccard_scan.h"
#include "gpu/query_batch.h"
#include "gpu/scan.h"
#include "gpu/scan_kernels.h"
#include "gpu/tuning.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kWordsAtOnce = std::size_t{1} << 39;  // compared between interrupts: about 0.1 s

/// `n_rows`: that the threads compare.
template <typename Scan>
void launch_scan(const Scan& scan, std::size_t n_rows, Stream stream) {
    const std::size_t n_threads = (n_rows + Scan::kRowsAtOnce - 1) / Scan::kRowsAtOnce * Scan::kThreadsForRows;
    const std::size_t n_tiles = (scan.task.queries.n + Scan::kQueries - 1) / Scan::kQueries;
    launch(scan, {blocks_for(n_threads, kScanThreads), static_cast<unsigned>(n_tiles)}, kScanThreads,
           Scan::shared_bytes(scan.task.n_words), stream);
}

void launch_scan(const ScanTask& task, const QueryBatch& batch, bool products) {
    const std::size_t n_rows = task.end - task.first;
    if (batch.metric == Metric::jaccard) return launch_scan(JaccardScan{task}, n_rows, batch.stream);
    with_scan(batch.n_words, products,
              [&](auto type) { launch_scan(typename decltype(type)::Scan{task}, n_rows, batch.stream); });
}

/// Calls use(view, first, end) for blocks of codes in host memory. Copies the next block while the device works on one.
template <typename Use>
void for_blocks(const Planes& codes, std::size_t block_bytes, std::size_t first, std::size_t end, Stream stream,
                const Use& use) {
    const std::size_t row_bytes = codes.n_words() * sizeof(std::uint32_t);
    const std::size_t n_most =
        std::min(codes.stride() - first, std::max(kQuad, block_bytes / row_bytes / kQuad * kQuad));
    const Buffer<std::uint32_t> blocks[2] = {{n_most * codes.n_words(), stream}, {n_most * codes.n_words(), stream}};
    const SideStream copies;  // destroyed before the blocks, which its copies use
    const auto fetch = [&](std::size_t row, unsigned to) {
        const std::size_t n = std::min(n_most, codes.stride() - row);
        copy_rows(blocks[to].data(), n_most * sizeof(std::uint32_t), codes.words() + row,
                  codes.stride() * sizeof(std::uint32_t), n * sizeof(std::uint32_t), codes.n_words(), copies.get());
    };
    follow(copies.get(), stream);
    fetch(first, 0);
    for (unsigned at = 0; first < end; at = 1 - at) {
        const std::size_t block_end = std::min(end, first + n_most);
        follow(stream, copies.get());
        follow(copies.get(), stream);  // the other block is free once its kernels have finished
        if (block_end < end) fetch(block_end, 1 - at);
        use({blocks[at].data(), n_most, first}, first, block_end);
        first = block_end;
    }
}

/// The choice that an environment variable names; `best` if it is not set.
template <typename T>
T wanted(const char* variable, std::pair<const char*, T> first, std::pair<const char*, T> second) {
    const char* const value = std::getenv(variable);
    const std::string name = value == nullptr ? "" : value;
    if (name.empty()) return T::best;
    for (const auto& each : {first, second}) {
        if (name == each.first) return each.second;
    }
    throw ArgumentError(std::string(variable) + " must be '" + first.first + "' or '" + second.first + "', got '" +
                        name + "'");
}

}  // namespace

Unit wanted_unit() { return wanted<Unit>("FASTHASH_GPU_SCAN", {"popcount", Unit::popcount}, {"tensor", Unit::tensor}); }

GpuPlan wanted_plan() {
    return wanted<GpuPlan>("FASTHASH_GPU_PLAN", {"scan", GpuPlan::scan}, {"clusters", GpuPlan::clusters});
}

bool takes_products(Unit unit, unsigned n_words, std::size_t n_queries, std::size_t n_before, std::size_t k) {
    if (unit == Unit::popcount || (n_words != 1 && n_words != 2 && n_words != 4 && n_words != 8)) return false;
    return unit == Unit::tensor || (n_queries >= kProductQueries && n_before / kProductRowsPerK >= k);
}

void scan(const Planes& codes, const ScanSettings& settings, const QueryBatch& batch, const SegmentView& segment,
          NumberRange rows, const Selection& queries, std::size_t n_before) {
    batch.stopper.check();
    if (rows.begin >= rows.end) return;
    const bool products = takes_products(settings.unit, batch.n_words, queries.n, n_before, batch.k);
    const auto use = [&](PlaneView view, std::size_t block_first, std::size_t block_end) {
        SegmentView here = segment;
        here.codes = view;
        const std::size_t n_most =
            std::max(kWarpRows, kWordsAtOnce / batch.n_words / queries.n / kWarpRows * kWarpRows);
        while (block_first < block_end) {
            const std::size_t launch_end = std::min(block_end, block_first + n_most);
            const ScanTask task{here,   batch.n_words, block_first, launch_end, batch.view(queries), batch.candidates(),
                                batch.k};
            launch_scan(task, batch, products);
            if (launch_end < block_end) {
                finish(batch.stream);
                batch.stopper.check();
            }
            block_first = launch_end;
        }
    };
    if (codes.place() == Place::host) {
        for_blocks(codes, settings.block_bytes, rows.begin, rows.end, batch.stream, use);
    } else {
        use({codes.words(), codes.stride()}, rows.begin, rows.end);
    }
}

void scan_sample(const QueryBatch& batch, const SegmentView& segment, std::size_t n_rows, const Selection& queries,
                 std::size_t every) {
    batch.stopper.check();
    if (n_rows == 0) return;
    const ScanTask task{segment, batch.n_words, 0, n_rows, batch.view(queries), batch.candidates(), batch.k};
    launch_scan(JaccardScan{task, every}, n_rows / every, batch.stream);
}

}  // namespace fasthash::gpu
