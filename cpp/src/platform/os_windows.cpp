// os.h for Windows 10 and newer.
#if defined(_WIN32)
#define NOMINMAX
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
// After it.
#include <fcntl.h>
#include <io.h>
#include <malloc.h>

#include <algorithm>
#include <cerrno>
#include <cwchar>
#include <system_error>
#include <thread>

#include "platform/os.h"

namespace fasthash::os {
namespace {

constexpr std::size_t kMaxTransfer = std::size_t{1} << 30;  // a DWORD holds less than 4 GiB
constexpr std::size_t kLine = 64;

// Sets errno from GetLastError() and returns -1.
int failed() {
    const auto code = static_cast<int>(GetLastError());
    const std::error_condition condition = std::system_category().default_error_condition(code);
    errno = condition.category() == std::generic_category() ? condition.value() : EIO;
    return -1;
}

std::wstring wide(const std::string& path) {
    const auto n = static_cast<int>(path.size());
    std::wstring text(path.size(), L'\0');  // never longer than in UTF-8
    if (n > 0) text.resize(static_cast<std::size_t>(MultiByteToWideChar(CP_UTF8, 0, path.data(), n, text.data(), n)));
    return text;
}

std::string narrow(const std::wstring& path) {
    const auto n = static_cast<int>(path.size());
    std::string text(3 * path.size(), '\0');  // at most three bytes for one of two
    const int n_bytes = static_cast<int>(text.size());
    if (n > 0) {
        text.resize(static_cast<std::size_t>(
            WideCharToMultiByte(CP_UTF8, 0, path.data(), n, text.data(), n_bytes, nullptr, nullptr)));
    }
    return text;
}

HANDLE handle_of(int descriptor) { return reinterpret_cast<HANDLE>(_get_osfhandle(descriptor)); }

// Other processes may read, replace and remove the open file, as on POSIX systems.
constexpr DWORD kShared = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;

HANDLE open_handle(const std::string& path, DWORD access, DWORD creation) {
    return CreateFileW(wide(path).c_str(), access, kShared, nullptr, creation,
                       FILE_FLAG_BACKUP_SEMANTICS,  // needed to open folders
                       nullptr);
}

int open_descriptor(const std::string& path, DWORD access, DWORD creation, int flags) {
    const HANDLE handle = open_handle(path, access, creation);
    if (handle == INVALID_HANDLE_VALUE) return failed();
    const int descriptor = _open_osfhandle(reinterpret_cast<std::intptr_t>(handle), flags | _O_BINARY | _O_NOINHERIT);
    if (descriptor < 0) CloseHandle(handle);
    return descriptor;
}

int fill(HANDLE handle, FileStatus& status) {
    BY_HANDLE_FILE_INFORMATION info;
    if (GetFileType(handle) != FILE_TYPE_DISK) {
        status = {FileKind::other, 0};
        return 0;
    }
    if (!GetFileInformationByHandle(handle, &info)) return failed();
    status.kind = info.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY ? FileKind::directory : FileKind::regular;
    status.size = std::uint64_t{info.nFileSizeHigh} << 32 | info.nFileSizeLow;
    return 0;
}

OVERLAPPED at(std::uint64_t offset) {
    OVERLAPPED place = {};
    place.Offset = static_cast<DWORD>(offset);
    place.OffsetHigh = static_cast<DWORD>(offset >> 32);
    return place;
}

}  // namespace

const char* const kSeparators = "/\\:";

int status(const std::string& path, FileStatus& status) {
    const HANDLE handle = open_handle(path, FILE_READ_ATTRIBUTES, OPEN_EXISTING);
    if (handle == INVALID_HANDLE_VALUE) return failed();
    const int result = fill(handle, status);
    CloseHandle(handle);
    return result;
}

int status(int descriptor, FileStatus& status) { return fill(handle_of(descriptor), status); }

int follow_links(std::string& path) {
    const DWORD attributes = GetFileAttributesW(wide(path).c_str());
    if (attributes == INVALID_FILE_ATTRIBUTES || !(attributes & FILE_ATTRIBUTE_REPARSE_POINT)) return 0;
    const HANDLE handle = open_handle(path, FILE_READ_ATTRIBUTES, OPEN_EXISTING);
    if (handle == INVALID_HANDLE_VALUE) return failed();  // unlike POSIX, fails for a dangling link
    std::wstring resolved(32768, L'\0');                  // the longest path there is
    const DWORD n = GetFinalPathNameByHandleW(handle, resolved.data(), static_cast<DWORD>(resolved.size()), 0);
    if (n == 0 || n >= resolved.size()) failed();
    CloseHandle(handle);
    if (n == 0 || n >= resolved.size()) return -1;
    resolved.resize(n);
    path = narrow(resolved);
    return 0;
}

std::vector<std::string> names_in(const std::string& folder) {
    std::vector<std::string> names;
    WIN32_FIND_DATAW found;
    const HANDLE search = FindFirstFileW(wide(folder + "/*").c_str(), &found);
    if (search == INVALID_HANDLE_VALUE) return names;
    do names.push_back(narrow(found.cFileName));
    while (FindNextFileW(search, &found));
    FindClose(search);
    return names;
}

// A new file inherits the permissions of its folder.
int create(const std::string& path, const std::string&) {
    return open_descriptor(path, GENERIC_WRITE | DELETE, CREATE_NEW, _O_WRONLY);
}

void remove_abandoned(const std::string& path) {
    // Exclusive access fails while another process has the file open.
    const HANDLE handle =
        CreateFileW(wide(path).c_str(), DELETE, 0, nullptr, OPEN_EXISTING, FILE_FLAG_DELETE_ON_CLOSE, nullptr);
    if (handle != INVALID_HANDLE_VALUE) CloseHandle(handle);
}

int open(const std::string& path) { return open_descriptor(path, GENERIC_READ, OPEN_EXISTING, _O_RDONLY); }

void close(int descriptor) { _close(descriptor); }

void remove(const std::string& path) { DeleteFileW(wide(path).c_str()); }

std::int64_t read(int descriptor, void* data, std::size_t n, std::uint64_t offset) {
    OVERLAPPED place = at(offset);
    DWORD n_read = 0;
    if (ReadFile(handle_of(descriptor), data, static_cast<DWORD>(std::min(n, kMaxTransfer)), &n_read, &place)) {
        return n_read;
    }
    return GetLastError() == ERROR_HANDLE_EOF ? 0 : failed();
}

std::int64_t write(int descriptor, const void* data, std::size_t n, std::uint64_t offset) {
    OVERLAPPED place = at(offset);
    DWORD n_written = 0;
    const auto n_wanted = static_cast<DWORD>(std::min(n, kMaxTransfer));
    return WriteFile(handle_of(descriptor), data, n_wanted, &n_written, &place) ? n_written : failed();
}

int flush(int descriptor) { return FlushFileBuffers(handle_of(descriptor)) ? 0 : failed(); }

int flush_folder(const std::string&) { return 0; }  // `replace` writes through

int replace(const std::string& from, const std::string& to) {
    const DWORD how = MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH;
    return MoveFileExW(wide(from).c_str(), wide(to).c_str(), how) ? 0 : failed();
}

const void* map(int descriptor, std::size_t) {
    const HANDLE mapping = CreateFileMappingW(handle_of(descriptor), nullptr, PAGE_READONLY, 0, 0, nullptr);
    if (mapping == nullptr) return failed(), nullptr;
    const void* memory = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
    if (memory == nullptr) failed();
    CloseHandle(mapping);  // the view keeps the mapping alive
    return memory;
}

void unmap(const void* memory, std::size_t) { UnmapViewOfFile(memory); }

void* allocate(std::size_t n_bytes) { return _aligned_malloc(n_bytes, kLine); }

void* reallocate(void* memory, std::size_t n_bytes) { return _aligned_realloc(memory, n_bytes, kLine); }

void release(void* memory) { _aligned_free(memory); }

unsigned long process_id() { return GetCurrentProcessId(); }

std::size_t n_processors() {
    DWORD_PTR ours = 0, all = 0;
    if (!GetProcessAffinityMask(GetCurrentProcess(), &ours, &all) ||
        ours == 0) {  // 0 on machines with more than 64 processors
        return std::thread::hardware_concurrency();
    }
    std::size_t n = 0;
    for (; ours != 0; ours &= ours - 1) ++n;
    return n;
}

void lower_priority() { SetThreadPriority(GetCurrentThread(), THREAD_PRIORITY_BELOW_NORMAL); }

void at_fork(void (*)(), void (*)(), void (*)()) {}

}  // namespace fasthash::os

#endif
