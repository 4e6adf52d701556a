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

#include "fork_safe.h"
#include "os.h"

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
    // False if the pool is in use.
    bool run(std::size_t n_threads, std::size_t n_tasks, const std::function<void(std::size_t)>& task) {
        const std::unique_lock busy(busy_, std::try_to_lock);
        if (!busy) return false;
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
            const std::lock_guard lock(mutex_);
            if (!job.error) job.error = std::current_exception();
        }
    }

    std::mutex busy_;  // held by the call that uses the pool
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    std::size_t n_workers_ = 0;
    std::size_t n_active_ = 0;
    std::size_t generation_ = 0;
    Job* job_ = nullptr;
};

Pool* pool = nullptr;  // guarded by the fork gate

// The pool is never destroyed: its threads may outlive every other object.
Pool& the_pool() {
    const std::lock_guard lock(fork_gate());
    static bool watches_forks = false;
    if (!watches_forks) {
        // A child has none of its parent's threads, and the parent's locks may be held: it makes a pool of its own, at
        // the first need, since a child of a process without memory has none either.
        os::at_fork(nullptr, nullptr, [] { pool = nullptr; });
        watches_forks = true;
    }
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
