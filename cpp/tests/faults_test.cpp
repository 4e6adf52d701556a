// Tests of saves that are killed, or fail, at any step: the old file or the new one is intact.
#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "platform/files.h"
#include "testing.h"

namespace fasthash::testing {

const char* const kTestName = "faults_test";

namespace {

constexpr std::size_t kWidth = 8;
const LevelLayout kLayout({8, 16, 40});

std::mt19937 generator(1);
std::string folder;  // of this test; empty between its checks

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

// Records the steps of a save, numbered from 1, and kills or fails one of them.
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
        // Large enough for several writes.
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
            for (int again = 0; again < 3; ++again) {
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

    // Killed at any moment, also within a step.
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

    // The system refuses further writes (RLIMIT_FSIZE).
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
    // Errors for an existing file name the target of its symbolic links.
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

}  // namespace
}  // namespace fasthash::testing

int main() {
    using namespace fasthash::testing;
    folder = "faults_test-" + std::to_string(getpid());
    check(mkdir(folder.c_str(), 0777) == 0, "mkdir");
    fasthash::set_num_threads(3);
    test_saving();
    check(rmdir(folder.c_str()) == 0, "rmdir");
    std::puts("faults_test: all passed");
}
