// Makes allocations and thread starts fail. Included by one file of a test only: replaces operator new and, with
// FASTHASH_WRAPPED_ALLOCATION, the core's other allocations.
#pragma once

#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <new>

namespace {

std::atomic<long> n_until_refusal{LONG_MAX};          // allocations, with the one that fails
std::atomic<long> n_threads_until_refusal{LONG_MAX};  // the same for threads that are started
std::atomic<bool> all_after{false};                   // fail as well
std::atomic<bool> refused{false};
std::atomic<long> n_allocations{0};
std::atomic<long> n_live{0};  // blocks that are allocated and not yet freed

bool refuse(std::atomic<long>& n_until) {
    const long left = n_until.fetch_sub(1) - 1;
    if (left > 0 || (left < 0 && !all_after)) return false;
    refused = true;
    return true;
}

bool refuse_memory() {
    ++n_allocations;
    return refuse(n_until_refusal);
}

void* counted(void* memory) {
    if (memory != nullptr) ++n_live;
    return memory;
}

}  // namespace

#if defined(FASTHASH_WRAPPED_ALLOCATION)
extern "C" void __real_free(void* memory);
static void free_uncounted(void* memory) { __real_free(memory); }
#else
static void free_uncounted(void* memory) { std::free(memory); }
#endif

// Not inlined: compilers would warn of mismatched new and free.
__attribute__((noinline)) void* operator new(std::size_t n) {
    void* memory = refuse_memory() ? nullptr : std::malloc(n > 0 ? n : 1);
    if (memory == nullptr) throw std::bad_alloc();
    return counted(memory);
}
__attribute__((noinline)) void operator delete(void* memory) noexcept {
    if (memory != nullptr) --n_live;
    free_uncounted(memory);
}
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { operator delete(memory); }

#if defined(FASTHASH_WRAPPED_ALLOCATION)
extern "C" {
void* __real_aligned_alloc(std::size_t alignment, std::size_t n);
void* __real_realloc(void* memory, std::size_t n);
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t n) {
    return refuse_memory() ? nullptr : counted(__real_aligned_alloc(alignment, n));
}
void* __wrap_realloc(void* memory, std::size_t n) { return refuse_memory() ? nullptr : __real_realloc(memory, n); }
void __wrap_free(void* memory) {
    if (memory != nullptr) --n_live;
    __real_free(memory);
}
// In place of the one that the C++ library calls, which is linked dynamically.
int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*), void* argument) {
    using Create = int (*)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    if (refuse(n_threads_until_refusal)) return EAGAIN;
    return reinterpret_cast<Create>(dlsym(RTLD_NEXT, "pthread_create"))(thread, attributes, run, argument);
}
}
#endif
