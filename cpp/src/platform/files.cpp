#include "platform/files.h"

#include <cerrno>
#include <cstring>
#include <new>
#include <random>

#include "fasthash/error.h"
#include "platform/os.h"

namespace fasthash {
namespace {

// Offset of the file name in a path.
std::size_t name_in(const std::string& path) { return path.find_last_of(os::kSeparators) + 1; }

std::string directory_of(const std::string& path) {
    const std::size_t n = name_in(path);
    return n == 0 ? "." : path.substr(0, n);
}

[[noreturn]] void refuse(int code, const std::string& step, const std::string& path) {
    if (code == ENOMEM) throw std::bad_alloc();
    throw IoError(code, step, path);
}

const std::string kPrefix = ".fasthash-", kSuffix = ".tmp";

// A hidden name in the target's folder: a rename is atomic only within one file system.
std::string temporary_beside(const std::string& path) {
    return path.substr(0, name_in(path)) + kPrefix + std::to_string(os::process_id()) + "-" +
           std::to_string(std::random_device{}()) + kSuffix;
}

bool is_temporary(const std::string& name) {
    if (name.size() < kPrefix.size() + kSuffix.size() || name.compare(0, kPrefix.size(), kPrefix) != 0) return false;
    const std::size_t end = name.size() - kSuffix.size();
    if (name.compare(end, kSuffix.size(), kSuffix) != 0) return false;
    const std::size_t dash = name.find_first_not_of("0123456789", kPrefix.size());
    if (dash == kPrefix.size() || dash + 1 >= end || name[dash] != '-') return false;
    return name.find_first_not_of("0123456789", dash + 1) == end;
}

// Remove temporary files left by killed processes.
void remove_leftovers(const std::string& folder, const std::string& beginning_of_path) {
    for (const std::string& name : os::names_in(folder)) {
        if (is_temporary(name)) os::remove_abandoned(beginning_of_path + name);
    }
}

// The path to replace: symbolic links are followed, and anything but a regular file is refused.
std::string save_target(const std::string& path) {
    os::FileStatus old;
    if (os::status(path, old) == 0) {  // otherwise the path is new, or create() will report why it cannot be used
        if (old.kind == os::FileKind::directory) refuse(EISDIR, "cannot save over a folder", path);
        if (old.kind != os::FileKind::regular) refuse(EINVAL, "cannot save over what is not a regular file", path);
    }
    std::string target = path;
    if (os::follow_links(target) != 0) refuse(errno, "cannot follow the path", path);
    return target;
}

}  // namespace

int (*file_step_hook)(const char* step) = nullptr;

AtomicFile::AtomicFile(const std::string& path)
    : path_(save_target(path)), temporary_(temporary_beside(path_)), folder_(directory_of(path_)) {
    remove_leftovers(folder_, path_.substr(0, name_in(path_)));
    begin("cannot create a file to save to");
    descriptor_ = os::create(temporary_, path_);
    if (descriptor_ < 0) fail("cannot create a file to save to");
}

AtomicFile::~AtomicFile() {
    if (descriptor_ >= 0) {
        os::close(descriptor_);
        os::remove(temporary_);
    }
}

void AtomicFile::write(const void* data, std::size_t n_bytes, std::uint64_t offset) {
    const char* p = static_cast<const char*>(data);
    while (n_bytes > 0) {
        begin("cannot write");
        const std::int64_t n = os::write(descriptor_, p, n_bytes, offset);
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
    if (os::flush(descriptor_) != 0) fail("cannot flush to disk");
    begin("cannot move the new file into place");
    if (os::replace(temporary_, path_) != 0) fail("cannot move the new file into place");
    os::close(descriptor_);
    descriptor_ = -1;
    // The new name is durable once the folder is.
    begin("cannot flush the folder");
    if (os::flush_folder(folder_) != 0) fail("cannot flush the folder");
}

void AtomicFile::begin(const char* step) const {
    if (file_step_hook == nullptr) return;
    errno = file_step_hook(step);
    if (errno != 0) fail(step);
}

void AtomicFile::fail(const char* step) const { refuse(errno, step, path_); }

InputFile::InputFile(std::string path) : path_(std::move(path)) {
    descriptor_ = os::open(path_);
    if (descriptor_ < 0) refuse(errno, "cannot open", path_);
    os::FileStatus info;
    const int result = os::status(descriptor_, info);
    const int code = errno;
    if (result == 0 && info.kind == os::FileKind::regular) {
        size_ = info.size;
        return;
    }
    os::close(descriptor_);
    if (result != 0) refuse(code, "cannot examine", path_);
    if (info.kind == os::FileKind::directory) refuse(EISDIR, "cannot open", path_);
    throw FormatError("not a regular file");
}

InputFile::~InputFile() { os::close(descriptor_); }

void InputFile::read(void* data, std::size_t n_bytes, std::uint64_t offset) const {
    char* p = static_cast<char*>(data);
    while (n_bytes > 0) {
        const std::int64_t n = os::read(descriptor_, p, n_bytes, offset);
        if (n < 0) {
            if (errno == EINTR) continue;
            refuse(errno, "cannot read", path_);
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
    const void* data = os::map(file.descriptor_, static_cast<std::size_t>(size_));
    if (data == nullptr) refuse(errno, "cannot map", path);
    data_ = static_cast<const std::uint8_t*>(data);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) os::unmap(data_, static_cast<std::size_t>(size_));
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
