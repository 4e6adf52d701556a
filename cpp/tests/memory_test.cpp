// Tests of running out of memory: a session of all operations of an index, in which the n-th allocation fails, alone or
// with all later ones. `memory_test thorough` tries every n, otherwise a sample spread evenly over the session.
//
// The failing call must throw std::bad_alloc, leave the index unchanged (compared with an index of plain loops) and
// leak nothing; repeated, it must succeed. Threads that cannot be started must not matter.
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

#include "fasthash/threads.h"
#include "memory_session.h"

namespace fasthash::testing {

const char* const kTestName = "memory_test";

namespace {

bool thorough = false;

// Without `thorough`, one of this many attempts is made.
constexpr long kSample = 211;

void test_session(std::unique_ptr<Index> empty) {
    const Session session(std::move(empty));
    long n_sums = 0, n_attempts = 0, next = 0;
    for (std::size_t s = 0; s < session.n_steps(); ++s) {
        for (const bool warm : {false, true}) {
            session.attempt(s, LONG_MAX, false, warm);
            const long n = session.n_allocations_of_step();
            n_sums += n;
            for (const bool all : {false, true}) {
                for (long at = 1; at <= n; ++at) {
                    if (!thorough && next++ % kSample != 0) continue;
                    session.attempt(s, at, all, warm);
                    ++n_attempts;
                }
            }
        }
    }
    check(session.n_failures() > static_cast<std::size_t>(n_attempts) / 2, "memory ran out");
    std::printf("memory_test: %ld allocations in a session, %ld attempts, %zu calls failed\n", n_sums, n_attempts,
                session.n_failures());
}

// ---- at the first use in a process ----

template <typename Call>
void in_child(const std::string& what, Call call) {
    const pid_t child = fork();
    check(child >= 0, "fork");
    if (child == 0) {
        call();
        std::fflush(stdout);
        _exit(0);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) check(errno == EINTR, "waitpid");
    check(WIFEXITED(status) && WEXITSTATUS(status) == 0, what + ": the child fails");
}

// Builds an index on several threads in a fresh process, so that its one-time initialisation meets the failure.
class FirstUse {
 public:
    FirstUse() : plain_(kWidth) {
        std::mt19937 generator(2);
        codes_ = random_codes(1500 * kWidth, generator);
        queries_ = random_codes(3 * kWidth, generator);
        plain_.add(view(codes_, kWidth));
        expected_ = std::make_unique<Expected>(plain_, view(queries_, kWidth));
    }

    // The n-th allocation and the n-th thread are refused.
    void use(long n, long n_threads) const {
        n_threads_until_refusal = n_threads;
        n_until_refusal = n;
        std::unique_ptr<Index> index;
        try {
            index = build();
            n_until_refusal = LONG_MAX;
        } catch (const std::bad_alloc&) {
            n_until_refusal = LONG_MAX;
            index = build();
        }
        set_num_threads(5);  // two more
        expected_->check_all(*index, "the first use");
    }

 private:
    std::unique_ptr<Index> build() const {
        auto index = std::make_unique<HierIndex>(kLayout);
        index->add(view(codes_, kWidth), nullptr);
        search(*index, view(queries_, kWidth), 10);
        return index;
    }

    PlainIndex plain_;
    std::vector<std::uint8_t> codes_, queries_;
    std::unique_ptr<Expected> expected_;
};

// Runs before anything else in this process, so that each child starts uninitialised.
void test_first_use() {
    const FirstUse first;
    for (const bool all : {false, true}) {
        all_after = all;
        for (long n = 1; n <= (thorough ? 300 : 20); ++n) {
            in_child("allocation " + std::to_string(n), [&] { first.use(n, LONG_MAX); });
        }
        for (long n = 1; n <= 5; ++n) {
            in_child("thread " + std::to_string(n), [&] {
                first.use(LONG_MAX, n);
#if defined(FASTHASH_WRAPPED_ALLOCATION)
                check(refused == (n <= 4), "a thread is refused");
#endif
            });
        }
    }
    in_child("a process that forks without memory", [&] {
        first.use(LONG_MAX, LONG_MAX);
        all_after = true;
        n_until_refusal = 1;
        const pid_t child = fork();
        n_until_refusal = LONG_MAX;
        first.use(LONG_MAX, LONG_MAX);
        if (child == 0) _exit(0);
        int status = 0;
        while (waitpid(child, &status, 0) < 0) check(errno == EINTR, "waitpid");
        check(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child of a process without memory");
    });
}

}  // namespace
}  // namespace fasthash::testing

int main(int argc, char** argv) {
    using namespace fasthash::testing;
    thorough = argc == 2 && std::strcmp(argv[1], "thorough") == 0;
    check(argc == 1 || thorough, "usage: memory_test [thorough]");
    // Use a folder in memory if there is one, since each save waits for the disk.
    const std::string folder =
        std::string(access("/dev/shm", W_OK) == 0 ? "/dev/shm/" : "") + "memory_test-" + std::to_string(getpid());
    check(mkdir(folder.c_str(), 0777) == 0, "mkdir");
    path = folder + "/an index with a name that is not short.fh";
    fasthash::set_num_threads(3);
    test_first_use();
    auto indices = indices_of_every_kind(kLayout);
    for (std::size_t i = 0; i < indices.size(); i += i < 5 ? 1 : 3) test_session(std::move(indices[i]));
    std::remove(path.c_str());
    check(rmdir(folder.c_str()) == 0, "rmdir");
    std::puts("memory_test: all passed");
}
