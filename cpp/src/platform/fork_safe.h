// Locks that a forked child can take although another thread of its parent held them when it forked, and that refuse a
// wait which would never end. Callers may be called back under them: by `Interrupt`, hence by signal handlers.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "platform/stopper.h"

namespace fasthash {

/// One lock for the whole process, for a few instructions at a time. Forking waits for it, so a child never finds it
/// taken.
std::mutex& fork_gate();

/// What a thread does while it holds a ForkSafeMutex.
struct Task {
    const char* name;    ///< for errors; lives as long as the lock is held
    bool nests = false;  ///< callbacks under it may begin another task: a search, which changes nothing by halves
};

/// For long work, done by one thread at a time. A child has none of the threads that might hold it but the one that
/// forked. Taken by a ForkSafeLock.
class ForkSafeMutex {
 public:
    ForkSafeMutex() = default;
    ForkSafeMutex(const ForkSafeMutex&) = delete;
    ForkSafeMutex& operator=(const ForkSafeMutex&) = delete;

 private:
    friend class ForkSafeLock;
    friend struct LockTable;

    struct Holder {
        std::uint64_t thread = 0;  // 0: nobody
        unsigned generation = 0;   // of processes
        std::uint64_t since = 0;   // in the order of all holds and waits
        Task task{nullptr};
    };

    Holder holder_;  // guarded by the gate
};

/// Holds a ForkSafeMutex from its construction to its destruction, by the same thread.
class ForkSafeLock {
 public:
    enum class IfStuck { raise, go_without };

    /// Waits while another thread holds the mutex; `stopper` ends the wait by Interrupted. A wait would never end if
    /// this thread holds the mutex, or another one that its holder waits for: throws ReentryError then, or with
    /// `go_without` does not hold it. Only a task that nests may be under way already on this thread.
    ForkSafeLock(ForkSafeMutex& mutex, const Task& task, Stopper* stopper = nullptr, IfStuck if_stuck = IfStuck::raise);
    ~ForkSafeLock();
    ForkSafeLock(const ForkSafeLock&) = delete;
    ForkSafeLock& operator=(const ForkSafeLock&) = delete;

    bool held() const { return held_; }

 private:
    ForkSafeMutex& mutex_;
    ForkSafeMutex::Holder outer_;  // the task of this thread in which this one is nested
    bool held_ = false;
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

/// Something that is made at the first need, once. `make` must not call the caller back.
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
    /// Null while it has not been made.
    const T* get_if_made() const { return ready_.load(std::memory_order_acquire); }

 private:
    mutable ForkSafeMutex mutex_;
    mutable std::unique_ptr<const T> value_;
    mutable std::atomic<const T*> ready_{nullptr};
};

}  // namespace fasthash
