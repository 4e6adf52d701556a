// How a call gives Python's GIL away and takes it back. Every call into the core goes through one of the two things
// here.
//
// When the interpreter ends, a daemon thread may be inside a call. Python then has no GIL for it any more: up to 3.13
// it ends a thread that asks by pthread_exit, which unwinds the stack as an exception does and aborts the process at
// the first function that throws nothing. Such a thread sleeps here until the process is over, which is what Python
// does itself from 3.14 on.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <optional>
#include <thread>

#include "fasthash/threads.h"

namespace fasthash::python {

namespace py = pybind11;

/// The GIL is given away for as long as the object lives.
class WithoutGil {
 public:
    WithoutGil() : state_(PyEval_SaveThread()) {}
    ~WithoutGil() { take(); }
    WithoutGil(const WithoutGil&) = delete;
    WithoutGil& operator=(const WithoutGil&) = delete;

    /// Whether there is no GIL any more for this thread: another one is ending the interpreter.
    bool is_over() const { return !was_finalizing_ && is_finalizing(); }

    /// Has the GIL for as long as it lives, within a WithoutGil of the same thread.
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
        } catch (...) {  // the unwinding of pthread_exit: the interpreter has begun to end just now
            sleep_for_ever();
        }
    }

    [[noreturn]] static void sleep_for_ever() noexcept {
        while (true) std::this_thread::sleep_for(std::chrono::hours(1));
    }

    const bool was_finalizing_ = is_finalizing();  // by this very thread, as it had the GIL
    PyThreadState* state_;
};

/// Runs call(interrupt) without the GIL. Ctrl-C ends it, and so does an error of `progress`, which is told the share of
/// the work that is done.
template <typename Call>
auto run(Call call, const std::optional<py::function>& progress = std::nullopt) {
    try {
        WithoutGil without;
        const Interrupt interrupt = [&without, &progress](double done) {
            if (without.is_over()) return true;  // nobody waits for the result; locks are given back
            const WithoutGil::Within within(without);
            if (PyErr_CheckSignals() != 0) return true;
            if (!progress) return false;
            const py::float_ share(done);
            return py::reinterpret_steal<py::object>(PyObject_CallOneArg(progress->ptr(), share.ptr())).ptr() ==
                   nullptr;
        };
        return call(interrupt);
    } catch (const Interrupted&) {
        throw py::error_already_set();  // what the signal's handler or `progress` raised
    }
}

}  // namespace fasthash::python
