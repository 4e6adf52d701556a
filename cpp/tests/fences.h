// Memory between two protected pages, so that an access outside it ends the test.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#undef near
#else
#include <sys/mman.h>
#endif

namespace fasthash {

constexpr std::size_t kFence = 64 * 1024;  // whole pages, whatever their size

/// The first of n bytes, which are whole fences, between two of them; null if there are none. It is never given back.
inline std::uint8_t* fenced(std::size_t n) {
#if defined(_WIN32)
    void* memory = VirtualAlloc(nullptr, n + 2 * kFence, MEM_RESERVE, PAGE_NOACCESS);
    if (memory == nullptr) return nullptr;
    return static_cast<std::uint8_t*>(
        VirtualAlloc(static_cast<std::uint8_t*>(memory) + kFence, n, MEM_COMMIT, PAGE_READWRITE));
#else
    void* memory = mmap(nullptr, n + 2 * kFence, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    std::uint8_t* inside = static_cast<std::uint8_t*>(memory) + kFence;
    return mprotect(inside, n, PROT_READ | PROT_WRITE) == 0 ? inside : nullptr;
#endif
}

}  // namespace fasthash
