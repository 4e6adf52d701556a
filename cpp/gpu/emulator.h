// The emulator: runs the GPU's kernels on the CPU, for tests.
//
// Included by launch.h when the compiler is not nvcc. Threads of a block run one at a time, each until it waits at
// sync(). Operations of streams run at once, but must be ordered as a device needs them: memory used before its
// allocation or freed before its last use ends the process with a message.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "gpu/memory.h"

namespace fasthash::gpu {

class EmulatedBlock;

/// The block of the running thread, and its place in it.
class Block {
 public:
    Block(EmulatedBlock& block, unsigned x, unsigned y, unsigned n_x, unsigned thread, unsigned n_threads)
        : block_(block), x_(x), y_(y), n_x_(n_x), thread_(thread), n_threads_(n_threads) {}

    unsigned x() const { return x_; }
    unsigned y() const { return y_; }
    unsigned n_x() const { return n_x_; }
    /// Index of this thread among the threads of all blocks along x, and their number.
    std::size_t thread_of_row() const { return std::size_t{x()} * n_threads() + thread(); }
    std::size_t threads_of_row() const { return std::size_t{n_x()} * n_threads(); }
    unsigned thread() const { return thread_; }
    unsigned n_threads() const { return n_threads_; }
    void sync() const;
    void sync_warp() const {}  // warp operations synchronise the lanes themselves
    void* shared() const;
    EmulatedBlock& state() const { return block_; }

 private:
    EmulatedBlock& block_;
    unsigned x_, y_, n_x_, thread_, n_threads_;
};

// Warp operations, with the results of their CUDA versions in launch.h. Here a block is one warp.
std::uint32_t sum_of_four_lanes(const Block& block, std::uint32_t value);
std::uint32_t value_of_lane(const Block& block, std::uint32_t value, unsigned lane);
void add_common_bits(const Block& block, const std::uint32_t (&rows)[2], std::uint32_t column, int (&sums)[4]);

/// The kernels started on the emulator so far, and the waits of the host for the device.
struct EmulatedWork {
    std::size_t n_launches = 0;
    std::size_t n_waits = 0;
};
const EmulatedWork& emulated_work();

/// Lets this thread allocate device memory `n` more times before the memory is full; kNeverFull: without end.
constexpr std::size_t kNeverFull = ~std::size_t{0};
void emulate_full_memory_after(std::size_t n);

/// Notes that an operation of a stream uses the memory that pointers in these bytes, of a kernel, point into.
void use_pointers(const void* bytes, std::size_t n_bytes, Stream stream);

/// Runs `thread` for each thread of each block of the grid. Blocks run one after the other, last first, to reveal
/// kernels that rely on their order.
void run_blocks(unsigned n_x, unsigned n_y, unsigned n_threads, std::size_t shared_bytes,
                const std::function<void(const Block&)>& thread);

}  // namespace fasthash::gpu
