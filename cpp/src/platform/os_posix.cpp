// os.h for Linux, macOS and other POSIX systems.
#if !defined(_WIN32)
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <utility>

#include "platform/os.h"

#if defined(__linux__)
#include <sched.h>
#include <sys/resource.h>
#elif defined(__APPLE__)
#include <pthread/qos.h>
#endif

namespace fasthash::os {
namespace {

// macOS refuses to move 2 GiB or more at once.
constexpr std::size_t kMaxTransfer = std::size_t{1} << 30;

constexpr std::size_t kLine = 64;

int fill(int result, const struct stat& info, FileStatus& status) {
    if (result != 0) return result;
    status.kind = S_ISREG(info.st_mode)   ? FileKind::regular
                  : S_ISDIR(info.st_mode) ? FileKind::directory
                                          : FileKind::other;
    status.size = static_cast<std::uint64_t>(info.st_size);
    return 0;
}

int lock(int descriptor, int how) {
    int result;
    do result = ::flock(descriptor, how);
    while (result != 0 && errno == EINTR);
    return result;
}

// Copies the permissions of the replaced file. If its group cannot be set, the group gets the permissions of others.
void take_permissions(int descriptor, const struct stat& model) {
    mode_t mode = model.st_mode & 0777;
    struct stat info;
    if (::fstat(descriptor, &info) != 0) return;
    if (info.st_gid != model.st_gid && ::fchown(descriptor, static_cast<uid_t>(-1), model.st_gid) != 0) {
        mode = (mode & 0707) | (mode & 0070 & ((mode & 0007) << 3));
    }
    ::fchmod(descriptor, mode);
}

// Large pages save most TLB misses of searches with random access.
void* on_large_pages(void* memory, [[maybe_unused]] std::size_t n_bytes) {
#if defined(__linux__)
    constexpr std::size_t kPage = 4096, kWorthIt = std::size_t{4} << 20;
    if (memory == nullptr || n_bytes < kWorthIt) return memory;
    const std::uintptr_t begin = (reinterpret_cast<std::uintptr_t>(memory) + kPage - 1) / kPage * kPage;
    const std::uintptr_t end = (reinterpret_cast<std::uintptr_t>(memory) + n_bytes) / kPage * kPage;
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);  // a hint: failure is harmless
#endif
    return memory;
}

}  // namespace

const char* const kSeparators = "/";

int status(const std::string& path, FileStatus& status) {
    struct stat info;
    return fill(::stat(path.c_str(), &info), info, status);
}

int status(int descriptor, FileStatus& status) {
    struct stat info;
    return fill(::fstat(descriptor, &info), info, status);
}

int follow_links(std::string& path) {
    constexpr int kMostLinks = 40;  // as Linux
    char target[PATH_MAX];
    for (int n_links = 0; n_links <= kMostLinks; ++n_links) {
        const ssize_t n = ::readlink(path.c_str(), target, sizeof target);
        if (n < 0) return 0;  // not a link, or not accessible
        const std::string name(target, static_cast<std::size_t>(n));
        path = (name[0] == '/' ? "" : path.substr(0, path.find_last_of('/') + 1)) + name;
    }
    errno = ELOOP;
    return -1;
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), &::closedir);
    if (open == nullptr) return names;
    while (const dirent* entry = ::readdir(open.get())) names.emplace_back(entry->d_name);
    return names;
}

int create(const std::string& path, const std::string& model) {
    struct stat old, info;
    const bool replaces = ::stat(model.c_str(), &old) == 0;
    while (true) {
        const int descriptor = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, replaces ? 0600 : 0666);
        if (descriptor < 0) return -1;
        // `remove_abandoned` in another process may remove the file before it is locked: create it again then.
        if (lock(descriptor, LOCK_EX) == 0 && ::fstat(descriptor, &info) == 0 && info.st_nlink == 0) {
            ::close(descriptor);
            continue;
        }
        if (replaces) take_permissions(descriptor, old);
        return descriptor;
    }
}

