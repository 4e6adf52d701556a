// Begins to read memory that is read soon.
#pragma once

namespace fasthash {

/// Begin to read the cache line at this address. The empty statement counts as an effect: GCC takes a function that
/// does nothing but prefetch for one without effect, and drops the calls to it.
inline void prefetch_line(const void* address) {
    __builtin_prefetch(address);
    asm volatile("");
}

}  // namespace fasthash
