// What is left when a save is killed or refused at any step, and when memory runs out anywhere: of the first 200
// allocations of everything an index does each fails in turn with `faults_test thorough`, without it a share of them.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <functional>
#include <new>

#include "platform/files.h"
#include "testing.h"

namespace {

std::atomic<long> n_until_refusal{LONG_MAX};  // allocations, with the one that fails
std::atomic<bool> all_after{false};           // fail as well
std::atomic<bool> refused{false};

bool refuse() {
    const long left = n_until_refusal.fetch_sub(1) - 1;
    if (left > 0 || (left < 0 && !all_after)) return false;
    refused = true;
    return true;
}

}  // namespace

// Not inlined, so that no compiler takes what one of them calls for a mistake of the other.
__attribute__((noinline)) void* operator new(std::size_t n) {
    void* memory = refuse() ? nullptr : std::malloc(n > 0 ? n : 1);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

#if defined(FASTHASH_WRAPPED_ALLOCATION)
extern "C" {
void* __real_aligned_alloc(std::size_t alignment, std::size_t n);
void* __real_realloc(void* memory, std::size_t n);
void* __wrap_aligned_alloc(std::size_t alignment, std::size_t n) {
    return refuse() ? nullptr : __real_aligned_alloc(alignment, n);
}
void* __wrap_realloc(void* memory, std::size_t n) { return refuse() ? nullptr : __real_realloc(memory, n); }
}
#endif

namespace fasthash::testing {

const char* const kTestName = "faults_test";

namespace {

constexpr std::size_t kWidth = 8;
const LevelLayout kLayout({8, 16, 40});

std::mt19937 generator(1);
std::string folder;  // of this test, empty between its parts

std::vector<std::uint8_t> read_file(const std::string& path) {
    const InputFile file(path);
    std::vector<std::uint8_t> bytes(file.size());
    file.read(bytes.data(), bytes.size(), 0);
    return bytes;
}

std::vector<std::string> files_in_folder() {
    std::vector<std::string> names;
    DIR* open = opendir(folder.c_str());
    check(open != nullptr, "opendir");
    while (const dirent* entry = readdir(open)) {
        if (entry->d_name[0] != '.' || std::strlen(entry->d_name) > 2) names.emplace_back(entry->d_name);
    }
    closedir(open);
    std::sort(names.begin(), names.end());
    return names;
}

void empty_folder() {
    for (const std::string& name : files_in_folder()) std::remove((folder + "/" + name).c_str());
}

// ---- saving, killed and refused ----

// What the steps of a save do. They are counted from 1.
struct Script {
    int at = 0;  // the step that is killed, or fails with an error
    int error = 0;
    std::vector<std::string> steps{};  // so far
};
Script script;

int follow_script(const char* step) {
    script.steps.emplace_back(step);
    if (static_cast<int>(script.steps.size()) != script.at) return 0;
    if (script.error == 0) kill(getpid(), SIGKILL);
    return script.error;
}

class Saving {
 public:
    explicit Saving(std::unique_ptr<Index> index)
        : index_(std::move(index)), path_(folder + "/index.fh"), old_(index_->copy()) {
        old_->add({random_codes(1000 * kWidth, generator).data(), 1000, kWidth}, nullptr);
        // Several pieces that are written on their own.
        const std::size_t n = 140000;
        index_->add({random_codes(n * kWidth, generator, 256).data(), n, kWidth}, nullptr);
        old_bytes_ = old_->to_bytes();
        new_bytes_ = index_->to_bytes();
        queries_ = random_codes(5 * kWidth, generator);
        answer_ = search(*index_, view(queries_, kWidth), 10);
        script = {};
        file_step_hook = follow_script;
        index_->save(path_);
        file_step_hook = nullptr;
        steps_ = script.steps;
        check(std::count(steps_.begin(), steps_.end(), "cannot write") >= 3, "a save in several pieces");
        check(steps_.front() == "cannot create a file to save to" && steps_.back() == "cannot flush the folder",
              "steps");
        check(read_file(path_) == new_bytes_, "what is saved");
    }
    ~Saving() { empty_folder(); }

    // The new file has taken the place of the old one when its folder is flushed.
    bool is_in_place_at(std::size_t step) const { return step == steps_.size(); }

    void test_kills() {
        for (std::size_t step = 1; step <= steps_.size(); ++step) {
            for (int again = 0; again < 5; ++again) {
                const bool there_before = again > 0;
                put_old_file(there_before);
                const int status = in_child([&] {
                    script = {static_cast<int>(step), 0};
                    file_step_hook = follow_script;
                    index_->save(path_);
                });
                check(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                      "a child that is killed at " + steps_[step - 1]);
                check_old_or_new(is_in_place_at(step), there_before, 1, "killed at " + steps_[step - 1]);
            }
        }
    }

    // At any moment, also within a step.
    void test_kills_at_any_time() {
        bool was_old = false, was_new = false;
        for (unsigned delay = 0; delay < 400000 && !was_new; delay += delay / 4 + 500) {
            put_old_file(true);
            const pid_t child = fork();
            check(child >= 0, "fork");
            if (child == 0) {
                index_->save(path_);
                _exit(0);
            }
            usleep(delay);
            kill(child, SIGKILL);
            const int status = wait_for(child);
            was_new = read_file(path_) == new_bytes_;
            was_old = was_old || !was_new;
            check(was_new || !WIFEXITED(status), "a save that returned has saved");
            check_old_or_new(was_new, true, 1, "killed at some time");
        }
        check(was_old, "killed before it was done");
    }

    void test_errors() {
        for (std::size_t step = 1; step <= steps_.size(); ++step) {
            for (const int error : {EIO, ENOSPC, EINTR}) {
                const std::string what = "refused: " + steps_[step - 1];
                put_old_file(true);
                script = {static_cast<int>(step), error};
                file_step_hook = follow_script;
                try {
                    index_->save(path_);
                    fail("no error: " + what);
                } catch (const IoError& caught) {
                    check(caught.code() == error && caught.step() == steps_[step - 1] && ends_with_name(caught.path()),
                          what);
                }
                file_step_hook = nullptr;
                check(script.steps.size() == step, what + ": nothing more is done");
                check_old_or_new(is_in_place_at(step), true, 0, what);
                check(search(*index_, view(queries_, kWidth), 10) == answer_, what + ": the index answers");
                index_->save(path_);
                check_old_or_new(true, true, 0, what + ": saved afterwards");
            }
        }
    }

    // The system itself refuses to write more.
    void test_limit() {
        for (const rlim_t limit : {rlim_t{0}, rlim_t{100}, rlim_t{500000}, rlim_t{1100000}}) {
            put_old_file(true);
            const int status = in_child([&] {
                std::signal(SIGXFSZ, SIG_IGN);
                const rlimit limits{limit, limit};
                check(setrlimit(RLIMIT_FSIZE, &limits) == 0, "setrlimit");
                try {
                    index_->save(path_);
                } catch (const IoError& caught) {
                    check(caught.code() == EFBIG && caught.step() == "cannot write", "a file that is too large");
                    _exit(7);
                }
            });
            check(WIFEXITED(status) && WEXITSTATUS(status) == 7, "an error of the system");
            check_old_or_new(false, true, 0, "a file that is too large");
        }
    }

 private:
    void put_old_file(bool there) {
        empty_folder();
        if (there) old_->save(path_);
    }
    static int wait_for(pid_t child) {
        int status = 0;
        while (waitpid(child, &status, 0) < 0) check(errno == EINTR, "waitpid");
        return status;
    }
    // Of a file that is there, an error tells the path to which all links lead.
    bool ends_with_name(const std::string& path) const {
        return path.size() >= path_.size() && path.compare(path.size() - path_.size(), path_.size(), path_) == 0;
    }
    template <typename Call>
    static int in_child(Call call) {
        const pid_t child = fork();
        check(child >= 0, "fork");
        if (child == 0) {
            call();
            _exit(0);
        }
        return wait_for(child);
    }

    void check_old_or_new(bool is_new, bool old_was_there, std::size_t most_left, const std::string& what) const {
        std::vector<std::string> names = files_in_folder();
        const auto found = std::find(names.begin(), names.end(), "index.fh");
        check((found != names.end()) == (is_new || old_was_there), what + ": there is a file");
        if (found != names.end()) {
            names.erase(found);
            check(read_file(path_) == (is_new ? new_bytes_ : old_bytes_), what + ": the bytes of the file");
            for (const bool mapped : {false, true}) {
                check(load_index(path_, mapped)->size() == (is_new ? index_ : old_)->size(), what + ": it loads");
            }
        }
        check(names.size() <= most_left, what + ": files are left");
        for (const std::string& name : names) check(name.rfind(".fasthash-", 0) == 0, what + ": left is " + name);
    }

    std::unique_ptr<Index> index_;
    std::string path_;
    std::unique_ptr<Index> old_;
    std::vector<std::uint8_t> old_bytes_, new_bytes_, queries_;
    Found answer_;
    std::vector<std::string> steps_;
};

void test_saving() {
    std::unique_ptr<Index> indices[2];
    indices[0] = std::make_unique<FlatIndex>(kLayout.n_bits());
    indices[1] = std::make_unique<HierIndex>(kLayout);
    for (auto& index : indices) {
        Saving saving(std::move(index));
        saving.test_kills();
        saving.test_kills_at_any_time();
        saving.test_errors();
        saving.test_limit();
    }
}

// ---- memory that runs out ----

constexpr long kMostAllocations = 200;
bool thorough = false;
std::size_t n_failures = 0, n_bad_alloc = 0;

// Runs something while the n-th allocation fails, and all after it if `all`. False if it threw.
template <typename Call>
bool run_refused(long n, bool all, Call call) {
    bool done = false;
    refused = false;
    all_after = all;
    n_until_refusal = n;
    try {
        call();
        done = true;
        n_until_refusal = LONG_MAX;
    } catch (const std::bad_alloc&) {
        n_until_refusal = LONG_MAX;
        ++n_bad_alloc;
    } catch (const std::exception&) {
        n_until_refusal = LONG_MAX;
    }
    check(done || refused, "an error without a cause");
    if (!done) ++n_failures;
    return done;
}

// Calls `attempt(n, all)` until there are fewer than n allocations.
template <typename Attempt>
void for_each_refusal(Attempt attempt) {
    for (const bool all : {false, true}) {
        for (long n = 1; n <= kMostAllocations; n += thorough ? (all ? 7 : 1) : 1 + n / 4) {
            attempt(n, all);
            if (!refused) break;
        }
    }
}

/// An index in two segments, with removed codes, and what it must answer.
struct Subject {
    std::unique_ptr<Index> index;
    std::vector<std::uint8_t> bytes, queries;
    CodeView asked;
    IdFilter narrow, wide;
    Found nearest, nearest_narrow, nearest_wide, pruned;
    RangeResult within;

    explicit Subject(std::unique_ptr<Index> empty, std::size_t n = 1100)
        : index(std::move(empty)),
          queries(random_codes(40 * kWidth, generator)),
          asked{queries.data(), 2, kWidth},
          narrow(numbers(0, 50)),
          wide(numbers(20, n - 100)) {
        index->add({random_codes(n * kWidth, generator).data(), n, kWidth}, nullptr);
        index->add({random_codes(20 * kWidth, generator).data(), 20, kWidth}, nullptr);
        const auto gone = numbers(40, 30);
        index->remove(gone.data(), gone.size());
        bytes = index->to_bytes();
        nearest = search(*index, asked, 10);
        nearest_narrow = search(*index, asked, 10, &narrow);
        nearest_wide = search(*index, asked, 10, &wide);
        within = index->range_search(asked, 12, nullptr, nullptr);
    }

    static std::vector<std::int64_t> numbers(std::int64_t first, std::size_t n) {
        std::vector<std::int64_t> all(n);
        for (std::size_t i = 0; i < n; ++i) all[i] = first + static_cast<std::int64_t>(i);
        return all;
    }
    bool has(const RangeResult& found) const {
        return found.ids == within.ids && found.distances == within.distances && found.offsets == within.offsets;
    }
    void check_unchanged(const Index& same, const std::string& what) const {
        check(same.to_bytes() == bytes, what + ": content");
        check(search(same, asked, 10) == nearest, what + ": search");
        check(search(same, asked, 10, &narrow) == nearest_narrow, what + ": search with a filter");
        check(has(same.range_search(asked, 12, nullptr, nullptr)), what + ": search by radius");
    }
};

// A change happens as a whole or not at all.
void test_change(const Subject& subject, const std::string& what, const std::function<void(Index&)>& change) {
    const auto changed = subject.index->copy();
    change(*changed);
    const std::vector<std::uint8_t> bytes = changed->to_bytes();
    const Found nearest = search(*changed, subject.asked, 10);
    for_each_refusal([&](long n, bool all) {
        const auto index = subject.index->copy();
        if (run_refused(n, all, [&] { change(*index); })) {
            check(index->to_bytes() == bytes && search(*index, subject.asked, 10) == nearest, what + ": done");
        } else {
            subject.check_unchanged(*index, what + ": not done");
            change(*index);
            check(index->to_bytes() == bytes && search(*index, subject.asked, 10) == nearest,
                  what + ": done afterwards");
        }
    });
}

// What only reads returns what it must or throws. `fresh`: on an index that has nothing prepared yet.
void test_read(const Subject& subject, const std::string& what, const std::function<bool(const Index&)>& read,
               bool fresh = false) {
    for_each_refusal([&](long n, bool all) {
        const auto index = fresh ? index_from_bytes(subject.bytes.data(), subject.bytes.size()) : subject.index->copy();
        bool right = true;
        run_refused(n, all, [&] { right = read(*index); });
        check(right, what + ": the answer");
        if (n % 8 == 1) subject.check_unchanged(*index, what);
        check(read(*index), what + ": afterwards");
    });
}

void test_changes_without_memory(const Subject& subject) {
    const auto codes = random_codes(600 * kWidth, generator);
    const auto ids = Subject::numbers(100000, 600), few = Subject::numbers(100, 5), many = Subject::numbers(200, 500);
    FlatIndex flat(kLayout.n_bits());
    HierIndex hier(kLayout);
    for (Index* other : {static_cast<Index*>(&flat), static_cast<Index*>(&hier)}) {
        other->add({codes.data(), 300, kWidth}, ids.data());
    }
    const Index& other = subject.index->kind() == IndexKind::flat ? static_cast<const Index&>(flat) : hier;
    test_change(subject, "add", [&](Index& index) { index.add({codes.data(), 600, kWidth}, nullptr); });
    test_change(subject, "add a few", [&](Index& index) { index.add({codes.data(), 3, kWidth}, nullptr); });
    test_change(subject, "add ids", [&](Index& index) { index.add({codes.data(), 600, kWidth}, ids.data()); });
    test_change(subject, "remove", [&](Index& index) { index.remove(few.data(), few.size()); });
    test_change(subject, "remove many", [&](Index& index) { index.remove(many.data(), many.size()); });
    test_change(subject, "update", [&](Index& index) { index.update(few.data(), {codes.data(), few.size(), kWidth}); });
    test_change(subject, "update many",
                [&](Index& index) { index.update(many.data(), {codes.data(), many.size(), kWidth}); });
    test_change(subject, "compact", [&](Index& index) { index.compact(); });
    test_change(subject, "merge", [&](Index& index) { index.merge(other); });
}

void test_reads_without_memory(const Subject& subject) {
    const std::int64_t ids[] = {5, 1110, 900, 5};
    const CodeView all_queries = view(subject.queries, kWidth);
    const Found all_nearest = search(*subject.index, all_queries, 1200);
    const Export items = subject.index->export_items();
    std::vector<std::uint8_t> codes(4 * kWidth);
    subject.index->reconstruct(ids, 4, codes.data());
    test_read(subject, "search",
              [&](const Index& index) { return search(index, subject.asked, 10) == subject.nearest; });
    test_read(subject, "search for many",
              [&](const Index& index) { return search(index, all_queries, 1200) == all_nearest; });
    test_read(subject, "search by radius",
              [&](const Index& index) { return subject.has(index.range_search(subject.asked, 12, nullptr, nullptr)); });
    test_read(subject, "count", [&](const Index& index) {
        std::int64_t counts[2];
        index.count_within(subject.asked, 12, nullptr, counts);
        return counts[0] == subject.within.offsets[1] && counts[0] + counts[1] == subject.within.offsets[2];
    });
    test_read(subject, "search with a wide filter", [&](const Index& index) {
        return search(index, subject.asked, 10, &subject.wide) == subject.nearest_wide;
    });
    test_read(
        subject, "search with a narrow filter",
        [&](const Index& index) { return search(index, subject.asked, 10, &subject.narrow) == subject.nearest_narrow; },
        true);
    test_read(subject, "search with a filter that is kept", [&](const Index& index) {
        IdFilter kept(subject.narrow.ids());
        kept.set_reusable();
        return search(index, subject.asked, 10, &kept) == subject.nearest_narrow &&
               search(index, subject.asked, 10, &kept) == subject.nearest_narrow;
    });
    IdFilter kept(subject.narrow.ids());
    kept.set_reusable();
    test_read(subject, "search with one filter after failures",
              [&](const Index& index) { return search(index, subject.asked, 10, &kept) == subject.nearest_narrow; });
    if (subject.index->kind() == IndexKind::hier) {
        test_read(
            subject, "pruned search",
            [&](const Index& index) {
                return search(index, subject.asked, 10, nullptr, Pruning{1.0}) == subject.nearest;
            },
            true);
        test_read(subject, "pruned search with a filter", [&](const Index& index) {
            return search(index, subject.asked, 10, &subject.narrow, Pruning{1.0}) == subject.nearest_narrow;
        });
    }
    test_read(
        subject, "contains", [&](const Index& index) { return index.contains(700) && !index.contains(41); }, true);
    test_read(
        subject, "reconstruct",
        [&](const Index& index) {
            std::vector<std::uint8_t> got(4 * kWidth);
            index.reconstruct(ids, 4, got.data());
            return got == codes;
        },
        true);
    test_read(subject, "all items", [&](const Index& index) {
        const Export got = index.export_items();
        return got.ids == items.ids && got.codes == items.codes;
    });
    test_read(subject, "copy", [&](const Index& index) { return index.copy()->size() == 1090; });
    test_read(subject, "bytes of memory", [&](const Index& index) { return index.nbytes() > 1090 * kWidth / 2; });
    test_read(subject, "to_bytes", [&](const Index& index) { return index.to_bytes() == subject.bytes; });
    test_read(subject, "from bytes", [&](const Index& index) {
        return index_from_bytes(subject.bytes.data(), subject.bytes.size())->size() == index.size();
    });
}

void test_files_without_memory(const Subject& subject) {
    // Long enough that no name fits into the string itself.
    const std::string path = folder + "/an index with a name that is not short.fh";
    FlatIndex old(kLayout.n_bits());
    const std::vector<std::uint8_t> old_bytes = old.to_bytes();
    for_each_refusal([&](long n, bool all) {
        old.save(path);
        const bool done = run_refused(n, all, [&] { subject.index->save(path); });
        check(read_file(path) == (done ? subject.bytes : old_bytes), "save: the bytes of the file");
        check(files_in_folder().size() == 1, "save: nothing is left");
        subject.check_unchanged(*subject.index, "save");
    });
    subject.index->save(path);
    for (const bool mapped : {false, true}) {
        test_read(subject, "load",
                  [&](const Index& index) { return load_index(path, mapped)->size() == index.size(); });
    }
    test_read(subject, "peek", [&](const Index& index) { return peek_file(path).n_codes == index.size(); });
    test_read(subject, "verify", [&](const Index&) { return verify_file(path).fault.empty(); });
    empty_folder();
}

void test_filters_without_memory() {
    const std::uint8_t mask[] = {1, 0, 1};
    for_each_refusal([&](long n, bool all) {
        run_refused(n, all, [&] { check(IdFilter({5, 3, 100000}).contains(3), "a filter"); });
        const bool was_refused = refused;
        run_refused(n, all, [&] { check(IdFilter::from_mask(mask, 3)->size() == 2, "a mask"); });
        refused = refused || was_refused;
    });
}

void test_memory() {
    test_filters_without_memory();
    auto indices = indices_of_every_kind(kLayout);
    for (std::size_t i = 0; i < indices.size(); ++i) {
        const auto codes = random_codes(300 * kWidth, generator);
        // Whatever the plan, from nothing.
        for_each_refusal([&](long n, bool all) {
            const auto index = indices[i]->copy();
            if (!run_refused(n, all, [&] { index->add(view(codes, kWidth), nullptr); })) {
                check(index->size() == 0 && index->n_segments() == 0 && index->next_id() == 0, "build: not done");
                index->add(view(codes, kWidth), nullptr);
            }
            check(index->size() == 300 && index->contains(299), "build: done");
        });
        // One of each kind of segment; for long also with the plans that have tables of their own.
        if (i > 1 && (!thorough || (i != 7 && i != 12))) continue;
        const Subject subject(indices[i]->copy());
        test_changes_without_memory(subject);
        test_reads_without_memory(subject);
        test_files_without_memory(subject);
    }
    check(n_failures > 500 && n_bad_alloc > n_failures / 2, "memory ran out");
}

}  // namespace
}  // namespace fasthash::testing

int main(int argc, char** argv) {
    using namespace fasthash::testing;
    thorough = argc == 2 && std::strcmp(argv[1], "thorough") == 0;
    check(argc == 1 || thorough, "usage: faults_test [thorough]");
    folder = "faults_test-" + std::to_string(getpid());
    check(mkdir(folder.c_str(), 0777) == 0, "mkdir");
    fasthash::set_num_threads(3);
    test_saving();
    test_memory();
    check(rmdir(folder.c_str()) == 0, "rmdir");
    std::printf("faults_test: memory was refused %zu times\n", n_failures);
    std::puts("faults_test: all passed");
}
