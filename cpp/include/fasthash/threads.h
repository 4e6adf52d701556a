// How many threads a search or a build may use, and how a long one is interrupted.
#pragma once

#include <cstddef>
#include <functional>

#include "fasthash/error.h"

namespace fasthash {

/// Threads that one call may use: at first as many as the process has processors.
std::size_t num_threads();
/// From 1 on; 1 keeps all work in the calling thread. Throws ArgumentError.
void set_num_threads(std::size_t n);

/// Run task(0) .. task(n_tasks - 1), in any order, on the calling thread and others. Rethrows the first exception.
/// While another call uses the other threads, the calling thread does all of it.
void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task);

/// Asked now and then by the thread that called, with the share of the work that is done where that is known, else 0;
/// true ends the work early.
using Interrupt = std::function<bool(double done)>;

/// The work was interrupted.
class Interrupted : public Error {
 public:
    Interrupted() : Error("interrupted") {}
};

}  // namespace fasthash
