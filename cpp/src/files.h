// Files of the operating system: written atomically and durably, read with a known length.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace fasthash {

/// A new file that takes the place of `path` in one step. Until commit has returned the old file is intact; dropped
/// without commit it leaves nothing behind.
class AtomicFile {
 public:
    explicit AtomicFile(const std::string& path);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(const void* data, std::size_t n_bytes, std::uint64_t offset);
    /// Make the content durable, then move it to `path`.
    void commit();

 private:
    [[noreturn]] void fail(const char* step) const;

    std::string path_;
    std::string temporary_;
    int descriptor_ = -1;
};

/// An existing regular file, open for reading.
class InputFile {
 public:
    explicit InputFile(std::string path);
    ~InputFile();
    InputFile(const InputFile&) = delete;
    InputFile& operator=(const InputFile&) = delete;

    std::uint64_t size() const { return size_; }
    /// Read exactly these bytes. Throws FormatError if the file ends before, which it did not when it was opened.
    void read(void* data, std::size_t n_bytes, std::uint64_t offset) const;

 private:
    std::string path_;
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
};

}  // namespace fasthash
