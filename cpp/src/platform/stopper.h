// Ends the work of several threads early when the caller is interrupted.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "fasthash/threads.h"

namespace fasthash {

class Stopper {
 public:
    /// Never stops without an interrupt.
    explicit Stopper(Interrupt interrupt = {}) : interrupt_(std::move(interrupt)) {}

    /// To be asked every millisecond or so, by any thread. Only the one that made this object asks the caller.
    bool stopped() {
        if (stop_.load(std::memory_order_relaxed)) return true;
        if (!interrupt_ || std::this_thread::get_id() != owner_) return false;
        const auto now = std::chrono::steady_clock::now();
        if (now - last_ < std::chrono::milliseconds(50)) return false;
        last_ = now;
        if (interrupt_(done_)) stop_ = true;
        return stop_;
    }

    /// The share of the work that is done, for the caller to hear when it is asked; told by its own thread.
    void note_done(double share) { done_ = share; }

    /// Throws Interrupted if the work is to end.
    void check() {
        if (stopped()) throw Interrupted();
    }

    /// Throws Interrupted if the work was stopped.
    void finish() const {
        if (stop_) throw Interrupted();
    }

 private:
    const Interrupt interrupt_;
    const std::thread::id owner_ = std::this_thread::get_id();
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
    double done_ = 0;
    std::atomic<bool> stop_{false};
};

}  // namespace fasthash
