// What the core asks of the operating system, each thing in one place: os_posix.cpp and os_windows.cpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fasthash::os {

// Files. What fails returns -1 or null and sets errno, on every system to the codes of POSIX. Paths are the bytes that
// the system uses, which are UTF-8 on Windows. Descriptors are not inherited by other programs.

enum class FileKind { regular, directory, other };

struct FileStatus {
    FileKind kind;
    std::uint64_t size;
};

/// What separates the folders of a path.
extern const char* const kSeparators;

/// Of the file that a path leads to, through symbolic links.
int status(const std::string& path, FileStatus& status);
int status(int descriptor, FileStatus& status);
/// Replace a path by that of the file to which its symbolic links lead, which need not be there.
int follow_links(std::string& path);
/// The names in a folder; none where they cannot be read.
std::vector<std::string> names_in(const std::string& folder);

/// A new file, to be written; fails if the name is taken. It has the permissions of the file at `model` if that is
/// there, without setuid and setgid, and never more than those. Until it is closed, `remove_abandoned` leaves it alone.
int create(const std::string& path, const std::string& model);
/// Remove a file that `create` made, unless a process still has it open; does nothing where that cannot be told.
void remove_abandoned(const std::string& path);
/// A file or folder, to be read. A pipe is opened without waiting for who writes to it.
int open(const std::string& path);
void close(int descriptor);
void remove(const std::string& path);
/// At most n bytes, fewer at the end of the file or where the system likes; how many there were.
std::int64_t read(int descriptor, void* data, std::size_t n, std::uint64_t offset);
std::int64_t write(int descriptor, const void* data, std::size_t n, std::uint64_t offset);
/// Wait until what was written is on the disk.
int flush(int descriptor);
/// The same for the names in a folder, where the system can. The folder need not be readable.
int flush_folder(const std::string& path);
/// Give the file at `from`, which may be open, the name `to` in one step, in place of what has it.
int replace(const std::string& from, const std::string& to);

/// The content as memory that is only read, shared between processes. It outlives the descriptor.
const void* map(int descriptor, std::size_t n);
void unmap(const void* memory, std::size_t n);

// Memory that begins at a cache line, where the system can have it so; large blocks on large pages.

/// Null if there is none.
void* allocate(std::size_t n_bytes);
/// The block with another size, in place where the system can. Null if there is none: the block is then as it was.
void* reallocate(void* memory, std::size_t n_bytes);
void release(void* memory);

// Processes.

unsigned long process_id();
/// Processors that this process may use; 0 if that cannot be told.
std::size_t n_processors();
/// Have functions called around each fork, as pthread_atfork does; null for none. Nothing where there are no forks.
/// Throws std::bad_alloc.
void at_fork(void (*prepare)(), void (*in_parent)(), void (*in_child)());

}  // namespace fasthash::os
