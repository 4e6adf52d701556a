// Memory of a GPU, in the order of a stream. Host code: any compiler takes it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "fasthash/error.h"

struct CUstream_st;

namespace fasthash::gpu {

/// The device or its driver refused something; what() says what and why.
class DeviceError : public Error {
 public:
    using Error::Error;
};

/// The device has too little memory.
class OutOfMemory : public DeviceError {
 public:
    using DeviceError::DeviceError;
};

/// What is asked of one stream is done in turn; null is the device's own.
using Stream = CUstream_st*;

// Memory of the device. Copies and clears are done in the order of the stream.
void* allocate(std::size_t n_bytes, Stream stream);
void release(void* memory, Stream stream) noexcept;
void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream stream);
void copy_to_host(void* to, const void* from, std::size_t n_bytes, Stream stream);
void fill_bytes(void* memory, int value, std::size_t n_bytes, Stream stream);
/// Waits until all that was asked of the stream is done.
void finish(Stream stream);

/// Values in the memory of the device.
template <typename T>
class Buffer {
 public:
    Buffer() = default;
    Buffer(std::size_t n, Stream stream)
        : data_(static_cast<T*>(allocate(n * sizeof(T), stream))), n_(n), stream_(stream) {}
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(n_, other.n_);
        std::swap(stream_, other.stream_);
        return *this;
    }
    ~Buffer() {
        if (data_ != nullptr) release(data_, stream_);
    }

    T* data() const { return data_; }
    std::size_t size() const { return n_; }
    std::size_t nbytes() const { return n_ * sizeof(T); }

    void load(const T* from, std::size_t n) { copy_to_device(data_, from, n * sizeof(T), stream_); }
    void clear() { fill_bytes(data_, 0, nbytes(), stream_); }

 private:
    T* data_ = nullptr;
    std::size_t n_ = 0;
    Stream stream_ = nullptr;
};

}  // namespace fasthash::gpu
