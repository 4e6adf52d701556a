// Memory and devices by CUDA.
#include <cuda_runtime.h>

#include "gpu/device.h"
#include "gpu/launch.h"

namespace fasthash::gpu {
namespace {

void check(cudaError_t error, const char* step) {
    if (error == cudaSuccess) return;
    cudaGetLastError();  // it is told once
    const std::string message = std::string(step) + ": " + cudaGetErrorString(error);
    if (error == cudaErrorMemoryAllocation) throw OutOfMemory(message);
    throw DeviceError(message);
}

}  // namespace

void check_launch() { check(cudaGetLastError(), "a kernel could not be started"); }

void* allocate(std::size_t n_bytes, Stream stream) {
    void* memory = nullptr;
    check(cudaMallocAsync(&memory, n_bytes == 0 ? 1 : n_bytes, stream), "memory of the GPU");
    return memory;
}

void release(void* memory, Stream stream) noexcept { cudaFreeAsync(memory, stream); }

void copy_to_device(void* to, const void* from, std::size_t n_bytes, Stream stream) {
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, stream), "a copy to the GPU");
}

void copy_to_host(void* to, const void* from, std::size_t n_bytes, Stream stream) {
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDefault, stream), "a copy from the GPU");
}

void copy_on_device(void* to, const void* from, std::size_t n_bytes, Stream stream) {
    check(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyDeviceToDevice, stream), "a copy on the GPU");
}

void fill_bytes(void* memory, int value, std::size_t n_bytes, Stream stream) {
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

OnDevice::OnDevice(int device) {
    check(cudaGetDevice(&before_), "no GPU can be used");
    check(cudaSetDevice(device), "the GPU cannot be used");
}

OnDevice::~OnDevice() { cudaSetDevice(before_); }

}  // namespace fasthash::gpu
