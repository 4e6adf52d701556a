#include "fasthash/flat_index.h"

#include "fasthash/error.h"
#include "index/index_impl.h"

namespace fasthash {
namespace {

LevelLayout one_level(std::size_t n_bits) {
    if (n_bits < 8 || n_bits > kMaxBits || n_bits % 8 != 0) {
        throw ArgumentError("n_bits must be a multiple of 8 from 8 to 4096, got " + std::to_string(n_bits));
    }
    return LevelLayout({n_bits});
}

}  // namespace

FlatIndex::FlatIndex(std::size_t n_bits, Metric metric)
    : Index(std::make_unique<Impl>(one_level(n_bits), IndexSettings{IndexKind::flat, Memory::standard, {}, metric})) {}

FlatIndex::FlatIndex(std::unique_ptr<Impl> impl) : Index(std::move(impl)) {}

}  // namespace fasthash
