// Threads of searches and builds, and how callers interrupt them.
#pragma once

#include <cstddef>
#include <functional>

#include "fasthash/error.h"

namespace fasthash {

/// Threads that one call may use; by default, the processors available to the process.
std::size_t num_threads();
/// Set the number of threads; 1 keeps all work on the calling thread. Throws ArgumentError for 0.
void set_num_threads(std::size_t n);
/// Make the calling thread a background one, until it ends: it runs its tasks alone, so that the pool stays free for
/// searches, and at a lower priority where the system has priorities of threads.
void work_in_background();

/// Run task(0) .. task(n_tasks - 1), in any order, on the calling thread and the pool. Rethrows the first exception.
/// While another call uses the pool, the calling thread runs all tasks.
void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task);

/// Callback of long calls, invoked regularly on the calling thread; returns true to end the work. `done`: share of the
/// work done, 0 if unknown.
using Interrupt = std::function<bool(double done)>;

/// The work was interrupted.
class Interrupted : public Error {
 public:
    Interrupted() : Error("interrupted") {}
};

}  // namespace fasthash
