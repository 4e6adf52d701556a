#include "gpu/emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <stdexcept>
#include <vector>

#include "gpu/device.h"
#include "gpu/memory.h"

namespace fasthash::gpu {

namespace {

constexpr std::size_t kStackBytes = 64 << 10;
constexpr std::size_t kLanes = 32;
constexpr int kDevices = 2;  // with one memory

thread_local EmulatedWork work;

}  // namespace

/// A running block: each thread has its own stack and yields at sync().
class EmulatedBlock {
 public:
    EmulatedBlock(unsigned n_threads, std::size_t shared_bytes)
        : contexts_(n_threads), stacks_(n_threads * kStackBytes), done_(n_threads), shared_(shared_bytes / 16 + 1) {}

    void run(const std::vector<Block>& threads, const std::function<void(const Block&)>& body) {
        body_ = &body;
        threads_ = &threads;
        // Uninitialised memory is not zero on a device: fill it with a pattern, so that reading it shows in tests.
        std::memset(shared_.data(), 0xA5, shared_.size() * sizeof(shared_[0]));
        std::fill(done_.begin(), done_.end(), false);
        for (std::size_t t = 0; t < threads.size(); ++t) start(t);
        std::size_t n_done = 0;
        for (bool forth = false; n_done < threads.size(); forth = !forth) {
            n_done = 0;
            for (std::size_t turn = 0; turn < threads.size(); ++turn) {
                // Rounds alternate between ascending and descending order of threads: a missing sync() shows in one
                // of them.
                current_ = forth ? turn : threads.size() - 1 - turn;
                if (!done_[current_]) swapcontext(&scheduler_, &contexts_[current_]);
                if (error_) std::rethrow_exception(error_);
                n_done += done_[current_];
            }
            // On a device the other threads would wait forever for a thread that has ended.
            if (n_done > 0 && n_done < threads.size())
                throw std::logic_error("a thread left before a sync of its block");
        }
    }

    void sync() { swapcontext(&contexts_[current_], &scheduler_); }

    /// Words that a lane passes to the others of its warp.
    struct Shown {
        std::uint32_t words[3];
    };
    /// Pass words to the other lanes, and call look(lanes) once all lanes have passed theirs.
    template <typename Look>
    void exchange(const Shown& shown, const Look& look) {
        if (contexts_.size() != kLanes)
            throw std::logic_error("a block that uses warp operations must be one warp in the emulator");
        // Exchanges alternate between two buffers, so one sync() for each is enough.
        Shown* const shows = shown_[n_shown_[current_]++ % 2];
        shows[current_] = shown;
        sync();
        look(shows);
    }
    void* shared() { return shared_.data(); }

 private:
    struct alignas(16) Line {
        unsigned char bytes[16];
    };

    void start(std::size_t t) {
        getcontext(&contexts_[t]);
        contexts_[t].uc_stack.ss_sp = stacks_.data() + t * kStackBytes;
        contexts_[t].uc_stack.ss_size = kStackBytes;
        contexts_[t].uc_link = &scheduler_;
        const auto address = reinterpret_cast<std::uintptr_t>(this);
        makecontext(&contexts_[t], reinterpret_cast<void (*)()>(&EmulatedBlock::enter), 2,
                    static_cast<unsigned>(address >> 32), static_cast<unsigned>(address));
    }

    static void enter(unsigned high, unsigned low) {
        auto* block = reinterpret_cast<EmulatedBlock*>(static_cast<std::uintptr_t>(high) << 32 | low);
        try {
            (*block->body_)((*block->threads_)[block->current_]);
        } catch (...) {
            block->error_ = std::current_exception();
        }
        block->done_[block->current_] = true;
    }

