// The operating system: files, memory, processes.
//
// The only platform-dependent interface of the core, implemented by os_posix.cpp and os_windows.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fasthash::os {

// Files. Functions that fail return -1 or null and set errno to a POSIX code on every system. Paths are the bytes that
// the system uses; UTF-8 on Windows. Child programs do not inherit descriptors.

enum class FileKind { regular, directory, other };

struct FileStatus {
    FileKind kind;
    std::uint64_t size;
};

/// Characters that separate the folders of a path.
extern const char* const kSeparators;

/// The status of a file; symbolic links are followed.
int status(const std::string& path, FileStatus& status);
int status(int descriptor, FileStatus& status);
/// Replace a path by the target of its symbolic links; the target need not exist.
int follow_links(std::string& path);
/// The names in a folder; none if it cannot be read.
std::vector<std::string> names_in(const std::string& folder);

/// Create a file for writing; fails if the name exists. If there is a file at `model`, the new one gets its
/// permissions, never more, without setuid and setgid. Until the descriptor is closed, `remove_abandoned` leaves the
/// file alone.
int create(const std::string& path, const std::string& model);
/// Remove a file that `create` made, unless a process may still have it open.
void remove_abandoned(const std::string& path);
/// Open a file or folder for reading. Opening a pipe does not wait for a writer.
int open(const std::string& path);
void close(int descriptor);
void remove(const std::string& path);
/// Read or write at most n bytes at `offset`; returns how many, possibly fewer.
std::int64_t read(int descriptor, void* data, std::size_t n, std::uint64_t offset);
std::int64_t write(int descriptor, const void* data, std::size_t n, std::uint64_t offset);
/// Wait until all written bytes are on the disk.
int flush(int descriptor);
/// Wait until the names in a folder are on the disk, if the system supports it. The folder need not be readable.
int flush_folder(const std::string& path);
/// Rename `from`, which may be open, to `to` in one step, replacing an existing file.
int replace(const std::string& from, const std::string& to);

/// Map a file read-only, shared between processes. The mapping outlives the descriptor.
const void* map(int descriptor, std::size_t n);
void unmap(const void* memory, std::size_t n);

// Memory, aligned to a cache line; large blocks use large pages where the system has them.

/// Null if out of memory.
void* allocate(std::size_t n_bytes);
/// Resize a block, in place where the system can. Null if out of memory; the block is then unchanged.
void* reallocate(void* memory, std::size_t n_bytes);
void release(void* memory);

// Processes.

unsigned long process_id();
/// Processors that this process may use; 0 if unknown.
std::size_t n_processors();
/// Let other threads run before the calling one, from now on; does nothing if the system refuses.
void lower_priority();
/// Register functions to be called around each fork, as pthread_atfork does; null for none. Does nothing on systems
/// without fork. Throws std::bad_alloc.
void at_fork(void (*prepare)(), void (*in_parent)(), void (*in_child)());

}  // namespace fasthash::os
