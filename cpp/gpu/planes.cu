#include "gpu/planes.h"
#include "gpu/search_kernels.h"

namespace fasthash::gpu {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{1} << 18;  // codes that a thread prepares at a time

/// Converts byte-major groups to planes of words.
struct FromGroups {
    const std::uint8_t* groups;
    std::size_t n;  ///< rows
    std::size_t n_bytes;
    std::uint32_t* words;
    std::size_t stride;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t n_words = (n_bytes + 3) / 4;
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n * n_words; i += step) {
            const std::size_t row = i % n, w = i / n;
            const std::uint8_t* const bytes = groups + row / kGroup * kGroup * n_bytes + row % kGroup;
            std::uint32_t word = 0;
            for (std::size_t b = 4 * w; b < 4 * w + 4 && b < n_bytes; ++b) {
                word |= std::uint32_t{bytes[b * kGroup]} << 8 * (b % 4);
            }
            words[w * stride + row] = word;
        }
    }
};

}  // namespace

Planes::Planes(const GroupSource& codes, NumberRange groups, Staging& staging, Stream stream, Place place)
    : n_(std::min(codes.size(), groups.end * kGroup) - std::min(codes.size(), groups.begin * kGroup)),
      n_bytes_(codes.n_bytes()),
      stride_((n_ + kQuad - 1) / kQuad * kQuad),
      words_(stride_ * words_of(n_bytes_), stream, place) {
    staging.follow_caller();
    const WaitOnError guard([&] { staging.finish(); });
    const std::size_t group_bytes = kGroup * n_bytes_;
    const std::size_t at_once = staging.buffer_bytes() / group_bytes,
                      piece = std::max<std::size_t>(1, kPieceBytes / group_bytes);
    for (std::size_t first = groups.begin; first < groups.end; first += at_once) {
        const std::size_t n_groups = std::min(at_once, groups.end - first);
        const auto fill = [&](std::uint8_t* to) {
            parallel_for((n_groups + piece - 1) / piece, [&](std::size_t i) {
                const std::size_t begin = i * piece, n_here = std::min(piece, n_groups - begin);
                Array<std::uint8_t> scratch;
                std::memcpy(to + begin * group_bytes, codes.groups(first + begin, n_here, scratch),
                            n_here * group_bytes);
            });
        };
        const auto convert = [&](const std::uint8_t* sent, Stream on) {
            const std::size_t row = (first - groups.begin) * kGroup;
            const FromGroups kernel{sent, std::min(n_groups * kGroup, stride_ - row), n_bytes_, words_.data() + row,
                                    stride_};
            launch(kernel, {blocks_for(kernel.n * n_words(), kScanThreads)}, kScanThreads, 0, on);
        };
        staging.pass(n_groups * group_bytes, fill, convert);
    }
}

}  // namespace fasthash::gpu