    std::vector<ucontext_t> contexts_;
    std::vector<unsigned char> stacks_;
    std::vector<char> done_;
    std::vector<Line> shared_;
    Shown shown_[2][kLanes];
    std::size_t n_shown_[kLanes] = {};
    ucontext_t scheduler_{};
    std::size_t current_ = 0;
    const std::vector<Block>* threads_ = nullptr;
    const std::function<void(const Block&)>* body_ = nullptr;
    std::exception_ptr error_;
};

const EmulatedWork& emulated_work() { return work; }

void Block::sync() const { block_.sync(); }
void* Block::shared() const { return block_.shared(); }

std::uint32_t sum_of_four_lanes(const Block& block, std::uint32_t value) {
    std::uint32_t sum = 0;
    const unsigned first = block.thread() / 4 * 4;
    block.state().exchange({{value}}, [&](const EmulatedBlock::Shown* lanes) {
        for (unsigned lane = first; lane < first + 4; ++lane) sum += lanes[lane].words[0];
    });
    return sum;
}

std::uint32_t value_of_lane(const Block& block, std::uint32_t value, unsigned lane) {
    block.state().exchange({{value}}, [&](const EmulatedBlock::Shown* lanes) { value = lanes[lane].words[0]; });
    return value;
}

void add_common_bits(const Block& block, const std::uint32_t (&rows)[2], std::uint32_t column, int (&sums)[4]) {
    const unsigned g = block.thread() / 4, t = block.thread() % 4;
    block.state().exchange({{rows[0], rows[1], column}}, [&](const EmulatedBlock::Shown* lanes) {
        for (unsigned i = 0; i < 4; ++i) {
            for (unsigned word = 0; word < 4; ++word) {
                const std::uint32_t row = lanes[4 * g + word].words[i / 2];
                sums[i] += __builtin_popcount(row & lanes[4 * (2 * t + i % 2) + word].words[2]);
            }
        }
    });
}

void run_blocks(unsigned n_x, unsigned n_y, unsigned n_threads, std::size_t shared_bytes,
                const std::function<void(const Block&)>& thread) {
    ++work.n_launches;
    EmulatedBlock block(n_threads, shared_bytes);
    for (unsigned y = n_y; y-- > 0;) {
        for (unsigned x = n_x; x-- > 0;) {
            std::vector<Block> threads;
            for (unsigned t = 0; t < n_threads; ++t) threads.emplace_back(block, x, y, n_x, t, n_threads);
            block.run(threads, thread);
        }
    }
}

void* allocate(std::size_t n_bytes, Stream, Place) {
    void* memory = std::aligned_alloc(256, (n_bytes + 256) / 256 * 256);
    if (memory == nullptr) throw OutOfMemory("the emulator has no memory left");
    std::memset(memory, 0xA5, n_bytes);  // uninitialised, as above
    return memory;
}
void release(void* memory, Stream, Place) noexcept { std::free(memory); }
void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream) {
    if (n_bytes != 0) std::memcpy(to, from, n_bytes);
}
void copy_to_host(void* to, const void* from, std::size_t n_bytes, Stream) {
    if (n_bytes != 0) std::memcpy(to, from, n_bytes);
}
void fill_bytes(void* memory, int value, std::size_t n_bytes, Stream) {
    if (n_bytes != 0) std::memset(memory, value, n_bytes);
}
void copy_rows(void* to, std::size_t to_stride, const void* from, std::size_t from_stride, std::size_t n_bytes,
               std::size_t n_rows, Stream) {
    for (std::size_t row = 0; row < n_rows; ++row) {
        std::memcpy(static_cast<char*>(to) + row * to_stride, static_cast<const char*>(from) + row * from_stride,
                    n_bytes);
    }
}
void sort_ascending(std::uint64_t* keys, std::size_t n, Stream) { std::sort(keys, keys + n); }
void finish(Stream) { ++work.n_waits; }
void follow(Stream, Stream) {}
std::size_t free_bytes() { return std::numeric_limits<std::size_t>::max(); }
SideStream::SideStream() = default;
SideStream::~SideStream() = default;

int n_devices() { return kDevices; }
std::string device_name(int) { return "the GPU's emulator on the CPU"; }
OnDevice::OnDevice(int device) : device_(device) {
    if (device < 0 || device >= kDevices) throw DeviceError("the GPU cannot be used: invalid device ordinal");
}
OnDevice::~OnDevice() = default;

}  // namespace fasthash::gpu
