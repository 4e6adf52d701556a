// Memory for millions of plain values: grows and shrinks in place where the system can, and is never filled needlessly.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace fasthash {

/// Like std::vector, but for trivial types alone: it begins at a cache line, resize leaves new values undefined,
/// and in a large one room that was reserved but not written takes no memory.
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
    ~Array() { release(data_, rounded(capacity_)); }

    std::size_t size() const { return size_; }
    bool empty() const { return size_ == 0; }
    std::size_t nbytes() const { return capacity_ * sizeof(T); }
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
    }
    // Room for n more, growing by half at least.
    void grow(std::size_t n) {
        if (size_ + n > capacity_) allocate(size_ + (n > capacity_ / 2 ? n : capacity_ / 2));
    }
    void allocate(std::size_t n) {
        if (n > static_cast<std::size_t>(-1) / 2 / sizeof(T)) throw std::bad_alloc();
        const std::size_t old_bytes = rounded(capacity_), n_bytes = rounded(n);
        if (is_mapped(old_bytes) && is_mapped(n_bytes)) {
            data_ = static_cast<T*>(remap(data_, old_bytes, n_bytes));
        } else {
            T* moved = n == 0 ? nullptr : static_cast<T*>(fresh(n_bytes));
            if (moved != nullptr && size_ > 0) {
                std::memcpy(static_cast<void*>(moved), data_, (size_ < n ? size_ : n) * sizeof(T));
            }
            release(data_, old_bytes);
            data_ = moved;
        }
        capacity_ = n;
    }

    static constexpr std::size_t kLine = 64;
    static std::size_t rounded(std::size_t n) { return (n * sizeof(T) + kLine - 1) / kLine * kLine; }

    static void* checked(void* data) {
        if (data == nullptr) throw std::bad_alloc();
        return data;
    }

#if defined(__linux__)
    // Large arrays are mappings of their own: they grow without a copy, shrink at once, and never begin with used pages
    // of the heap, so that the system can give them large pages, which spare searches that jump about most of their
    // address look-ups.
    static constexpr std::size_t kMapped = std::size_t{4} << 20;
    static bool is_mapped(std::size_t n_bytes) { return n_bytes >= kMapped; }

    static void* fresh(std::size_t n_bytes) {
        if (!is_mapped(n_bytes)) return checked(std::aligned_alloc(kLine, n_bytes));
        void* data = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (data == MAP_FAILED) throw std::bad_alloc();
        madvise(data, n_bytes, MADV_HUGEPAGE);  // advice: it may be refused
        return data;
    }
    static void* remap(void* data, std::size_t old_bytes, std::size_t n_bytes) {
        void* moved = mremap(data, old_bytes, n_bytes, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED) throw std::bad_alloc();
        return moved;
    }
    static void release(void* data, std::size_t n_bytes) {
        if (is_mapped(n_bytes)) {
            munmap(data, n_bytes);
        } else {
            std::free(data);
        }
    }
#else
    static bool is_mapped(std::size_t) { return false; }
    static void* fresh(std::size_t n_bytes) { return checked(std::aligned_alloc(kLine, n_bytes)); }
    static void* remap(void* data, std::size_t, std::size_t) { return data; }
    static void release(void* data, std::size_t) { std::free(data); }
#endif

    T* data_ = nullptr;
    std::size_t size_ = 0;
    std::size_t capacity_ = 0;
};

}  // namespace fasthash
