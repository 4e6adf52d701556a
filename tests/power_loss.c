// A library before the C library's that writes down each change of a file below POWER_LOSS_ROOT into POWER_LOSS_LOG,
// and keeps what the file held then. power_loss.py compiles and reads it.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;
static int n_copies = 0;

/* The full path if it is below the folder that is watched. */
static const char* watched(int folder, const char* path, char* full) {
    const char* root = getenv("POWER_LOSS_ROOT");
    char place[64];
    full[0] = 0;
    if (path[0] != '/') {
        if (folder == AT_FDCWD) {
            if (getcwd(full, PATH_MAX) == NULL) return NULL;
        } else {
            snprintf(place, sizeof place, "/proc/self/fd/%d", folder);
            ssize_t n = readlink(place, full, PATH_MAX - 1);
            full[n < 0 ? 0 : n] = 0;
        }
        strcat(full, "/");
    }
    strcat(full, path);
    return root != NULL && strncmp(full, root, strlen(root)) == 0 ? full : NULL;
}

static const char* path_of(int descriptor, char* full) { return watched(descriptor, "", full); }

static void note(const char* what, unsigned long file, unsigned mode, int copy, const char* a, const char* b) {
    char line[2 * PATH_MAX + 100];
    int n = snprintf(line, sizeof line, "%s\t%lu\t%o\t%d\t%s\t%s\n", what, file, mode & 07777, copy, a, b);
    int out = REAL(open64)(getenv("POWER_LOSS_LOG"), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (out < 0 || REAL(write)(out, line, n) != n) abort();
    REAL(close)(out);
}

/* Keeps what a file holds now. */
static void note_content(int descriptor, const char* what) {
    struct stat info;
    char place[64], copy[PATH_MAX], name[PATH_MAX], block[1 << 16];
    if (fstat(descriptor, &info) != 0) return;
    if (S_ISDIR(info.st_mode)) {
        if (strcmp(what, "flush") == 0) note("flush folder", info.st_ino, 0, -1, path_of(descriptor, name), "");
        return;
    }
    if (!S_ISREG(info.st_mode)) return;
    snprintf(place, sizeof place, "/proc/self/fd/%d", descriptor);
    snprintf(copy, sizeof copy, "%s.%d", getenv("POWER_LOSS_LOG"), n_copies);
    int in = REAL(open64)(place, O_RDONLY | O_CLOEXEC), out = REAL(open64)(copy, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (in < 0 || out < 0) abort();
    for (ssize_t n; (n = read(in, block, sizeof block)) > 0;) {
        if (REAL(write)(out, block, n) != n) abort();
    }
    REAL(close)(in);
    REAL(close)(out);
    note(what, info.st_ino, info.st_mode, n_copies++, path_of(descriptor, name), "");
}

static int is_written(int descriptor) {
    char full[PATH_MAX];
    int flags = fcntl(descriptor, F_GETFL);
    return flags >= 0 && (flags & O_ACCMODE) != O_RDONLY && path_of(descriptor, full) != NULL;
}

static int opened(int folder, const char* path, int flags, unsigned mode) {
    char full[PATH_MAX];
    if (!watched(folder, path, full)) return REAL(openat64)(folder, path, flags, mode);
    pthread_mutex_lock(&one_at_a_time);
    struct stat before, info;
    int was_there = stat(full, &before) == 0;
    int descriptor = REAL(openat64)(folder, path, flags, mode), code = errno;
    if (descriptor >= 0 && (flags & O_ACCMODE) != O_RDONLY && fstat(descriptor, &info) == 0) {
        if (!was_there)
            note("create", info.st_ino, info.st_mode, -1, full, "");
        else if (flags & O_TRUNC)
            note_content(descriptor, "write");
    }
    pthread_mutex_unlock(&one_at_a_time);
    errno = code;
    return descriptor;
}

#define MODE(flags)                        \
    unsigned mode = 0;                     \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list list;                      \
        va_start(list, flags);             \
        mode = va_arg(list, unsigned);     \
        va_end(list);                      \
    }
int open(const char* path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int open64(const char* path, int flags, ...) { MODE(flags) return opened(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char* path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }
int openat64(int folder, const char* path, int flags, ...) { MODE(flags) return opened(folder, path, flags, mode); }

/* A call on a descriptor, before or after which what is in its file is kept. */
#define ON_DESCRIPTOR(declaration, descriptor, call, type, before, what) \
    declaration {                                                        \
        if (!(before ? is_written(descriptor) : 1)) return call;         \
        char full[PATH_MAX];                                             \
        if (path_of(descriptor, full) == NULL) return call;              \
        pthread_mutex_lock(&one_at_a_time);                              \
        if (before) note_content(descriptor, what);                      \
        type result = call;                                              \
        int code = errno;                                                \
        if (!before && result >= 0) note_content(descriptor, what);      \
        pthread_mutex_unlock(&one_at_a_time);                            \
        errno = code;                                                    \
        return result;                                                   \
    }
ON_DESCRIPTOR(int close(int descriptor), descriptor, REAL(close)(descriptor), int, 1, "write")
ON_DESCRIPTOR(int fsync(int descriptor), descriptor, REAL(fsync)(descriptor), int, 0, "flush")
ON_DESCRIPTOR(int fdatasync(int descriptor), descriptor, REAL(fdatasync)(descriptor), int, 0, "flush")
ON_DESCRIPTOR(ssize_t pwrite(int descriptor, const void* data, size_t n, off_t at), descriptor,
              REAL(pwrite)(descriptor, data, n, at), ssize_t, 0, "write")
ON_DESCRIPTOR(ssize_t pwrite64(int descriptor, const void* data, size_t n, off64_t at), descriptor,
              REAL(pwrite64)(descriptor, data, n, at), ssize_t, 0, "write")
ON_DESCRIPTOR(ssize_t write(int descriptor, const void* data, size_t n), descriptor, REAL(write)(descriptor, data, n),
              ssize_t, 0, "write")
ON_DESCRIPTOR(int ftruncate(int descriptor, off_t n), descriptor, REAL(ftruncate)(descriptor, n), int, 0, "write")
ON_DESCRIPTOR(int ftruncate64(int descriptor, off64_t n), descriptor, REAL(ftruncate64)(descriptor, n), int, 0, "write")

/* A call that changes names; `file` is the one that had the first of them. */
static int named(const char* what, int result, unsigned long file, const char* a, const char* b) {
    int code = errno;
    if (result == 0) note(what, file, 0, -1, a, b);
    errno = code;
    return result;
}
static unsigned long number_of(const char* path) {
    struct stat info;
    return lstat(path, &info) == 0 ? info.st_ino : 0;
}
#define ON_NAMES(declaration, folder_a, a, folder_b, b, call, what) \
    declaration {                                                   \
        char full_a[PATH_MAX], full_b[PATH_MAX];                    \
        if (!watched(folder_a, a, full_a)) return call;             \
        watched(folder_b, b, full_b);                               \
        pthread_mutex_lock(&one_at_a_time);                         \
        unsigned long file = number_of(full_a);                     \
        int result = named(what, call, file, full_a, full_b);       \
        pthread_mutex_unlock(&one_at_a_time);                       \
        return result;                                              \
    }
ON_NAMES(int rename(const char* a, const char* b), AT_FDCWD, a, AT_FDCWD, b, REAL(rename)(a, b), "rename")
ON_NAMES(int renameat(int fa, const char* a, int fb, const char* b), fa, a, fb, b, REAL(renameat)(fa, a, fb, b),
         "rename")
ON_NAMES(int renameat2(int fa, const char* a, int fb, const char* b, unsigned f), fa, a, fb, b,
         REAL(renameat2)(fa, a, fb, b, f), "rename")
ON_NAMES(int link(const char* a, const char* b), AT_FDCWD, a, AT_FDCWD, b, REAL(link)(a, b), "link")
ON_NAMES(int linkat(int fa, const char* a, int fb, const char* b, int f), fa, a, fb, b, REAL(linkat)(fa, a, fb, b, f),
         "link")
ON_NAMES(int unlink(const char* a), AT_FDCWD, a, AT_FDCWD, "", REAL(unlink)(a), "unlink")
ON_NAMES(int unlinkat(int fa, const char* a, int f), fa, a, AT_FDCWD, "", REAL(unlinkat)(fa, a, f), "unlink")
ON_NAMES(int rmdir(const char* a), AT_FDCWD, a, AT_FDCWD, "", REAL(rmdir)(a), "unlink")
ON_NAMES(int mkdir(const char* a, mode_t m), AT_FDCWD, a, AT_FDCWD, "", REAL(mkdir)(a, m), "make folder")
ON_NAMES(int mkdirat(int fa, const char* a, mode_t m), fa, a, AT_FDCWD, "", REAL(mkdirat)(fa, a, m), "make folder")
