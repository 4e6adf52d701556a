// Handles, statuses and checks of arguments, shared by all functions of the C interface.
//
// Used by c_api*.cpp. No exception leaves run(); handles own core objects; null handles are refused or ignored as
// fasthash.h says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "fasthash/codes.h"
#include "fasthash/error.h"
#include "fasthash/fasthash.h"
#include "fasthash/id_filter.h"
#include "fasthash/index.h"

struct fasthash_index {
    std::unique_ptr<fasthash::Index> core;
};

struct fasthash_filter {
    std::unique_ptr<fasthash::IdFilter> core;
};

namespace fasthash::c_api {

/// The message of the last error of this thread.
const char* last_error();

/// The status of the exception that is being handled; its message becomes the last error. Allocates nothing.
fasthash_status status_of_exception() noexcept;

/// Calls `call`, and turns an exception into a status.
template <typename Call>
fasthash_status run(Call call) noexcept {
    try {
        call();
        return FASTHASH_OK;
    } catch (...) {
        return status_of_exception();
    }
}

/// The value of `call` for an index; 0 if the index is null.
template <typename Call>
auto value_of(const fasthash_index* index, Call call) noexcept {
    std::invoke_result_t<Call, const Index&> value{};
    if (index != nullptr) run([&] { value = call(*index->core); });
    return value;
}

// ---- arguments ----

template <typename T>
T& not_null(const char* name, T* pointer) {
    if (pointer == nullptr) throw ArgumentError(std::string(name) + " must not be null");
    return *pointer;
}

/// n * width values of `value_bytes` bytes.
void check_array(const char* name, const void* data, std::size_t n, std::size_t width, std::size_t value_bytes);

template <typename T>
void check_array(const char* name, const T* data, std::size_t n, std::size_t width = 1) {
    check_array(name, data, n, width, sizeof(T));
}

CodeView view(const char* name, const fasthash_codes& codes);

template <typename Enum, std::size_t n>
Enum choice(const char* name, std::int32_t value, const Enum (&choices)[n]) {
    if (value < 0 || static_cast<std::size_t>(value) >= n) {
        throw ArgumentError(std::string(name) + " must be from 0 to " + std::to_string(n - 1) + ", got " +
                            std::to_string(value));
    }
    return choices[value];
}

/// Store a new object in `handle`.
template <typename Handle, typename Make>
fasthash_status create(const char* name, Handle** handle, Make make) {
    return run([&] {
        Handle*& out = not_null(name, handle);
        out = nullptr;
        out = new Handle{make()};
    });
}

}  // namespace fasthash::c_api
