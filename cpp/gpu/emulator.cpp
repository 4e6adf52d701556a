#include "gpu/emulator.h"

#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
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
thread_local std::size_t n_allocations_left = kNeverFull;

/// The order of operations on a device: those of a stream run one after the other; those of two streams at any time,
/// unless follow() or a wait of the host orders them. Operations are numbered as the host starts them.
class Order {
 public:
    void allocated(void* memory, std::size_t n_bytes, Stream stream, Place place) {
        const std::lock_guard<std::mutex> guard(lock_);
        // Host memory is there at once.
        const std::uint64_t number = place == Place::host ? 0 : start(stream);
        held_[static_cast<char*>(memory)] = {n_bytes, stream, number, {}};
    }
    void used(const void* pointer, Stream stream) {
        const std::lock_guard<std::mutex> guard(lock_);
        auto held = held_.upper_bound(static_cast<const char*>(pointer));
        if (held == held_.begin()) return;
        --held;
        auto& [begin, memory] = *held;
        if (static_cast<const char*>(pointer) >= begin + memory.n_bytes) return;
        const std::uint64_t number = start(stream);
        if (before_[stream][memory.stream] < memory.allocated) end("memory is used before its allocation");
        memory.uses[stream] = number;
    }
    void released(void* memory, Stream stream, Place place) {
        const std::lock_guard<std::mutex> guard(lock_);
        start(stream);
        Clock& before = place == Place::host ? host_ : before_[stream];
        for (const auto& [user, number] : held_.at(static_cast<char*>(memory)).uses) {
            if (before[user] < number) end("memory is freed before its last use");
        }
        held_.erase(static_cast<char*>(memory));
    }
    void follow(Stream later, Stream earlier) {
        const std::lock_guard<std::mutex> guard(lock_);
        start(earlier);
        join(before_[later], before_[earlier]);
    }
    void finish(Stream stream) {
        const std::lock_guard<std::mutex> guard(lock_);
        join(host_, before_[stream]);
    }
    Stream new_stream() {
        const std::lock_guard<std::mutex> guard(lock_);
        return reinterpret_cast<Stream>(++n_streams_);
    }
    /// The host has waited for a stream, which ends: all of its operations come before everything from now on.
    void ended(Stream stream) {
        const std::lock_guard<std::mutex> guard(lock_);
        join(host_, before_[stream]);
        before_.erase(stream);
        host_.erase(stream);
        for (auto& [other, clock] : before_) clock.erase(stream);
        for (auto& [begin, memory] : held_) {
            memory.uses.erase(stream);
            if (memory.stream == stream) memory.allocated = 0;
        }
    }

 private:
    using Clock = std::map<Stream, std::uint64_t>;  // of each stream, the last operation that comes before
    struct Held {
        std::size_t n_bytes;
        Stream stream;
        std::uint64_t allocated;
        Clock uses;
    };

    /// The number of a new operation of a stream, which all that the host has waited for comes before.
    std::uint64_t start(Stream stream) {
        join(before_[stream], host_);
        return before_[stream][stream] = ++n_operations_;
    }
    static void join(Clock& clock, const Clock& other) {
        for (const auto& [stream, number] : other) clock[stream] = std::max(clock[stream], number);
    }
    /// Memory is also freed where nothing may be thrown.
    [[noreturn]] static void end(const char* what) {
        std::fprintf(stderr, "the emulator: %s in the order of the streams\n", what);
        std::abort();
    }

    std::mutex lock_;
    std::map<Stream, Clock> before_;  // the next operation of each stream
    Clock host_;
    std::map<const char*, Held> held_;
    std::uint64_t n_operations_ = 0;
    std::uintptr_t n_streams_ = 0;
};

/// Never destroyed: threads may still search when the process ends.
Order& order() {
    static Order& all = *new Order;
    return all;
}

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

void emulate_full_memory_after(std::size_t n) { n_allocations_left = n; }

void use_pointers(const void* bytes, std::size_t n_bytes, Stream stream) {
    for (std::size_t i = 0; i + sizeof(void*) <= n_bytes; i += sizeof(void*)) {
        const void* pointer;
        std::memcpy(&pointer, static_cast<const char*>(bytes) + i, sizeof(pointer));
        order().used(pointer, stream);
    }
}

void* allocate(std::size_t n_bytes, Stream stream, Place place) {
    if (place == Place::device && n_allocations_left != kNeverFull && n_allocations_left-- == 0) {
        n_allocations_left = 0;
        throw OutOfMemory("the emulator's memory is full");
    }
    const std::size_t n_all = (n_bytes + 256) / 256 * 256;
    void* memory = std::aligned_alloc(256, n_all);
    if (memory == nullptr) throw OutOfMemory("the emulator has no memory left");
    std::memset(memory, 0xA5, n_bytes);  // uninitialised, as above
    order().allocated(memory, n_all, stream, place);
    return memory;
}
void release(void* memory, Stream stream, Place place) noexcept {
    order().released(memory, stream, place);
    std::free(memory);
}
void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream stream) {
    copy_rows(to, 0, from, 0, n_bytes, 1, stream);
}
void copy_to_host(void* to, const void* from, std::size_t n_bytes, Stream stream) {
    copy_rows(to, 0, from, 0, n_bytes, 1, stream);
}
void fill_bytes(void* memory, int value, std::size_t n_bytes, Stream stream) {
    if (n_bytes == 0) return;
    order().used(memory, stream);
    std::memset(memory, value, n_bytes);
}
void copy_rows(void* to, std::size_t to_stride, const void* from, std::size_t from_stride, std::size_t n_bytes,
               std::size_t n_rows, Stream stream) {
    if (n_bytes == 0 || n_rows == 0) return;
    order().used(to, stream);
    order().used(from, stream);
    for (std::size_t row = 0; row < n_rows; ++row) {
        std::memcpy(static_cast<char*>(to) + row * to_stride, static_cast<const char*>(from) + row * from_stride,
                    n_bytes);
    }
}
void sort_ascending(std::uint64_t* keys, std::size_t n, Stream stream) {
    order().used(keys, stream);
    std::sort(keys, keys + n);
}
void finish(Stream stream) {
    ++work.n_waits;
    order().finish(stream);
}
void follow(Stream later, Stream earlier) { order().follow(later, earlier); }
std::size_t free_bytes() { return std::numeric_limits<std::size_t>::max(); }
SideStream::SideStream() : stream_(order().new_stream()) {}
SideStream::~SideStream() { order().ended(stream_); }

int n_devices() { return kDevices; }
std::string device_name(int) { return "the GPU's emulator on the CPU"; }
OnDevice::OnDevice(int device) : device_(device) {
    if (device < 0 || device >= kDevices) throw DeviceError("the GPU cannot be used: invalid device ordinal");
}
OnDevice::~OnDevice() = default;

}  // namespace fasthash::gpu