void remove_abandoned(const std::string& path) {
    constexpr int kHow = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    int descriptor = ::open(path.c_str(), O_WRONLY | kHow);  // NFS locks need write access
    if (descriptor < 0) descriptor = ::open(path.c_str(), O_RDONLY | kHow);
    if (descriptor < 0) return;
    // With the lock, the process that made the file has ended. The name may belong to another file by now, of a saver
    // whose first one was removed before it was locked.
    struct stat locked, named;
    const bool same = lock(descriptor, LOCK_EX | LOCK_NB) == 0 && ::fstat(descriptor, &locked) == 0 &&
                      ::lstat(path.c_str(), &named) == 0 && locked.st_dev == named.st_dev &&
                      locked.st_ino == named.st_ino;
    if (same) ::unlink(path.c_str());
    ::close(descriptor);
}

int open(const std::string& path) { return ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC); }

void close(int descriptor) { ::close(descriptor); }

void remove(const std::string& path) { ::unlink(path.c_str()); }

std::int64_t read(int descriptor, void* data, std::size_t n, std::uint64_t offset) {
    return ::pread(descriptor, data, std::min(n, kMaxTransfer), static_cast<off_t>(offset));
}

std::int64_t write(int descriptor, const void* data, std::size_t n, std::uint64_t offset) {
    return ::pwrite(descriptor, data, std::min(n, kMaxTransfer), static_cast<off_t>(offset));
}

int flush(int descriptor) {
#ifdef F_FULLFSYNC  // macOS: fsync alone leaves the data in the drive's cache
    if (::fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
#endif
    return ::fsync(descriptor);
}

int flush_folder(const std::string& path) {
    const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0 && errno == EACCES) {  // a folder may be writable without being readable
        ::sync();
        return 0;
    }
    if (folder < 0) return -1;
    const int result = flush(folder);
    const int code = errno;
    ::close(folder);
    errno = code;
    // EINVAL: the file system cannot flush folders; nothing more can be done.
    return result != 0 && errno == EINVAL ? 0 : result;
}

int replace(const std::string& from, const std::string& to) { return ::rename(from.c_str(), to.c_str()); }

const void* map(int descriptor, std::size_t n) {
    const void* memory = ::mmap(nullptr, n, PROT_READ, MAP_SHARED, descriptor, 0);
    return memory == MAP_FAILED ? nullptr : memory;
}

void unmap(const void* memory, std::size_t n) { ::munmap(const_cast<void*>(memory), n); }

void* allocate(std::size_t n_bytes) {
    n_bytes = (n_bytes + kLine - 1) / kLine * kLine;
    return on_large_pages(std::aligned_alloc(kLine, n_bytes), n_bytes);
}

void* reallocate(void* memory, std::size_t n_bytes) {
    n_bytes = (n_bytes + kLine - 1) / kLine * kLine;
    void* moved = std::realloc(memory, n_bytes);
    if (reinterpret_cast<std::uintptr_t>(moved) % kLine != 0) {  // realloc does not keep the alignment
        if (void* aligned = std::aligned_alloc(kLine, n_bytes)) {
            std::memcpy(aligned, moved, n_bytes);
            std::free(std::exchange(moved, aligned));
        }
    }
    return on_large_pages(moved, n_bytes);
}

void release(void* memory) { std::free(memory); }

unsigned long process_id() { return static_cast<unsigned long>(::getpid()); }

std::size_t n_processors() {
#if defined(__linux__)
    cpu_set_t set;  // may be fewer than the machine has, as in a container
    if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<std::size_t>(CPU_COUNT(&set));
#endif
    return std::thread::hardware_concurrency();
}

void lower_priority() {
#if defined(__linux__)
    // On Linux the priority is one of a thread, whose number 0 means the calling one. 10 of 19: a tenth of the share of
    // others on a busy machine, so that the work ends there, too.
    (void)setpriority(PRIO_PROCESS, 0, 10);
#elif defined(__APPLE__)
    (void)pthread_set_qos_class_self_np(QOS_CLASS_UTILITY, 0);
#endif
}

void at_fork(void (*prepare)(), void (*in_parent)(), void (*in_child)()) {
    if (pthread_atfork(prepare, in_parent, in_child) != 0) throw std::bad_alloc();
}

}  // namespace fasthash::os

#endif
