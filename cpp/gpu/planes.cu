#include <algorithm>

#include "gpu/planes.h"
#include "gpu/search_kernels.h"

namespace fasthash::gpu {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::size_t kBlockBytes = 64 << 20;  // codes copied in one step

/// Converts rows of bytes to planes of words.
struct Transpose {
    const std::uint8_t* rows;
    std::size_t n;
    std::size_t n_bytes;
    std::uint32_t* words;
    std::size_t stride;

    FASTHASH_KERNEL void operator()(const Block& block) const {
        const std::size_t n_words = (n_bytes + 3) / 4;
        const std::size_t step = block.threads_of_row();
        for (std::size_t i = block.thread_of_row(); i < n * n_words; i += step) {
            const std::size_t row = i % n, w = i / n;
            words[w * stride + row] = word_of_row(rows + row * n_bytes, n_bytes, w);
        }
    }
};

}  // namespace

Planes::Planes(CodeView codes, Stream stream, Place place)
    : n_(codes.n),
      n_bytes_(codes.n_bytes),
      stride_(bytes_for(codes.n, codes.n_bytes) / sizeof(std::uint32_t) / words_of(codes.n_bytes)),
      words_(stride_ * words_of(codes.n_bytes), stream, place) {
    const std::size_t n_at_once =
        std::max<std::size_t>(kQuad, std::min(stride_, kBlockBytes / n_bytes_ / kQuad * kQuad));
    Buffer<std::uint8_t> rows(n_at_once * n_bytes_, stream);
    Buffer<std::uint32_t> block(n_at_once * n_words(), stream);
    block.clear();  // the padding after the last code is read, but not used
    for (std::size_t first = 0; first < n_; first += n_at_once) {
        const std::size_t n = std::min(n_at_once, n_ - first);
        rows.load(codes.row(first), n * n_bytes_);
        const std::size_t n_blocks = (n * n_words() + kThreads - 1) / kThreads;
        launch(Transpose{rows.data(), n, n_bytes_, block.data(), n_at_once},
               {static_cast<unsigned>(std::min<std::size_t>(n_blocks, 65535))}, kThreads, 0, stream);
        const std::size_t n_copied = std::min(n_at_once, stride_ - first);
        copy_rows(words_.data() + first, stride_ * sizeof(std::uint32_t), block.data(),
                  n_at_once * sizeof(std::uint32_t), n_copied * sizeof(std::uint32_t), n_words(), stream);
    }
    finish(stream);  // the caller may free the codes after this
}

}  // namespace fasthash::gpu
