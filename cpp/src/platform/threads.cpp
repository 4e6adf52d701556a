#include "fasthash/threads.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "platform/fork_safe.h"
#include "platform/os.h"

namespace fasthash {
namespace {

constexpr std::size_t kMaxThreads = 1024;

std::atomic<std::size_t> wanted{0};  // 0: the number of processors
thread_local bool in_background = false;

struct Job {
    const std::function<void(std::size_t)>* task;
    std::size_t n_tasks;
    std::atomic<std::size_t> next{0};
    std::size_t n_helpers{0};  // guarded by the pool's mutex, as is `error`
    std::exception_ptr error;
};

// Worker threads, started on first use and never joined: the operating system ends them with the process, and a forked
// child starts its own.
class Pool {
 public:
    // False if the pool is in use, possibly by this thread: a callback of a search may search.
    bool run(std::size_t n_threads, std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
        if (busy_.exchange(true, std::memory_order_acquire)) return false;
        const Turn turn{busy_};
        const std::size_t n_helpers = std::min(n_threads, n_tasks) - 1;
        Job job{&task, n_tasks, {}, 0, nullptr};
        {
            const std::lock_guard lock(mutex_);
            while (n_workers_ < n_helpers) {
                try {
                    std::thread([this, id = n_workers_] { work(id); }).detach();
                } catch (const std::system_error&) {
                    break;  // the threads started so far do all the work
                }
                ++n_workers_;
            }
            n_active_ = std::min(n_helpers, n_workers_);
            job_ = &job;
            ++generation_;
        }
        wake_.notify_all();
        take_part(job);
        if (!is_current()) return end_in_child(job);
        std::unique_lock lock(mutex_);
        job_ = nullptr;  // do not wait for helpers that have not started: short work ends before they wake
        done_.wait(lock, [&job] { return job.n_helpers == 0; });
        if (job.error) std::rethrow_exception(job.error);
        return true;
    }

 private:
    void work(std::size_t id) {
        std::size_t seen = 0;
        while (true) {
            Job* job;
            {
                std::unique_lock lock(mutex_);
                wake_.wait(lock, [&] { return generation_ != seen && job_ != nullptr && id < n_active_; });
                seen = generation_;
                job = job_;
                ++job->n_helpers;
            }
            take_part(*job);
            const std::lock_guard lock(mutex_);
            if (--job->n_helpers == 0) done_.notify_one();
        }
    }

    void take_part(Job& job) {
        try {
            for (std::size_t i; (i = job.next.fetch_add(1)) < job.n_tasks;) (*job.task)(i);
        } catch (...) {
            job.next = job.n_tasks;  // skip the remaining tasks
            if (!is_current()) throw;
            const std::lock_guard lock(mutex_);
            if (!job.error) job.error = std::current_exception();
        }
    }

    struct Turn {
        std::atomic<bool>& busy;
        ~Turn() { busy.store(false, std::memory_order_release); }
    };

    bool is_current() const;

    // In a child forked by a task's callback: the helpers are gone, and so are the tasks that they had begun.
    static bool end_in_child(const Job& job) {
        if (job.n_helpers != 0) throw Error("a forked child cannot end what threads of its parent had begun");
        if (job.error) std::rethrow_exception(job.error);
        return true;
    }

    std::atomic<bool> busy_{false};  // whether a call is using the pool
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::size_t n_workers_ = 0;
    std::size_t n_active_ = 0;
    std::size_t generation_ = 0;
    Job* job_ = nullptr;
};

std::atomic<Pool*> pool{nullptr};

bool Pool::is_current() const { return this == pool; }

// Never destroyed: its threads may outlive static objects.
Pool& the_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        // A forked child has none of the threads, and the pool's locks may be held: forget the pool. The child makes
        // its own on first use, not here, where an allocation could fail.
        os::at_fork(nullptr, nullptr, [] { pool = nullptr; });
    });
    if (Pool* made = pool) return *made;
    const std::lock_guard lock(fork_gate());
    if (pool == nullptr) pool = new Pool;
    return *pool;
}

}  // namespace

std::size_t num_threads() {
    if (in_background) return 1;
    const std::size_t n = wanted;
    return n > 0 ? n : std::clamp<std::size_t>(os::n_processors(), 1, kMaxThreads);
}

void set_num_threads(std::size_t n) {
    if (n < 1 || n > kMaxThreads) {
        throw ArgumentError("n must be from 1 to " + std::to_string(kMaxThreads) + ", got " + std::to_string(n));
    }
    wanted = n;
}

void work_in_background() {
    in_background = true;
    os::lower_priority();
}

void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
    if (n_tasks > 1) {
        const std::size_t n_threads = num_threads();  // may be a system call
        if (n_threads > 1 && the_pool().run(n_threads, n_tasks, task)) return;
    }
    for (std::size_t i = 0; i < n_tasks; ++i) task(i);
}

}  // namespace fasthash
