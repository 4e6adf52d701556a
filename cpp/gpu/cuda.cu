// memory.h and device.h for CUDA.
#include <cuda_runtime.h>

#include <cub/device/device_radix_sort.cuh>
#include <mutex>
#include <set>

#include "gpu/device.h"
#include "gpu/launch.h"

namespace fasthash::gpu {
namespace {

constexpr std::uint64_t kKeptBytes = std::uint64_t{1} << 30;

void check(cudaError_t error, const char* step) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // clear it: CUDA would report it again
    const std::string message = std::string(step) + ": " + cudaGetErrorString(error);
    if (error == cudaErrorMemoryAllocation) throw OutOfMemory(message);
    throw DeviceError(message);
}

/// Clears the error of a step that may fail without harm; otherwise CUDA would report it for the next step.
void forget(cudaError_t error) noexcept {
    if (error != cudaSuccess) cudaGetLastError();
}

/// Makes the memory pool keep freed memory for later searches, since allocating from the driver is slow.
void keep_memory(int device) {
    static std::mutex lock;
    static std::set<int> known;
    const std::lock_guard<std::mutex> guard(lock);
    if (!known.insert(device).second) return;
    cudaMemPool_t pool;
    std::uint64_t kept = 0;
    if (cudaDeviceGetDefaultMemPool(&pool, device) != cudaSuccess ||
        cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept) != cudaSuccess) {
        cudaGetLastError();
    } else if (kept < kKeptBytes) {  // never lower what the process has set
        kept = kKeptBytes;
        forget(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &kept));
    }
}

}  // namespace

void check_launch() { check(cudaGetLastError(), "a kernel could not be started"); }

void* allocate(std::size_t n_bytes, Stream stream, Place place) {
    void* memory = nullptr;
    n_bytes = n_bytes == 0 ? 1 : n_bytes;
    if (place == Place::host) {
        check(cudaHostAlloc(&memory, n_bytes, cudaHostAllocPortable), "pinned memory of the host");
    } else {
        check(cudaMallocAsync(&memory, n_bytes, stream), "memory of the GPU");
    }
    return memory;
}

void release(void* memory, Stream stream, Place place) noexcept {
    forget(place == Place::host ? cudaFreeHost(memory) : cudaFreeAsync(memory, stream));
}

void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream stream) {
    if (n_bytes == 0) return;
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, stream), "a copy to the GPU");
}

void copy_to_host(void* to, const void* from, std::size_t n_bytes, Stream stream) {
    if (n_bytes == 0) return;
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, stream), "a copy from the GPU");
}

void copy_rows(void* to, std::size_t to_stride, const void* from, std::size_t from_stride, std::size_t n_bytes,
               std::size_t n_rows, Stream stream) {
    if (n_bytes == 0 || n_rows == 0) return;
    // Row by row: a single cudaMemcpy2D call limits the stride to 2 GiB.
    for (std::size_t row = 0; row < n_rows; ++row) {
        check(cudaMemcpyAsync(static_cast<char*>(to) + row * to_stride,
                              static_cast<const char*>(from) + row * from_stride, n_bytes, cudaMemcpyDefault, stream),
              "a copy of codes");
    }
}

void sort_ascending(std::uint64_t* keys, std::size_t n, Stream stream) {
    Buffer<std::uint64_t> other(n, stream);
    cub::DoubleBuffer<std::uint64_t> both(keys, other.data());
    const auto sort = [&](void* memory, std::size_t& n_bytes) {
        check(cub::DeviceRadixSort::SortKeys(memory, n_bytes, both, n, 0, 62, stream), "a sort on the GPU");
    };
    std::size_t n_bytes = 0;
    sort(nullptr, n_bytes);  // returns the size of the temporary memory
    const Buffer<std::uint8_t> memory(n_bytes, stream);
    sort(memory.data(), n_bytes);
    if (both.Current() != keys) copy_to_device(keys, both.Current(), n * sizeof(std::uint64_t), stream);
}

void follow(Stream later, Stream earlier) {
    cudaEvent_t event;
    check(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "the order of two streams");
    const cudaError_t recorded = cudaEventRecord(event, earlier);
    const cudaError_t waiting = cudaStreamWaitEvent(later, event, 0);
    forget(cudaEventDestroy(event));
    check(recorded, "the order of two streams");
    check(waiting, "the order of two streams");
}

std::size_t free_bytes() {
    std::size_t n_free = 0, n_all = 0;
    finish(nullptr);  // memory that it frees counts as used until then
    check(cudaMemGetInfo(&n_free, &n_all), "the GPU tells nothing of its memory");
    // The pool keeps freed memory, which the next allocation takes first.
    int device = 0;
    check(cudaGetDevice(&device), "no GPU can be used");
    cudaMemPool_t pool;
    std::uint64_t n_reserved = 0, n_used = 0;
    if (cudaDeviceGetDefaultMemPool(&pool, device) != cudaSuccess ||
        cudaMemPoolGetAttribute(pool, cudaMemPoolAttrReservedMemCurrent, &n_reserved) != cudaSuccess ||
        cudaMemPoolGetAttribute(pool, cudaMemPoolAttrUsedMemCurrent, &n_used) != cudaSuccess) {
        cudaGetLastError();
        return n_free;
    }
    return n_free + (n_reserved > n_used ? n_reserved - n_used : 0);
}

SideStream::SideStream() { check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "a stream of the GPU"); }

SideStream::~SideStream() {
    forget(cudaStreamSynchronize(stream_));
    forget(cudaStreamDestroy(stream_));
}

void fill_bytes(void* memory, int value, std::size_t n_bytes, Stream stream) {
    if (n_bytes == 0) return;
    check(cudaMemsetAsync(memory, value, n_bytes, stream), "clearing memory of the GPU");
}

void finish(Stream stream) { check(cudaStreamSynchronize(stream), "the GPU failed"); }

int n_devices() {
    int n = 0;
    check(cudaGetDeviceCount(&n), "no GPU can be used");
    return n;
}

std::string device_name(int device) {
    cudaDeviceProp properties{};
    check(cudaGetDeviceProperties(&properties, device), "the GPU tells nothing of itself");
    return properties.name;
}

OnDevice::OnDevice(int device) : device_(device) {
    check(cudaGetDevice(&before_), "no GPU can be used");
    if (before_ != device) check(cudaSetDevice(device), "the GPU cannot be used");
    keep_memory(device);
}

OnDevice::~OnDevice() {
    // cudaSetDevice initialises a device, so call it only if needed.
    if (before_ != device_) forget(cudaSetDevice(before_));
}

}  // namespace fasthash::gpu
