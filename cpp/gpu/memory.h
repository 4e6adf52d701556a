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

/// Where memory is: the device's own, or the host's, pinned, which the device reads and writes over the bus.
enum class Place { device, host };

// Memory that the device can use. Copies and clears are done in the order of the stream.
void* allocate(std::size_t n_bytes, Stream stream, Place place);
void release(void* memory, Stream stream, Place place) noexcept;
void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream stream);
void copy_to_host(void* to, const void* from, std::size_t n_bytes, Stream stream);
/// Copies rows of n_bytes, which begin a stride apart, between any places.
void copy_rows(void* to, std::size_t to_stride, const void* from, std::size_t from_stride, std::size_t n_bytes,
               std::size_t n_rows, Stream stream);
void fill_bytes(void* memory, int value, std::size_t n_bytes, Stream stream);
/// Sorts keys below 2^62 on the device, whose memory they take once more meanwhile.
void sort_ascending(std::uint64_t* keys, std::size_t n, Stream stream);
/// Waits until all that was asked of the stream is done.
void finish(Stream stream);
/// What is asked of `later` from now on waits for all that was asked of `earlier` so far.
void follow(Stream later, Stream earlier);
/// Bytes of the device's memory that nobody has.
std::size_t free_bytes();

/// A stream besides those of the caller.
class SideStream {
 public:
    SideStream();
    ~SideStream();  // waits for what was asked of it
    SideStream(const SideStream&) = delete;
    SideStream& operator=(const SideStream&) = delete;
    Stream get() const { return stream_; }

 private:
    Stream stream_ = nullptr;
};

/// Values in memory that the device can use.
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
    /// Of the device's own memory.
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
