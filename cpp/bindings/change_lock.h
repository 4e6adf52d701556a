// ChangeLock: the core's fork-safe lock for changes of Python objects, such as RescoringIndex.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "gil.h"
#include "platform/fork_safe.h"

namespace fasthash::python {

class ChangeLock {
 public:
    /// A context manager that holds the lock; entered and left by the same thread.
    class Turn {
     public:
        Turn(std::shared_ptr<ForkSafeMutex> mutex, std::string name, bool nests)
            : mutex_(std::move(mutex)), name_(std::move(name)), nests_(nests) {}

        void enter() {
            run([this](const Interrupt& interrupt) {
                Stopper stopper(interrupt);
                lock_.emplace(*mutex_, Task{name_.c_str(), nests_}, &stopper);
            });
        }
        void leave() { lock_.reset(); }

     private:
        const std::shared_ptr<ForkSafeMutex> mutex_;
        const std::string name_;
        const bool nests_;
        std::optional<ForkSafeLock> lock_;
    };

    std::unique_ptr<Turn> turn(std::string name, bool nests) const {
        return std::make_unique<Turn>(mutex_, std::move(name), nests);
    }

 private:
    const std::shared_ptr<ForkSafeMutex> mutex_ = std::make_shared<ForkSafeMutex>();
};

inline void register_change_lock(py::module_& module) {
    py::class_<ChangeLock::Turn>(module, "Turn")
        .def("__enter__", &ChangeLock::Turn::enter)
        .def("__exit__", [](ChangeLock::Turn& turn, const py::args&) { turn.leave(); });
    py::class_<ChangeLock>(module, "ChangeLock")
        .def(py::init<>())
        .def("__call__", &ChangeLock::turn, py::arg("name"), py::arg("nests") = false);
}

}  // namespace fasthash::python
