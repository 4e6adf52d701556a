#include "gpu/staging.h"

namespace fasthash::gpu {
namespace {

constexpr std::size_t kMostBytes = std::size_t{32} << 20;  // of a buffer: enough for the full speed of the bus
constexpr std::size_t kChunkBytes = std::size_t{1} << 20;  // copied by a thread at a time

}  // namespace

Staging::Slot::Slot(std::size_t n_bytes, Stream caller)
    : host(n_bytes, caller, Place::host), device(n_bytes, caller, Place::device) {}

Staging::Staging(std::size_t n_bytes, Stream stream)
    : buffer_bytes_(std::clamp<std::size_t>(n_bytes, 1, kMostBytes)),
      caller_(stream),
      slots_{{buffer_bytes_, stream}, {buffer_bytes_, stream}} {
    follow_caller();
}

Staging::~Staging() = default;

void Staging::follow_caller() {
    for (const Slot& slot : slots_) follow(slot.stream.get(), caller_);
}

void Staging::copy(void* to, const void* from, std::size_t n_bytes) {
    follow_caller();
    for (std::size_t begin = 0; begin < n_bytes; begin += buffer_bytes_) {
        const std::size_t n = std::min(buffer_bytes_, n_bytes - begin);
        Slot& slot = slots_[next_];
        next_ = 1 - next_;
        slot.stream.wait();
        parallel_for((n + kChunkBytes - 1) / kChunkBytes, [&](std::size_t i) {
            const std::size_t first = i * kChunkBytes;
            std::memcpy(slot.host.data() + first, static_cast<const char*>(from) + begin + first,
                        std::min(kChunkBytes, n - first));
        });
        copy_to_device(static_cast<char*>(to) + begin, slot.host.data(), n, slot.stream.get());
    }
}

void Staging::finish() {
    for (const Slot& slot : slots_) slot.stream.wait();
}

}  // namespace fasthash::gpu
