#include "files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>

#include "fasthash/error.h"

namespace fasthash {
namespace {

// macOS refuses to move 2 GiB or more at once.
constexpr std::size_t kMaxTransfer = std::size_t{1} << 30;

std::string directory_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// A hidden name beside the target: a rename is atomic only within one file system.
std::string temporary_beside(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return path.substr(0, slash == std::string::npos ? 0 : slash + 1) + ".fasthash-" + std::to_string(::getpid()) +
           "-" + std::to_string(std::random_device{}()) + ".tmp";
}

// Where a save to `path` goes: through symbolic links to the file they name, and never over anything but a file.
std::string save_target(const std::string& path) {
    struct stat old;
    if (::stat(path.c_str(), &old) != 0) return path;  // nothing there yet, or nothing that can be reached
    if (S_ISDIR(old.st_mode)) throw IoError(EISDIR, "cannot save", path);
    if (!S_ISREG(old.st_mode)) throw IoError(EINVAL, "cannot save over what is not a regular file", path);
    const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path.c_str(), nullptr), &std::free);
    if (resolved == nullptr) throw IoError(errno, "cannot follow the path", path);
    return resolved.get();
}

int sync_to_disk(int descriptor) {
#ifdef F_FULLFSYNC  // macOS: fsync alone leaves the data in the drive's cache
    if (::fcntl(descriptor, F_FULLFSYNC) == 0) return 0;
#endif
    return ::fsync(descriptor);
}

}  // namespace

int (*file_step_hook)(const char* step) = nullptr;

AtomicFile::AtomicFile(const std::string& path)
    : path_(save_target(path)), temporary_(temporary_beside(path_)), folder_(directory_of(path_)) {
    begin("cannot create a file to save to");
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0) fail("cannot create a file to save to");
    struct stat old;
    if (::stat(path_.c_str(), &old) == 0) ::fchmod(descriptor_, old.st_mode & 07777);
}

AtomicFile::~AtomicFile() {
    if (descriptor_ >= 0) {
        ::close(descriptor_);
        ::unlink(temporary_.c_str());
    }
}

void AtomicFile::write(const void* data, std::size_t n_bytes, std::uint64_t offset) {
    const char* p = static_cast<const char*>(data);
    while (n_bytes > 0) {
        begin("cannot write");
        const ssize_t n = ::pwrite(descriptor_, p, std::min(n_bytes, kMaxTransfer), static_cast<off_t>(offset));
        if (n < 0) {
            if (errno == EINTR) continue;
            fail("cannot write");
        }
        p += n;
        offset += static_cast<std::uint64_t>(n);
        n_bytes -= static_cast<std::size_t>(n);
    }
}

void AtomicFile::commit() {
    begin("cannot flush to disk");
    if (sync_to_disk(descriptor_) != 0) fail("cannot flush to disk");
    begin("cannot move the new file into place");
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot move the new file into place");
    ::close(descriptor_);
    descriptor_ = -1;
    // The new name is durable once the folder is.
    begin("cannot flush the folder");
    const int folder = ::open(folder_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) fail("cannot open the folder to flush it");
    const int result = sync_to_disk(folder);
    const int code = errno;
    ::close(folder);
    errno = code;
    // Some file systems cannot flush folders and say EINVAL; their renames are as durable as they can be.
    if (result != 0 && errno != EINVAL) fail("cannot flush the folder");
}

void AtomicFile::begin(const char* step) const {
    if (file_step_hook == nullptr) return;
    errno = file_step_hook(step);
    if (errno != 0) fail(step);
}

void AtomicFile::fail(const char* step) const { throw IoError(errno, step, path_); }

InputFile::InputFile(std::string path) : path_(std::move(path)) {
    // O_NONBLOCK: a pipe must be refused, not waited for.
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (descriptor_ < 0) throw IoError(errno, "cannot open", path_);
    struct stat info;
    const int result = ::fstat(descriptor_, &info);
    const int code = errno;
    if (result == 0 && S_ISREG(info.st_mode)) {
        size_ = static_cast<std::uint64_t>(info.st_size);
        return;
    }
    ::close(descriptor_);
    if (result != 0) throw IoError(code, "cannot examine", path_);
    if (S_ISDIR(info.st_mode)) throw IoError(EISDIR, "cannot open", path_);
    throw FormatError("not a regular file");
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read(void* data, std::size_t n_bytes, std::uint64_t offset) const {
    char* p = static_cast<char*>(data);
    while (n_bytes > 0) {
        const ssize_t n = ::pread(descriptor_, p, std::min(n_bytes, kMaxTransfer), static_cast<off_t>(offset));
        if (n < 0) {
            if (errno == EINTR) continue;
            throw IoError(errno, "cannot read", path_);
        }
        if (n == 0) throw FormatError("file ends at byte " + std::to_string(offset));
        p += n;
        offset += static_cast<std::uint64_t>(n);
        n_bytes -= static_cast<std::size_t>(n);
    }
}

MappedFile::MappedFile(const std::string& path) {
    const InputFile file(path);
    size_ = file.size();
    if (size_ == 0) return;
    void* data = ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ, MAP_SHARED, file.descriptor_, 0);
    if (data == MAP_FAILED) throw IoError(errno, "cannot map", path);
    data_ = static_cast<const std::uint8_t*>(data);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::uint8_t*>(data_), static_cast<std::size_t>(size_));
}

void MappedFile::read(void* data, std::size_t n_bytes, std::uint64_t offset) const {
    if (n_bytes > 0) std::memcpy(data, data_ + offset, n_bytes);
}

void MemorySource::read(void* data, std::size_t n_bytes, std::uint64_t offset) const {
    if (n_bytes > 0) std::memcpy(data, data_ + offset, n_bytes);
}

void MemorySink::write(const void* data, std::size_t n_bytes, std::uint64_t offset) {
    if (n_bytes == 0) return;
    if (offset + n_bytes > bytes_.size()) bytes_.resize(static_cast<std::size_t>(offset) + n_bytes);
    std::memcpy(bytes_.data() + offset, data, n_bytes);
}

}  // namespace fasthash
