// Chooses the compiled kernel for a width.
//
// Used by the scan and by the search over clusters.
#pragma once

#include "gpu/popcount_scan.h"
#include "gpu/tensor_scan.h"

namespace fasthash::gpu {

template <typename T>
struct ScanType {
    using Scan = T;
};

/// Call use(ScanType<...>) with the kernel for codes of n_words; products only where takes_products allows them.
template <typename Use>
void with_scan(unsigned n_words, bool products, const Use& use) {
    switch (n_words) {
        case 1:
            return products ? use(ScanType<TensorScan<1>>{}) : use(ScanType<PopcountScan<1>>{});
        case 2:
            return products ? use(ScanType<TensorScan<2>>{}) : use(ScanType<PopcountScan<2>>{});
        case 4:
            return products ? use(ScanType<TensorScan<4>>{}) : use(ScanType<PopcountScan<4>>{});
        case 8:
            return products ? use(ScanType<TensorScan<8>>{}) : use(ScanType<PopcountScan<8>>{});
        default:
            return use(ScanType<PopcountScan<0>>{});
    }
}

}  // namespace fasthash::gpu
