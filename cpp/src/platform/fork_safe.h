// Locks for long work that survive a fork and refuse to deadlock.
//
// Used by every index and filter. A forked child can take a lock that another thread of its parent held. The caller's
// code (`Interrupt`, hence Python signal handlers) may run while a lock is held; a wait that would never end throws
// ReentryError.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "platform/stopper.h"

namespace fasthash {

/// The process-wide lock, held for a few instructions at a time. fork() waits for it, so a child never finds it taken.
std::mutex& fork_gate();

/// The task of a thread while it holds a ForkSafeMutex.
struct Task {
    const char* name;  ///< for errors; lives as long as the lock is held
    bool nests =
        false;  ///< whether callbacks may begin another task; true for searches, which leave nothing half changed
};

/// Mutex for long work, taken by a ForkSafeLock. In a forked child it counts as free unless the forking thread held it:
/// the other threads are gone.
class ForkSafeMutex {
 public:
    ForkSafeMutex() = default;
    ForkSafeMutex(const ForkSafeMutex&) = delete;
    ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

 private:
    friend class ForkSafeLock;
    friend struct LockTable;

    struct Holder {
        std::uint64_t thread = 0;  // 0: free
        unsigned generation = 0;   // process generation in which it was taken
        std::uint64_t since = 0;   // sequence number among all holds and waits
        Task task{nullptr};
    };

    Holder holder_;  // guarded by fork_gate()
};

/// Scoped lock of a ForkSafeMutex; constructed and destroyed by the same thread.
class ForkSafeLock {
 public:
    enum class IfStuck { raise, go_without };

    /// Waits while another thread holds the mutex; `stopper` ends the wait with Interrupted. The wait would never end
    /// if this thread holds the mutex, or another one for which the mutex's holder waits. Then throws ReentryError or,
    /// with `go_without`, continues without the lock. Any task already running on this thread must be one that nests.
    ForkSafeLock(ForkSafeMutex& mutex, const Task& task, Stopper* stopper = nullptr, IfStuck if_stuck = IfStuck::raise);
    ~ForkSafeLock();
    ForkSafeLock(const ForkSafeLock&) = delete;
    ForkSafeLock& operator=(const ForkSafeLock&) = delete;

    bool held() const { return held_; }

 private:
    ForkSafeMutex& mutex_;
    ForkSafeMutex::Holder outer_;  // the enclosing task of this thread
    bool held_ = false;
};

/// A shared pointer to an immutable value, replaced as a whole. Readers keep the value that they got.
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
        }  // the old value is released outside the lock
    }

 private:
    std::shared_ptr<const T> value_;
};

/// A value built once, on first use. `make` must not run the caller's code.
template <typename T>
class Lazy {
 public:
    template <typename Make>
    const T& get(Make make) const {
        if (const T* ready = ready_.load(std::memory_order_acquire)) return *ready;
        const ForkSafeLock lock(mutex_, {"a table for look-ups"});
        if (!value_) {
            value_ = make();
            ready_.store(value_.get(), std::memory_order_release);
        }
        return *value_;
    }
    /// Null until it has been built.
    const T* get_if_made() const { return ready_.load(std::memory_order_acquire); }

 private:
    mutable ForkSafeMutex mutex_;
    mutable std::unique_ptr<const T> value_;
    mutable std::atomic<const T*> ready_{nullptr};
};

}  // namespace fasthash
