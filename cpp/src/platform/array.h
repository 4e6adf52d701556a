// Array: memory for millions of plain values, in place of std::vector.
//
// Used for codes, ids and tables. Elements that resize() adds are uninitialised.
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#include "platform/os.h"

namespace fasthash {

/// Like std::vector, for trivial types only: aligned to a cache line; grows and shrinks large arrays in place where the
/// system can; reserved pages take no memory until they are written. An Array can also be a read-only view of memory
/// owned elsewhere, such as a mapped file.
template <typename T>
class Array {
    static_assert(std::is_trivially_copyable_v<T>);

 public:
    Array() = default;
    explicit Array(std::size_t n) { resize(n); }
    Array(Array&& other) noexcept { swap(other); }
    Array& operator=(Array&& other) noexcept {
        swap(other);
        return *this;
    }
    ~Array() {
        if (!is_view_) os::release(data_);
    }
    static Array view(const T* values, std::size_t n) {
        Array array;
        array.data_ = const_cast<T*>(values);
        array.size_ = array.capacity_ = n;
        array.is_view_ = true;
        return array;
    }

    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    /// Bytes of memory owned; 0 for a view.
    std::size_t nbytes() const { return is_view_ ? 0 : capacity_ * sizeof(T); }
    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](std::size_t i) { return data_[i]; }
    const T& operator[](std::size_t i) const { return data_[i]; }
    T* begin() { return data_; }
    T* end() { return data_ + size_; }
    const T* begin() const { return data_; }
    const T* end() const { return data_ + size_; }
    const T& back() const { return data_[size_ - 1]; }

    void reserve(std::size_t n) {
        if (n > capacity_) allocate(n);
    }
    void resize(std::size_t n) {
        reserve(n);
        size_ = n;
    }
    void assign(std::size_t n, T value) {
        resize(n);
        for (std::size_t i = 0; i < n; ++i) data_[i] = value;
    }
    void push_back(T value) {
        grow(1);
        data_[size_++] = value;
    }
    void append(const T* values, std::size_t n) {
        if (n == 0) return;
        grow(n);
        std::memcpy(data_ + size_, values, n * sizeof(T));
        size_ += n;
    }
    void shrink_to_fit() {
        if (capacity_ > size_) allocate(size_);
    }
    void clear() { size_ = 0; }

 private:
    void swap(Array& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(capacity_, other.capacity_);
        std::swap(is_view_, other.is_view_);
    }
    // Make room for n more elements, growing at least by half.
    void grow(std::size_t n) {
        if (size_ + n > capacity_) allocate(size_ + (n > capacity_ / 2 ? n : capacity_ / 2));
    }
    void allocate(std::size_t n) {
        if (n > static_cast<std::size_t>(-1) / 2 / sizeof(T)) throw std::bad_alloc();
        if (n == 0) {
            os::release(std::exchange(data_, nullptr));
        } else {
            void* memory = data_ == nullptr ? os::allocate(n * sizeof(T))
                                            : os::reallocate(static_cast<void*>(data_), n * sizeof(T));
            if (memory == nullptr) throw std::bad_alloc();
            data_ = static_cast<T*>(memory);
        }
        capacity_ = n;
    }

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
    bool is_view_ = false;
};

}  // namespace fasthash
