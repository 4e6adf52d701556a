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

std::atomic<std::size_t> wanted{0};  // 0: as many as there are processors

struct Job {
    const std::function<void(std::size_t)>* task;
    std::size_t n_tasks;
    std::atomic<std::size_t> next{0};
    std::size_t n_helpers{0};  // guarded by the pool's mutex, as is the exception
    std::exception_ptr error;
};

// Threads that wait for work. They are started at the first need and never joined: at the end of the process the
// operating system takes them, and after a fork the child makes its own.
class Pool {
 public:
    // False if the pool is in use, be it by this very thread: a callback under a search may search.
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
                    break;  // fewer threads do the same work
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
        job_ = nullptr;  // who has not come yet is not waited for: little work is over before another thread wakes
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
            job.next = job.n_tasks;  // the rest is not begun
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

    // A callback of a task has forked, and this is the child: helpers are gone, with the tasks that they had begun.
    static bool end_in_child(const Job& job) {
        if (job.n_helpers != 0) throw Error("a forked child cannot end what threads of its parent had begun");
        if (job.error) std::rethrow_exception(job.error);
        return true;
    }

    std::atomic<bool> busy_{false};  // a call uses the pool
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::size_t n_workers_ = 0;
    std::size_t n_active_ = 0;
    std::size_t generation_ = 0;
    Job* job_ = nullptr;
};

std::atomic<Pool*> pool{nullptr};

bool Pool::is_current() const { return this == pool; }

// The pool is never destroyed: its threads may outlive every other object.
Pool& the_pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        // A child has none of its parent's threads, and the parent's locks may be held: it makes a pool of its own, at
        // the first need, since a child of a process without memory has none either.
        os::at_fork(nullptr, nullptr, [] { pool = nullptr; });
    });
    if (Pool* made = pool) return *made;
    const std::lock_guard lock(fork_gate());
    if (pool == nullptr) pool = new Pool;
    return *pool;
}

}  // namespace

std::size_t num_threads() {
    const std::size_t n = wanted;
    return n > 0 ? n : std::clamp<std::size_t>(os::n_processors(), 1, kMaxThreads);
}

void set_num_threads(std::size_t n) {
    if (n < 1 || n > kMaxThreads) {
        throw ArgumentError("n must be from 1 to " + std::to_string(kMaxThreads) + ", got " + std::to_string(n));
    }
    wanted = n;
}

void parallel_for(std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
    const std::size_t n_threads = num_threads();
    if (n_tasks > 1 && n_threads > 1 && the_pool().run(n_threads, n_tasks, task)) return;
    for (std::size_t i = 0; i < n_tasks; ++i) task(i);
}

}  // namespace fasthash
