// Planes: codes word by word. Plane w holds word w of all codes, so that neighbouring threads read neighbouring memory.
//
// Made from the byte-major groups in which segments hold codes, or can show them.
#pragma once

#include "codes/byte_major_codes.h"
#include "gpu/memory.h"
#include "gpu/staging.h"
#include "platform/number_range.h"

namespace fasthash::gpu {

constexpr std::size_t kQuad = 4;  // codes read by a thread in one load

inline std::size_t words_of(std::size_t n_bytes) { return (n_bytes + 3) / 4; }

/// Codes of a fixed width, in device memory or pinned host memory. Codes are padded with zero bytes to whole words.
class Planes {
 public:
    Planes() = default;
    /// The codes of these groups. They have arrived once staging.finish() returns.
    Planes(const GroupSource& codes, NumberRange groups, Staging& staging, Stream stream, Place place = Place::device);

    /// Bytes of the planes of n codes.
    static std::size_t bytes_for(std::size_t n, std::size_t n_bytes) {
        return (n + kQuad - 1) / kQuad * kQuad * words_of(n_bytes) * sizeof(std::uint32_t);
    }

    std::size_t n() const { return n_; }
    std::size_t n_bytes() const { return n_bytes_; }
    std::size_t n_words() const { return words_of(n_bytes_); }
    std::size_t device_nbytes() const { return words_.device_nbytes(); }
    Place place() const { return words_.place(); }
    /// Word w of row i is words()[w * stride() + i]; the stride is a multiple of kQuad.
    const std::uint32_t* words() const { return words_.data(); }
    std::size_t stride() const { return stride_; }

 private:
    std::size_t n_ = 0;
    std::size_t n_bytes_ = 0;
    std::size_t stride_ = 0;
    Buffer<std::uint32_t> words_;
};

}  // namespace fasthash::gpu
