// Releases Python's GIL during calls into the core. Every call uses WithoutGil or run().
//
// A daemon thread may be inside a call when the interpreter shuts down. It can then no longer take the GIL: up to
// Python 3.13 the attempt ends the thread with pthread_exit, which unwinds the stack and aborts the process at the
// first noexcept function. Here such a thread sleeps until the process ends, as Python does itself from 3.14 on.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <optional>
#include <thread>

#include "fasthash/threads.h"

namespace fasthash::python {

namespace py = pybind11;

/// Releases the GIL for the lifetime of this object.
class WithoutGil {
 public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { take(); }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

    /// Whether another thread is shutting the interpreter down, so that this one can no longer take the GIL.
    bool is_over() const { return !was_finalizing_ && is_finalizing(); }

    /// Holds the GIL for its lifetime, inside a WithoutGil of the same thread.
    class Within {
     public:
        explicit Within(WithoutGil& outer) : outer_(outer) { outer_.take(); }
        ~Within() { outer_.state_ = PyEval_SaveThread(); }
        Within(const Within&) = delete;
        Within& operator=(const Within&) = delete;

     private:
        WithoutGil& outer_;
    };

 private:
    static bool is_finalizing() {
#if PY_VERSION_HEX >= 0x030D0000
        return Py_IsFinalizing() != 0;
#else
        return _Py_IsFinalizing() != 0;
#endif
    }

    void take() noexcept {
        if (is_over()) sleep_for_ever();
        try {
            PyEval_RestoreThread(state_);
        } catch (...) {  // pthread_exit is unwinding: the interpreter has just begun to shut down
            sleep_for_ever();
        }
    }

    [[noreturn]] static void sleep_for_ever() noexcept {
        while (true) std::this_thread::sleep_for(std::chrono::hours(1));
    }

    const bool was_finalizing_ = is_finalizing();  // true only if this thread shuts it down, since it held the GIL
    PyThreadState* state_;
};

/// Runs call(interrupt) without the GIL. Ctrl-C ends it, and so does an exception from `progress`, which receives the
/// share of the work done.
template <typename Call>
auto run(Call call, const std::optional<py::function>& progress = std::nullopt) {
    try {
        WithoutGil without;
        const Interrupt interrupt = [&without, &progress](double done) {
            if (without.is_over()) return true;  // stop and release locks; the result is not needed
            const WithoutGil::Within within(without);
            if (PyErr_CheckSignals() != 0) return true;
            if (!progress) return false;
            const py::float_ share(done);
            return py::reinterpret_steal<py::object>(PyObject_CallOneArg(progress->ptr(), share.ptr())).ptr() ==
                   nullptr;
        };
        return call(interrupt);
    } catch (const Interrupted&) {
        throw py::error_already_set();  // raised by a signal handler or `progress`
    }
}

}  // namespace fasthash::python
