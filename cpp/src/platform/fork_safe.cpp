#include "platform/fork_safe.h"

#include <chrono>
#include <condition_variable>
#include <new>

#include "fasthash/error.h"
#include "platform/os.h"

namespace fasthash {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{20};  // how often a waiting thread asks its caller whether to stop

/// A unique number for each thread, never reused, not even in a forked child.
std::uint64_t this_thread() {
    static std::atomic<std::uint64_t> last{0};
    thread_local std::uint64_t number = 0;
    if (number == 0) number = ++last;
    return number;
}

}  // namespace

/// All holds and waits of the process, guarded by fork_gate(). Detects waits that would never end.
struct LockTable {
    struct Wait {
        std::uint64_t thread;
        std::uint64_t since;
        const ForkSafeMutex* mutex;
        Task task;
        Wait* next;
    };

    std::mutex gate;
    std::condition_variable* released = new std::condition_variable;  // shared by all locks, since waits are rare
    Wait* waits = nullptr;       // latest first; each node is on its thread's stack
    std::uint64_t n_steps = 0;   // sequence number of holds and waits
    unsigned generation = 1;     // process generation: one more in each child
    std::uint64_t survivor = 0;  // the only living thread of an earlier generation: the one that forked

    /// Called in a forked child: drop the holds and waits of the threads that are gone.
    void begin_anew() {
        ++generation;
        survivor = this_thread();
        // Anew in place, as threads that are gone may be inside it, and a process without memory has none for its
        // child.
        new (released) std::condition_variable;
        for (Wait** wait = &waits; *wait != nullptr;) {
            if ((*wait)->thread == survivor) {
                wait = &(*wait)->next;
            } else {
                *wait = (*wait)->next;
            }
        }
        gate.unlock();
    }

    bool is_held(const ForkSafeMutex& mutex) const {
        const ForkSafeMutex::Holder& holder = mutex.holder_;
        return holder.thread != 0 && (holder.generation == generation || holder.thread == survivor);
    }

    /// `mutex` itself if `thread` holds it, or a mutex held by `thread` for which its holder waits, directly or not;
    /// null if none. A wait older than the hold is skipped: it does not keep the thread from releasing the mutex.
    const ForkSafeMutex* stuck_on(const ForkSafeMutex& mutex, std::uint64_t thread) const {
        if (!is_held(mutex)) return nullptr;
        const ForkSafeMutex::Holder& holder = mutex.holder_;
        if (holder.thread == thread) return &mutex;
        for (const Wait* wait = waits; wait != nullptr; wait = wait->next) {
            if (wait->thread != holder.thread || wait->since < holder.since) continue;
            if (const ForkSafeMutex* end = stuck_on(*wait->mutex, thread)) return end;
        }
        return nullptr;
    }

    /// The change that a thread waits to begin under a mutex; null if none.
    const Task* awaited(const ForkSafeMutex& mutex, std::uint64_t thread) const {
        for (const Wait* wait = waits; wait != nullptr; wait = wait->next) {
            if (wait->thread == thread && wait->mutex == &mutex && !wait->task.nests) return &wait->task;
        }
        return nullptr;
    }

    /// The reason why a task of a thread must not wait for a mutex; empty if it may.
    std::string refusal(const ForkSafeMutex& mutex, const Task& task, std::uint64_t thread) const {
        const std::string begin = std::string(task.name) + " was called while ";
        if (const Task* outer = task.nests ? nullptr : awaited(mutex, thread)) {
            return begin + "this thread waits to begin " + outer->name + " of the same index; call it once " +
                   outer->name + " has returned";
        }
        const ForkSafeMutex* end = stuck_on(mutex, thread);
        if (end == nullptr) return "";
        const std::string inside = end->holder_.task.name;
        if (end == &mutex) {
            return begin + "this thread is inside " + inside + " of the same index; call it once " + inside +
                   " has returned";
        }
        return begin + "another thread is inside " + mutex.holder_.task.name + " of the same index and waits until " +
               inside + " of another index is over, which this thread is inside; call it once " + inside +
               " has returned";
    }
};

namespace {

LockTable& table() {
    static LockTable* const the_table = [] {
        static LockTable* const made = new LockTable;  // never destroyed: threads may outlive static objects
        os::at_fork([] { made->gate.lock(); }, [] { made->gate.unlock(); }, [] { made->begin_anew(); });
        return made;
    }();
    return *the_table;
}

/// Registers a waiting thread for the duration of its wait.
class Waiting {
 public:
    Waiting(LockTable& all, const LockTable::Wait& wait) : all_(all), wait_(wait) {
        wait_.next = all_.waits;
        all_.waits = &wait_;
    }
    ~Waiting() {  // called with fork_gate() held
        LockTable::Wait** entry = &all_.waits;
        while (*entry != &wait_) entry = &(*entry)->next;
        *entry = wait_.next;
    }

 private:
    LockTable& all_;
    LockTable::Wait wait_;
};

/// Releases a lock for the lifetime of this object.
class Opened {
 public:
    explicit Opened(std::unique_lock<std::mutex>& gate) : gate_(gate) { gate_.unlock(); }
    ~Opened() { gate_.lock(); }

 private:
    std::unique_lock<std::mutex>& gate_;
};

}  // namespace

std::mutex& fork_gate() { return table().gate; }

ForkSafeLock::ForkSafeLock(ForkSafeMutex& mutex, const Task& task, Stopper* stopper, IfStuck if_stuck) : mutex_(mutex) {
    LockTable& all = table();
    const std::uint64_t thread = this_thread();
    std::unique_lock gate(all.gate);
    const auto is_free = [&] {
        const ForkSafeMutex::Holder& holder = mutex_.holder_;
        return !all.is_held(mutex_) || (holder.thread == thread && holder.task.nests);
    };
    if (!is_free() || all.awaited(mutex_, thread) != nullptr) {
        const std::string refusal = all.refusal(mutex_, task, thread);
        if (!refusal.empty() && if_stuck == IfStuck::go_without) return;
        if (!refusal.empty()) throw ReentryError(refusal);
        const Waiting waiting(all, {thread, ++all.n_steps, &mutex_, task, nullptr});
        while (!is_free()) {
            all.released->wait_for(gate, kBetweenLooks);
            if (stopper == nullptr) continue;
            const Opened opened(gate);
            stopper->check();
        }
    }
    if (all.is_held(mutex_)) outer_ = mutex_.holder_;
    mutex_.holder_ = {thread, all.generation, outer_.thread == 0 ? ++all.n_steps : outer_.since, task};
    held_ = true;
}

ForkSafeLock::~ForkSafeLock() {
    if (!held_) return;
    LockTable& all = table();
    const std::lock_guard gate(all.gate);
    mutex_.holder_ = outer_;
    if (all.waits != nullptr) all.released->notify_all();
}

}  // namespace fasthash
