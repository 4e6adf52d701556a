#include "fasthash/flat_index.h"

#include "fasthash/error.h"
#include "index/index_impl.h"

namespace fasthash {
namespace {

LevelLayout one_level(std::size_t n_bits) {
    if (n_bits < 1 || n_bits > kMaxBits) {
        throw ArgumentError("n_bits must be from 1 to " + std::to_string(kMaxBits) + ", got " + std::to_string(n_bits));
    }
    return LevelLayout({n_bits});
}

}  // namespace

FlatIndex::FlatIndex(std::size_t n_bits, Metric metric)
    : Index(std::make_unique<Impl>(one_level(n_bits), IndexSettings{IndexKind::flat, Memory::standard, {}, metric})) {}

FlatIndex::FlatIndex(std::unique_ptr<Impl> impl) : Index(std::move(impl)) {}

}  // namespace fasthash
