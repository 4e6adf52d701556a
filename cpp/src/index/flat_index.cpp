#include "fasthash/flat_index.h"

#include "index/index_impl.h"

namespace fasthash {

FlatIndex::FlatIndex(std::size_t n_bits)
    : Index(std::make_unique<Impl>(LevelLayout({n_bits}), IndexSettings{IndexKind::flat, Memory::standard, {}})) {}

FlatIndex::FlatIndex(std::unique_ptr<Impl> impl) : Index(std::move(impl)) {}

}  // namespace fasthash
