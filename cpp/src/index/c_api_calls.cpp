#include "index/c_api_calls.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <stdexcept>

namespace fasthash::c_api {
namespace {

thread_local char text_of_error[1024] = "";  // fixed size, so that running out of memory can be reported

template <typename... Parts>
fasthash_status failed(fasthash_status status, const char* format, Parts... parts) {
    std::snprintf(text_of_error, sizeof text_of_error, format, parts...);
    return status;
}

}  // namespace

const char* last_error() { return text_of_error; }

fasthash_status status_of_exception() noexcept {
    try {
        throw;
    } catch (const ArgumentError& error) {
        return failed(FASTHASH_ERROR_ARGUMENT, "%s", error.what());
    } catch (const FormatError& error) {
        return failed(FASTHASH_ERROR_FORMAT, "%s", error.what());
    } catch (const IoError& error) {
        failed(FASTHASH_ERROR_IO, "%s: %s: %s", error.step().c_str(), std::strerror(error.code()),
               error.path().c_str());
        errno = error.code();
        return FASTHASH_ERROR_IO;
    } catch (const std::bad_alloc&) {
        return failed(FASTHASH_ERROR_MEMORY, "%s", "out of memory");
    } catch (const std::length_error&) {  // thrown by containers for impossible sizes
        return failed(FASTHASH_ERROR_MEMORY, "%s", "out of memory");
    } catch (const std::exception& error) {
        return failed(FASTHASH_ERROR_INTERNAL, "%s", error.what());
    } catch (...) {
        return failed(FASTHASH_ERROR_INTERNAL, "%s", "unknown error");
    }
}

void check_array(const char* name, const void* data, std::size_t n, std::size_t width, std::size_t value_bytes) {
    if (n == 0 || width == 0) return;
    if (n > static_cast<std::size_t>(PTRDIFF_MAX) / value_bytes / width) {
        throw ArgumentError(std::string(name) + " must fit into memory, got " + std::to_string(n) + " rows of " +
                            std::to_string(width) + " values");
    }
    if (data == nullptr) throw ArgumentError(std::string(name) + " must not be null");
}

CodeView view(const char* name, const fasthash_codes& codes) {
    check_array(name, codes.data, codes.n, codes.n_bytes);
    return {codes.data, codes.n, codes.n_bytes};
}

}  // namespace fasthash::c_api
