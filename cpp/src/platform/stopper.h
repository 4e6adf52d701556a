// Stopper: ends the work of several threads early when the caller's Interrupt asks for it.
//
// Made by each search and change, on the calling thread; polled by all threads that work for it.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "fasthash/threads.h"

namespace fasthash {

class Stopper {
 public:
    /// Without an interrupt, never stops.
    explicit Stopper(Interrupt interrupt = {}) : interrupt_(std::move(interrupt)) {}

    /// Poll about every millisecond, on any thread. Only the thread that made this object asks the caller.
    bool stopped() {
        if (stop_.load(std::memory_order_relaxed)) return true;
        if (!interrupt_ || std::this_thread::get_id() != owner_) return false;
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::milliseconds(50)) return false;
        last_ = now;
        return ask();
    }

    /// Ask the caller now, and throw Interrupted if the work must end. Called on the thread that made this object.
    void begin() {
        if (interrupt_ && ask()) throw Interrupted();
    }

    /// Set the share of the work done, which is passed to the caller's Interrupt. Called on the calling thread.
    void note_done(double share) { done_ = share; }

    /// Poll, and throw Interrupted if the work must end.
    void check() {
        if (stopped()) throw Interrupted();
    }

    /// Throws Interrupted if the work was stopped.
    void finish() const {
        if (stop_) throw Interrupted();
    }

 private:
    bool ask() {
        if (interrupt_(done_)) stop_ = true;
        return stop_;
    }

    const Interrupt interrupt_;
    const std::thread::id owner_ = std::this_thread::get_id();
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
    double done_ = 0;
    std::atomic<bool> stop_{false};
};

}  // namespace fasthash
