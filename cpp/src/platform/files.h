// Files: written atomically and durably, read or mapped with a known length.
//
// Used by the index file format. Failures throw IoError with the path and the failed step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fasthash {

/// Destination of written bytes.
class ByteSink {
 public:
    virtual ~ByteSink() = default;
    virtual void write(const void* data, std::size_t n_bytes, std::uint64_t offset) = 0;
    /// Finish: all bytes have been written.
    virtual void commit() = 0;
};

/// Readable bytes of a known length.
class ByteSource {
 public:
    virtual ~ByteSource() = default;
    virtual std::uint64_t size() const = 0;
    /// Read exactly n_bytes at `offset`; the caller keeps them within size().
    virtual void read(void* data, std::size_t n_bytes, std::uint64_t offset) const = 0;
};

/// Test hook, called with the name of each step before a file is written; a result other than 0 is the errno with which
/// the step fails. Null except in tests of crashes and broken disks.
extern int (*file_step_hook)(const char* step);

/// A new file that replaces `path` in one step, at commit. Until then the old file is intact; without a commit the
/// destructor removes the new one.
class AtomicFile final : public ByteSink {
 public:
    explicit AtomicFile(const std::string& path);
    ~AtomicFile() override;
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(const void* data, std::size_t n_bytes, std::uint64_t offset) override;
    /// Flush the content to disk, then rename it to `path`.
    void commit() override;

 private:
    void begin(const char* step) const;
    [[noreturn]] void fail(const char* step) const;

    std::string path_;
    std::string temporary_;
    std::string folder_;
    int descriptor_ = -1;
};

/// An existing regular file, open for reading.
class InputFile final : public ByteSource {
 public:
    explicit InputFile(std::string path);
    ~InputFile() override;
    InputFile(const InputFile&) = delete;
    InputFile& operator=(const InputFile&) = delete;

    std::uint64_t size() const override { return size_; }
    /// Throws FormatError if the file has been truncated since it was opened.
    void read(void* data, std::size_t n_bytes, std::uint64_t offset) const override;

 private:
    friend class MappedFile;

    std::string path_;
    int descriptor_ = -1;
    std::uint64_t size_ = 0;
};

/// An existing regular file, mapped read-only into memory; processes that map it share the pages.
class MappedFile final : public ByteSource {
 public:
    explicit MappedFile(const std::string& path);
    ~MappedFile() override;
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::uint64_t size() const override { return size_; }
    void read(void* data, std::size_t n_bytes, std::uint64_t offset) const override;
    const std::uint8_t* data() const { return data_; }

 private:
    const std::uint8_t* data_ = nullptr;
    std::uint64_t size_ = 0;
};

/// Bytes in memory owned by the caller.
class MemorySource final : public ByteSource {
 public:
    MemorySource(const std::uint8_t* data, std::size_t n_bytes) : data_(data), size_(n_bytes) {}
    std::uint64_t size() const override { return size_; }
    void read(void* data, std::size_t n_bytes, std::uint64_t offset) const override;

 private:
    const std::uint8_t* data_;
    std::uint64_t size_;
};

class MemorySink final : public ByteSink {
 public:
    void write(const void* data, std::size_t n_bytes, std::uint64_t offset) override;
    void commit() override {}
    std::vector<std::uint8_t> take() { return std::move(bytes_); }

 private:
    std::vector<std::uint8_t> bytes_;
};

}  // namespace fasthash
