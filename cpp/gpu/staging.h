// Staging: sends data from the memory of the host to a GPU through two pinned buffers.
//
// Used when an index moves to a GPU. All threads fill one buffer while the other one is in transit.
#pragma once

#include <algorithm>
#include <cstring>

#include "fasthash/threads.h"
#include "gpu/memory.h"

namespace fasthash::gpu {

class Staging {
 public:
    /// `n_bytes`: what will be sent in all; buffers need not be larger. `stream`: that of the caller's allocations.
    Staging(std::size_t n_bytes, Stream stream);
    /// Waits for the transfers under way.
    ~Staging();

    std::size_t buffer_bytes() const { return buffer_bytes_; }
    /// Transfers from now on follow the caller's operations so far: call it after allocating memory that pass() writes.
    void follow_caller();
    /// Send n_bytes, at most buffer_bytes(): fill(buffer) writes them, use(sent, stream) starts operations on them on
    /// the device.
    template <typename Fill, typename Use>
    void pass(std::size_t n_bytes, const Fill& fill, const Use& use) {
        Slot& slot = slots_[next_];
        next_ = 1 - next_;
        slot.stream.wait();  // until its last use has ended
        fill(slot.host.data());
        copy_to_device(slot.device.data(), slot.host.data(), n_bytes, slot.stream.get());
        use(static_cast<const std::uint8_t*>(slot.device.data()), slot.stream.get());
    }
    /// Copy an array to memory that the device can access, allocated by the caller's operations so far.
    void copy(void* to, const void* from, std::size_t n_bytes);
    /// Waits until all data have arrived.
    void finish();

 private:
    struct Slot {
        Slot(std::size_t n_bytes, Stream caller);

        Buffer<std::uint8_t> host;
        Buffer<std::uint8_t> device;
        SideStream stream;
    };

    std::size_t buffer_bytes_;
    Stream caller_;
    Slot slots_[2];
    std::size_t next_ = 0;
};

}  // namespace fasthash::gpu
