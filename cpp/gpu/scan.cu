#include <cstdlib>
#include <string>

#include "gpu/popcount_scan.h"
#include "gpu/query_batch.h"
#include "gpu/scan.h"
#include "gpu/tensor_scan.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kTensorFrom = 32;                     // queries; fewer would leave most of a product empty
constexpr std::size_t kPairsAtOnce = std::size_t{1} << 38;  // pairs compared between interrupts: about 0.1 s

template <typename Kernel>
void launch_scan(const Kernel& kernel, std::size_t n_threads, unsigned n_queries, std::size_t shared_bytes,
                 Stream stream) {
    const std::size_t n = kernel.task.queries.n;
    launch(kernel, {blocks_for(n_threads, kScanThreads), static_cast<unsigned>((n + n_queries - 1) / n_queries)},
           kScanThreads, shared_bytes, stream);
}

template <unsigned kWords>
void launch_popcount(const ScanTask& task, Stream stream) {
    launch_scan(PopcountScan<kWords>{task}, (task.end - task.first + kQuad - 1) / kQuad, kTile,
                PopcountScan<kWords>::shared_bytes(task.n_words), stream);
}

template <unsigned kWords>
void launch_tensor(const ScanTask& task, Stream stream) {
    launch_scan(TensorScan<kWords>{task}, (task.end - task.first + kWarpRows - 1) / kWarpRows * kWarp, kTensorQueries,
                0, stream);
}

/// Scan by tensor cores; false if the width is not supported.
bool scan_by_products(const ScanTask& task, Stream stream) {
    switch (task.n_words) {
        case 1:
            return launch_tensor<1>(task, stream), true;
        case 2:
            return launch_tensor<2>(task, stream), true;
        case 4:
            return launch_tensor<4>(task, stream), true;
        case 8:
            return launch_tensor<8>(task, stream), true;
        default:
            return false;
    }
}

void scan_by_popcounts(const ScanTask& task, Stream stream) {
    switch (task.n_words) {
        case 1:
            return launch_popcount<1>(task, stream);
        case 2:
            return launch_popcount<2>(task, stream);
        case 4:
            return launch_popcount<4>(task, stream);
        case 8:
            return launch_popcount<8>(task, stream);
        default:
            return launch_popcount<0>(task, stream);
    }
}

/// Chooses the kernel of a scan.
void scan_block(const ScanTask& task, Unit unit, Stream stream) {
    const bool products = unit == Unit::tensor || (unit == Unit::best && task.queries.n >= kTensorFrom);
    if (!products || !scan_by_products(task, stream)) scan_by_popcounts(task, stream);
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

}  // namespace

Unit wanted_unit() {
    const char* const wanted = std::getenv("FASTHASH_GPU_SCAN");
    const std::string name = wanted == nullptr ? "" : wanted;
    if (name.empty()) return Unit::best;
    if (name == "popcount") return Unit::popcount;
    if (name == "tensor") return Unit::tensor;
    throw ArgumentError("FASTHASH_GPU_SCAN must be 'popcount' or 'tensor', got '" + name + "'");
}

void scan(const Planes& codes, const ScanSettings& settings, const QueryBatch& batch, const SegmentView& segment,
          NumberRange rows, std::size_t query, std::size_t n) {
    batch.stopper.check();
    if (rows.begin >= rows.end) return;
    const auto use = [&](PlaneView view, std::size_t block_first, std::size_t block_end) {
        SegmentView here = segment;
        here.codes = view;
        const std::size_t n_most = std::max(kWarpRows, kPairsAtOnce / n / kWarpRows * kWarpRows);
        while (block_first < block_end) {
            const std::size_t launch_end = std::min(block_end, block_first + n_most);
            scan_block(
                {here, batch.n_words, block_first, launch_end, batch.view(query, n), batch.candidates(query), batch.k},
                settings.unit, batch.stream);
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

}  // namespace fasthash::gpu
