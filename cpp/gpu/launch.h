// The kernel interface: blocks, threads, warp operations, launches.
//
// Included by all kernels. nvcc compiles it to CUDA; other compilers to the emulator, which runs the same kernels in
// tests.
#pragma once

#include "gpu/memory.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define FASTHASH_DEVICE __device__ __forceinline__
#define FASTHASH_ANYWHERE __host__ __device__ __forceinline__
#define FASTHASH_KERNEL __device__
#define FASTHASH_UNROLL _Pragma("unroll")
#else
#include "gpu/emulator.h"
#define FASTHASH_DEVICE inline
#define FASTHASH_ANYWHERE inline
#define FASTHASH_KERNEL
#define FASTHASH_UNROLL
#endif

namespace fasthash::gpu {

struct Grid {
    unsigned x = 1;
    unsigned y = 1;
};

#ifdef __CUDACC__

/// Throws DeviceError if the last kernel could not be started.
void check_launch();

/// The block of the running thread, and its place in it.
class Block {
 public:
    FASTHASH_DEVICE unsigned x() const { return blockIdx.x; }
    FASTHASH_DEVICE unsigned y() const { return blockIdx.y; }
    FASTHASH_DEVICE unsigned n_x() const { return gridDim.x; }
    /// Index of this thread among the threads of all blocks along x, and their number.
    FASTHASH_DEVICE std::size_t thread_of_row() const { return std::size_t{x()} * n_threads() + thread(); }
    FASTHASH_DEVICE std::size_t threads_of_row() const { return std::size_t{n_x()} * n_threads(); }
    FASTHASH_DEVICE unsigned thread() const { return threadIdx.x; }
    FASTHASH_DEVICE unsigned n_threads() const { return blockDim.x; }
    FASTHASH_DEVICE void sync() const { __syncthreads(); }
    FASTHASH_DEVICE void sync_warp() const { __syncwarp(); }
    /// Shared memory of the block, of the size given at launch.
    FASTHASH_DEVICE void* shared() const {
        extern __shared__ __align__(16) unsigned char memory[];
        return memory;
    }
};

FASTHASH_DEVICE std::uint32_t add_to(std::uint32_t* counter, std::uint32_t n) { return atomicAdd(counter, n); }
FASTHASH_DEVICE void add_to(std::uint64_t* counter, std::uint64_t n) {
    atomicAdd(reinterpret_cast<unsigned long long*>(counter), static_cast<unsigned long long>(n));
}
/// Lowers a value to `n`, if that is less.
FASTHASH_DEVICE void lower_to(std::uint64_t* value, std::uint64_t n) {
    atomicMin(reinterpret_cast<unsigned long long*>(value), static_cast<unsigned long long>(n));
}
FASTHASH_DEVICE int count_bits(std::uint32_t word) { return __popc(word); }
/// The quotient rounded to nearest, whatever the compiler's flags.
FASTHASH_DEVICE float divided(float a, float b) { return __fdiv_rn(a, b); }

// Warp operations, called by all lanes together:
/// For each lane of 4 g .. 4 g + 3, the sum of the values of these four lanes.
FASTHASH_DEVICE std::uint32_t sum_of_four_lanes(const Block&, std::uint32_t value) {
    value += __shfl_xor_sync(~0u, value, 1);
    return value + __shfl_xor_sync(~0u, value, 2);
}
/// The `value` of one lane.
FASTHASH_DEVICE std::uint32_t value_of_lane(const Block&, std::uint32_t value, unsigned lane) {
    return __shfl_sync(~0u, value, static_cast<int>(lane));
}
/// Bit-matrix product (mma.m16n8k128 with AND and popcount): adds the numbers of common bits of rows (16, 128 bits) and
/// columns (128 bits, 8) to sums (16, 8). Lane 4 g + t holds word t of rows g and g + 8, word t of column g, and the
/// sums of these rows with columns 2 t and 2 t + 1.
FASTHASH_DEVICE void add_common_bits(const Block&, const std::uint32_t (&rows)[2], std::uint32_t column,
                                     int (&sums)[4]) {
    asm volatile(
        "mma.sync.aligned.m16n8k128.row.col.s32.b1.b1.s32.and.popc {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
        : "+r"(sums[0]), "+r"(sums[1]), "+r"(sums[2]), "+r"(sums[3])
        : "r"(rows[0]), "r"(rows[1]), "r"(column));
}

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
    const std::uint32_t before = *counter;  // the emulator runs one thread at a time
    *counter += n;
    return before;
}
FASTHASH_DEVICE void add_to(std::uint64_t* counter, std::uint64_t n) { *counter += n; }
FASTHASH_DEVICE void lower_to(std::uint64_t* value, std::uint64_t n) { *value = n < *value ? n : *value; }
FASTHASH_DEVICE int count_bits(std::uint32_t word) { return __builtin_popcount(word); }
FASTHASH_DEVICE float divided(float a, float b) { return a / b; }

template <typename Kernel>
void launch(const Kernel& kernel, Grid grid, unsigned n_threads, std::size_t shared_bytes, Stream stream) {
    use_pointers(&kernel, sizeof(kernel), stream);
    // Kernels work with any number of threads; the emulator is faster with few.
    run_blocks(grid.x, grid.y, n_threads < 32 ? n_threads : 32, shared_bytes,
               [&](const Block& block) { kernel(block); });
}

#endif

}  // namespace fasthash::gpu
