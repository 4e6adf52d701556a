#include "platform/fork_safe.h"

#include "platform/os.h"

namespace fasthash {
namespace {

struct Gate {
    std::mutex mutex;
    unsigned generation = 1;  // of processes: one more in each child
};

Gate& gate() {
    static Gate* const the_gate = [] {
        static Gate* const made = new Gate;  // never destroyed: threads may outlive every other object
        os::at_fork([] { made->mutex.lock(); }, [] { made->mutex.unlock(); },
                    [] {
                        ++made->generation;
                        made->mutex.unlock();
                    });
        return made;
    }();
    return *the_gate;
}

}  // namespace

std::mutex& fork_gate() { return gate().mutex; }

void ForkSafeMutex::lock() {
    std::mutex* mutex;
    {
        const std::lock_guard guard(fork_gate());
        if (generation_ != gate().generation) {
            mutex_ = new std::mutex;  // the parent's may be held by nobody: it is left behind
            generation_ = gate().generation;
        }
        mutex = mutex_;
    }
    mutex->lock();
}

}  // namespace fasthash
