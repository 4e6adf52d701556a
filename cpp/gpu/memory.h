// Memory of a GPU, and streams.
//
// Host code for any compiler, implemented by cuda.cu and emulator.cpp. Operations on one stream run in order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <utility>

#include "fasthash/error.h"

struct CUstream_st;

namespace fasthash::gpu {

/// An operation of the device or its driver failed; what() names it and the reason.
class DeviceError : public Error {
 public:
    using Error::Error;
};

/// The device has too little memory.
class OutOfMemory : public DeviceError {
 public:
    using DeviceError::DeviceError;
};

/// A CUDA stream: its operations run in order. Null is the default stream.
using Stream = CUstream_st*;

/// Device memory, or pinned host memory, which the device reads and writes over the bus.
enum class Place { device, host };

// Memory accessible to the device. Copies and fills run in the order of the stream.
void* allocate(std::size_t n_bytes, Stream stream, Place place);
void release(void* memory, Stream stream, Place place) noexcept;
void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream stream);
void copy_to_host(void* to, const void* from, std::size_t n_bytes, Stream stream);
/// Copies rows of n_bytes, a stride apart, between device and host memory.
void copy_rows(void* to, std::size_t to_stride, const void* from, std::size_t from_stride, std::size_t n_bytes,
               std::size_t n_rows, Stream stream);
void fill_bytes(void* memory, int value, std::size_t n_bytes, Stream stream);
/// Sorts keys below 2^62 on the device. Temporarily needs as much memory again.
void sort_ascending(std::uint64_t* keys, std::size_t n, Stream stream);
/// Waits until all operations of the stream have finished.
void finish(Stream stream);
/// Makes further operations of `later` wait for the current operations of `earlier`.
void follow(Stream later, Stream earlier);
/// Free bytes of device memory, with those that were freed and are kept for further allocations. Waits for the default
/// stream.
std::size_t free_bytes();

/// A second stream, for copies alongside the caller's.
class SideStream {
 public:
    SideStream();
    ~SideStream();  // waits for its operations
    SideStream(const SideStream&) = delete;
    SideStream& operator=(const SideStream&) = delete;
    Stream get() const { return stream_; }
    /// Waits until all operations of the stream have finished.
    void wait() const { finish(stream_); }

 private:
    Stream stream_ = nullptr;
};

/// Calls `wait` if an exception leaves its scope: operations under way still use memory that is freed next.
template <typename Wait>
class WaitOnError {
 public:
    explicit WaitOnError(Wait wait) : wait_(std::move(wait)) {}
    ~WaitOnError() {
        if (std::uncaught_exceptions() == n_before_) return;
        try {
            wait_();
        } catch (const DeviceError&) {  // the exception under way names the reason
        }
    }
    WaitOnError(const WaitOnError&) = delete;
    WaitOnError& operator=(const WaitOnError&) = delete;

 private:
    Wait wait_;
    int n_before_ = std::uncaught_exceptions();
};

/// An array in memory accessible to the device.
template <typename T>
class Buffer {
 public:
    Buffer() = default;
    Buffer(std::size_t n, Stream stream, Place place = Place::device)
        : data_(static_cast<T*>(allocate(n * sizeof(T), stream, place))), n_(n), stream_(stream), place_(place) {}
    Buffer(Buffer&& other) noexcept { *this = std::move(other); }
    Buffer& operator=(Buffer&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(n_, other.n_);
        std::swap(stream_, other.stream_);
        std::swap(place_, other.place_);
        return *this;
    }
    ~Buffer() {
        if (data_ != nullptr) release(data_, stream_, place_);
    }

    T* data() const { return data_; }
    std::size_t size() const { return n_; }
    std::size_t nbytes() const { return n_ * sizeof(T); }
    /// Bytes in device memory.
    std::size_t device_nbytes() const { return place_ == Place::device ? nbytes() : 0; }
    Place place() const { return place_; }

    void load(const T* from, std::size_t n) { copy_to_device(data_, from, n * sizeof(T), stream_); }
    void clear() { fill_bytes(data_, 0, nbytes(), stream_); }

 private:
    T* data_ = nullptr;
    std::size_t n_ = 0;
    Stream stream_ = nullptr;
    Place place_ = Place::device;
};

}  // namespace fasthash::gpu
