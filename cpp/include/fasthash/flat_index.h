// FlatIndex: scans every code. The reference for all other indices, and the fastest one for few codes.
#pragma once

#include "fasthash/index.h"

namespace fasthash {

class FlatIndex final : public Index {
 public:
    /// n_bits: 1 to kMaxBits.
    explicit FlatIndex(std::size_t n_bits, Metric metric = Metric::hamming);

 private:
    friend class Index;

    explicit FlatIndex(std::unique_ptr<Impl> impl);
};

}  // namespace fasthash
