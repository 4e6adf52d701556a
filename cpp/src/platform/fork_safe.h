// Locks that a forked child can take although another thread of its parent held them when it forked.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>

namespace fasthash {

/// One lock for the whole process, for a few instructions at a time. Forking waits for it, so a child never finds it
/// taken.
std::mutex& fork_gate();

/// For long work. A child has none of the threads that might hold it, and starts with a fresh one.
class ForkSafeMutex {
 public:
    ForkSafeMutex() = default;
    ~ForkSafeMutex() { delete mutex_; }
    ForkSafeMutex(const ForkSafeMutex&) = delete;
    ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

    void lock();
    void unlock() { mutex_->unlock(); }

 private:
    std::mutex* mutex_ = nullptr;
    unsigned generation_ = 0;
};

/// A pointer to something that never changes, which is replaced as a whole: who reads it keeps what it was.
template <typename T>
class Published {
 public:
    explicit Published(std::shared_ptr<const T> value) : value_(std::move(value)) {}

    std::shared_ptr<const T> get() const {
        const std::lock_guard lock(fork_gate());
        return value_;
    }
    void set(std::shared_ptr<const T> value) {
        {
            const std::lock_guard lock(fork_gate());
            value_.swap(value);
        }  // what was held before is given up after the lock
    }

 private:
    std::shared_ptr<const T> value_;
};

/// Something that is made at the first need, once.
template <typename T>
class Lazy {
 public:
    template <typename Make>
    const T& get(Make make) const {
        if (const T* ready = ready_.load(std::memory_order_acquire)) return *ready;
        const std::lock_guard lock(mutex_);
        if (!value_) {
            value_ = make();
            ready_.store(value_.get(), std::memory_order_release);
        }
        return *value_;
    }
    /// Null while it has not been made.
    const T* get_if_made() const { return ready_.load(std::memory_order_acquire); }

 private:
    mutable ForkSafeMutex mutex_;
    mutable std::unique_ptr<const T> value_;
    mutable std::atomic<const T*> ready_{nullptr};
};

}  // namespace fasthash
