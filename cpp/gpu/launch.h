// What kernels are written against. Compiled by nvcc this is CUDA; compiled by any C++ compiler it is its twin on the
// CPU, which runs the same kernels for the tests.
#pragma once

#include "gpu/memory.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define FASTHASH_DEVICE __device__ __forceinline__
#define FASTHASH_ANYWHERE __host__ __device__ __forceinline__
#define FASTHASH_KERNEL __device__
#else
#include "gpu/twin.h"
#define FASTHASH_DEVICE inline
#define FASTHASH_ANYWHERE inline
#define FASTHASH_KERNEL
#endif

namespace fasthash::gpu {

struct Grid {
    unsigned x = 1;
    unsigned y = 1;
};

#ifdef __CUDACC__

/// Throws DeviceError if the last kernel could not be started.
void check_launch();

/// The threads of a block, seen by one of them.
class Block {
 public:
    FASTHASH_DEVICE unsigned x() const { return blockIdx.x; }
    FASTHASH_DEVICE unsigned y() const { return blockIdx.y; }
    FASTHASH_DEVICE unsigned n_x() const { return gridDim.x; }
    /// Number of this thread among those of all blocks along x, and how many they are.
    FASTHASH_DEVICE std::size_t thread_of_row() const { return std::size_t{x()} * n_threads() + thread(); }
    FASTHASH_DEVICE std::size_t threads_of_row() const { return std::size_t{n_x()} * n_threads(); }
    FASTHASH_DEVICE unsigned thread() const { return threadIdx.x; }
    FASTHASH_DEVICE unsigned n_threads() const { return blockDim.x; }
    FASTHASH_DEVICE void sync() const { __syncthreads(); }
    /// Memory that the block's threads share, as much as the launch asked for.
    FASTHASH_DEVICE void* shared() const {
        extern __shared__ __align__(16) unsigned char memory[];
        return memory;
    }
};

FASTHASH_DEVICE std::uint32_t add_to(std::uint32_t* counter, std::uint32_t n) { return atomicAdd(counter, n); }
FASTHASH_DEVICE int count_bits(std::uint32_t word) { return __popc(word); }

template <typename Kernel>
__global__ void run_kernel(const Kernel kernel) {
    kernel(Block{});
}

template <typename Kernel>
void launch(const Kernel& kernel, Grid grid, unsigned n_threads, std::size_t shared_bytes, Stream stream) {
    run_kernel<<<dim3(grid.x, grid.y), n_threads, shared_bytes, stream>>>(kernel);
    check_launch();
}

#else

FASTHASH_DEVICE std::uint32_t add_to(std::uint32_t* counter, std::uint32_t n) {
    const std::uint32_t before = *counter;  // the twin runs one thread at a time
    *counter += n;
    return before;
}
FASTHASH_DEVICE int count_bits(std::uint32_t word) { return __builtin_popcount(word); }

template <typename Kernel>
void launch(const Kernel& kernel, Grid grid, unsigned n_threads, std::size_t shared_bytes, Stream) {
    // A kernel is right with any number of threads, and few take turns faster.
    run_blocks(grid.x, grid.y, n_threads < 32 ? n_threads : 32, shared_bytes,
               [&](const Block& block) { kernel(block); });
}

#endif

}  // namespace fasthash::gpu
