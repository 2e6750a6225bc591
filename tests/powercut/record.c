/* Records what a process changes below one folder, in order and with the bytes, and every barrier.
 *
 * Preloaded (LD_PRELOAD), it stands before the C library's functions, also for SQLite and ctypes. Every
 * operation is done by its bare system call and noted while one lock is held, so the record has one order
 * and whoever saw an operation completed comes after it. Calls that fail are no operations.
 *
 * Environment: POWERCUT_ROOT   the folder, as an absolute path without links
 *              POWERCUT_LOG    where the record is appended to, outside of it
 *              POWERCUT_KEEP   a folder of the same file system. Every recorded file gets a second name there,
 *                              its inode number: so no number is used twice, and a replay has the very inodes.
 *              POWERCUT_IDLE   set: nothing is recorded, and barriers return at once (for the replay)
 *
 * Not recorded: the file "-shm" of SQLite, which is shared memory. Whoever opens an index first makes it
 * anew from the WAL, so what a power cut leaves of it is never looked at. Writes through other shared
 * mappings are not seen; a record is compared with the real folder at its end, which would show them.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == 8 && sizeof(long) == 8, "a 64-bit system: off_t and off64_t are one");

/* The numbers of recorder.Kind. */
enum kind {
    CREATE = 1, MKDIR, WRITE, TRUNCATE, ALLOCATE, RENAME, LINK, UNLINK, SETXATTR, REMOVEXATTR, CHMOD,
    FSYNC, FDATASYNC, SYNCFS, RANGE, OPEN, CLOSE, MARK
};

struct head {
    uint32_t kind, path, other, unused; /* path, other: lengths of the texts behind this */
    uint64_t data;                      /* length of the bytes behind those */
    uint64_t inode;
    int64_t offset, length;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH_MAX], keep[PATH_MAX];
static size_t root_length;
static dev_t device;
static int log_fd = -1; /* -1: nothing is recorded */
static int idle;

static void die(const char *what)
{
    dprintf(STDERR_FILENO, "power cut recorder: %s: %s\n", what, strerror(errno));
    abort();
}

/* All below with the lock held, but for the functions that replace those of the C library. */

static void note(enum kind kind, uint64_t inode, const char *path, const char *other,
                 const struct iovec *data, int count, size_t size, int64_t offset, int64_t length)
{
    struct head head = {kind, strlen(path), strlen(other), 0, size, inode, offset, length};
    struct iovec parts[3 + IOV_MAX] = {{&head, sizeof head}, {(void *)path, head.path}, {(void *)other, head.other}};
    size_t total = sizeof head + head.path + head.other + size, left = size;
    int used = 3, saved = errno;
    for (int i = 0; i < count && left > 0; i++) {
        size_t part = data[i].iov_len < left ? data[i].iov_len : left;
        parts[used++] = (struct iovec){data[i].iov_base, part};
        left -= part;
    }
    /* As few calls as the kernel takes; a short one at a full disk ends the process. */
    for (int at = 0; at < used; at += IOV_MAX) {
        int now = used - at < IOV_MAX ? used - at : IOV_MAX;
        ssize_t done = syscall(SYS_writev, log_fd, parts + at, now);
        if (done < 0)
            die("write the record");
        total -= done;
    }
    if (total != 0)
        die("the record is cut short");
    errno = saved;
}

static void note_plain(enum kind kind, uint64_t inode, const char *path, int64_t offset, int64_t length)
{
    note(kind, inode, path, "", NULL, 0, 0, offset, length);
}

/* The absolute name that a call means, below the root or not. */
static const char *absolute(int folder, const char *path, char *out)
{
    char here[PATH_MAX - 1], link[64];
    if (path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return out;
    }
    snprintf(link, sizeof link, folder == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, here, sizeof here - 1);
    if (length < 0)
        return strcpy(out, "");
    here[length] = 0;
    if ((size_t)snprintf(out, PATH_MAX, "%s/%s", here, path) >= PATH_MAX)
        die("a name is too long");
    return out;
}

/* The name below the root; NULL: it is elsewhere. */
static const char *below(const char *name)
{
    if (strncmp(name, root, root_length) != 0 || name[root_length] != '/')
        return NULL;
    return name + root_length + 1;
}

static int kept(const struct stat *status)
{
    char name[PATH_MAX + 32];
    struct stat second;
    snprintf(name, sizeof name, "%s/%llu", keep, (unsigned long long)status->st_ino);
    if (lstat(name, &second))
        return 0;
    if (S_ISDIR(status->st_mode))
        return status->st_dev == device;
    return status->st_dev == second.st_dev && status->st_ino == second.st_ino;
}

/* The inode of a recorded file or folder; 0: it is none. */
static uint64_t of_fd(int fd)
{
    struct stat status;
    int saved = errno;
    uint64_t inode = log_fd >= 0 && fstat(fd, &status) == 0 && kept(&status) ? status.st_ino : 0;
    errno = saved;
    return inode;
}

static uint64_t of_name(const char *name, int flags)
{
    struct stat status;
    int saved = errno;
    uint64_t inode = 0;
    if (log_fd >= 0 && fstatat(AT_FDCWD, name, &status, flags) == 0 && kept(&status))
        inode = status.st_ino;
    errno = saved;
    return inode;
}

/* Note a new file or folder, and give it its second name. */
static void made(const char *name, int fd, int folder)
{
    struct stat status;
    char second[PATH_MAX + 32];
    int saved = errno;
    if (fd >= 0 ? fstat(fd, &status) : lstat(name, &status))
        die("look at a new file");
    snprintf(second, sizeof second, "%s/%llu", keep, (unsigned long long)status.st_ino);
    if (folder) { /* no second name for a folder: an empty file says that it is recorded */
        int marker = syscall(SYS_openat, AT_FDCWD, second, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (marker < 0)
            die("keep a folder");
        syscall(SYS_close, marker);
    } else if (syscall(SYS_linkat, AT_FDCWD, name, AT_FDCWD, second, 0)) {
        die("keep a file");
    }
    const char *path = strcmp(name, root) == 0 ? "" : below(name);
    note_plain(folder ? MKDIR : CREATE, status.st_ino, path, 0, status.st_mode & 07777);
    errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
    const char *folder = getenv("POWERCUT_ROOT"), *log = getenv("POWERCUT_LOG"), *second = getenv("POWERCUT_KEEP");
    struct stat status;
    idle = getenv("POWERCUT_IDLE") != NULL;
    if (idle || folder == NULL || log == NULL || second == NULL)
        return;
    snprintf(root, sizeof root, "%s", folder);
    snprintf(keep, sizeof keep, "%s", second);
    root_length = strlen(root);
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    /* Out of the way of programs that count descriptors. */
    int high = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 200);
    if (high < 0 || stat(root, &status))
        die("begin a record");
    syscall(SYS_close, fd);
    device = status.st_dev;
    log_fd = high;
    if (!kept(&status))
        made(root, -1, 1);
}

/* A word of the program itself in the record. */
void powercut_mark(const char *text)
{
    pthread_mutex_lock(&lock);
    if (log_fd >= 0)
        note_plain(MARK, 0, text, 0, 0);
    pthread_mutex_unlock(&lock);
}

/* End at once, as by SIGKILL, but between two operations: none is done and not noted. */
void powercut_end(void)
{
    pthread_mutex_lock(&lock);
    syscall(SYS_exit_group, 0);
}

/* -- opening and closing -- */

static int recorded_open(int folder, const char *path, int flags, mode_t mode)
{
    char name[PATH_MAX];
    struct stat status;
    if (log_fd < 0)
        return syscall(SYS_openat, folder, path, flags, mode);
    pthread_mutex_lock(&lock);
    int ours = below(absolute(folder, path, name)) != NULL;
    if (ours && (flags & O_TMPFILE) == O_TMPFILE)
        die("files without a name are not recorded");
    int existed = ours && fstatat(AT_FDCWD, name, &status, AT_SYMLINK_NOFOLLOW) == 0;
    int fd = syscall(SYS_openat, folder, path, flags, mode);
    if (ours && fd >= 0) {
        size_t length = strlen(name);
        int shared = length > 4 && strcmp(name + length - 4, "-shm") == 0;
        if ((flags & O_CREAT) && !existed && !shared)
            made(name, fd, 0);
        uint64_t inode = of_fd(fd);
        if (inode && existed && (flags & O_TRUNC))
            note_plain(TRUNCATE, inode, "", 0, 0);
        if (inode)
            note_plain(OPEN, inode, "", 0, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE_OF(flags)                                                                                           \
    mode_t mode = 0;                                                                                             \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                       \
        va_list more;                                                                                            \
        va_start(more, flags);                                                                                   \
        mode = va_arg(more, mode_t);                                                                             \
        va_end(more);                                                                                            \
    }

int open(const char *path, int flags, ...) { MODE_OF(flags) return recorded_open(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return recorded_open(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE_OF(flags) return recorded_open(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE_OF(flags) return recorded_open(folder, path, flags, mode); }
int creat(const char *path, mode_t mode) { return recorded_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

int close(int fd)
{
    if (log_fd < 0)
        return syscall(SYS_close, fd);
    if (fd == log_fd) { /* a program that closes all it does not know */
        errno = EBADF;
        return -1;
    }
    pthread_mutex_lock(&lock);
    uint64_t inode = of_fd(fd);
    int result = syscall(SYS_close, fd);
    if (inode)
        note_plain(CLOSE, inode, "", 0, 0);
    pthread_mutex_unlock(&lock);
    return result;
}

/* -- data -- */

static ssize_t wrote(int fd, const struct iovec *data, int count, off_t offset, int flags)
{
    /* Without an offset the file's own position counts, which the kernel moved past what was written. */
    ssize_t done = offset < 0 ? syscall(SYS_writev, fd, data, count)
                              : syscall(SYS_pwritev2, fd, data, count, offset, 0L, flags);
    if (done > 0) {
        uint64_t inode = of_fd(fd);
        if (inode) {
            off_t at = offset < 0 ? lseek(fd, 0, SEEK_CUR) - done : offset;
            note(WRITE, inode, "", "", data, count, done, at, done);
        }
    }
    return done;
}

static ssize_t recorded_write(int fd, const struct iovec *data, int count, off_t offset, int flags)
{
    if (log_fd < 0)
        return offset < 0 ? syscall(SYS_writev, fd, data, count)
                          : syscall(SYS_pwritev2, fd, data, count, offset, 0L, flags);
    struct stat status;
    if (fstat(fd, &status) == 0 && !S_ISREG(status.st_mode)) /* a pipe may wait for another thread */
        return syscall(SYS_writev, fd, data, count);
    pthread_mutex_lock(&lock);
    ssize_t done = wrote(fd, data, count, offset, flags);
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t size)
{
    struct iovec one = {(void *)data, size};
    return recorded_write(fd, &one, 1, -1, 0);
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct iovec one = {(void *)data, size};
    return recorded_write(fd, &one, 1, offset, 0);
}
ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }
ssize_t writev(int fd, const struct iovec *data, int count) { return recorded_write(fd, data, count, -1, 0); }
ssize_t pwritev(int fd, const struct iovec *data, int count, off_t offset) { return recorded_write(fd, data, count, offset, 0); }
ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t offset) { return recorded_write(fd, data, count, offset, 0); }
ssize_t pwritev2(int fd, const struct iovec *data, int count, off_t offset, int flags) { return recorded_write(fd, data, count, offset, flags); }
ssize_t pwritev64v2(int fd, const struct iovec *data, int count, off64_t offset, int flags) { return recorded_write(fd, data, count, offset, flags); }

/* The one shape of most calls: done under the lock, and noted when it succeeded on a recorded file. */
#define RECORDED(inode_of, call, ...)                                                                            \
    uint64_t inode = 0;                                                                                          \
    if (log_fd < 0)                                                                                              \
        return (call);                                                                                           \
    pthread_mutex_lock(&lock);                                                                                   \
    inode = (inode_of);                                                                                          \
    int result = (call);                                                                                         \
    if (result == 0 && inode)                                                                                    \
        __VA_ARGS__;                                                                                             \
    pthread_mutex_unlock(&lock);                                                                                 \
    return result;

int ftruncate(int fd, off_t length)
{
    RECORDED(of_fd(fd), syscall(SYS_ftruncate, fd, length), note_plain(TRUNCATE, inode, "", 0, length))
}
int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

int truncate(const char *path, off_t length)
{
    RECORDED(of_name(path, 0), syscall(SYS_truncate, path, length), note_plain(TRUNCATE, inode, "", 0, length))
}
int truncate64(const char *path, off64_t length) { return truncate(path, length); }

static int allocate(int fd, int mode, off_t offset, off_t length)
{
    char text[16];
    snprintf(text, sizeof text, "%d", mode);
    RECORDED(of_fd(fd), syscall(SYS_fallocate, fd, mode, offset, length),
             note_plain(ALLOCATE, inode, text, offset, length))
}
int fallocate(int fd, int mode, off_t offset, off_t length) { return allocate(fd, mode, offset, length); }
int fallocate64(int fd, int mode, off64_t offset, off64_t length) { return allocate(fd, mode, offset, length); }
int posix_fallocate(int fd, off_t offset, off_t length) { return allocate(fd, 0, offset, length) ? errno : 0; }
int posix_fallocate64(int fd, off64_t offset, off64_t length) { return posix_fallocate(fd, offset, length); }

/* -- names -- */

static int renamed(int from, const char *old, int to, const char *new, unsigned flags)
{
    char first[PATH_MAX], second[PATH_MAX];
    absolute(from, old, first);
    absolute(to, new, second);
    if (log_fd >= 0 && (below(first) != NULL) != (below(second) != NULL))
        die("a file was renamed into the recorded folder or out of it");
    if (log_fd >= 0 && below(first) != NULL && (flags & RENAME_EXCHANGE))
        die("an exchange of names is not recorded");
    RECORDED(of_name(first, AT_SYMLINK_NOFOLLOW), syscall(SYS_renameat2, from, old, to, new, flags),
             note(RENAME, inode, below(first), below(second), NULL, 0, 0, 0, 0))
}
int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) { return renamed(from, old, to, new, flags); }

/* Remove an empty folder by moving it to where the others are kept, so that its number stays its own. */
static int put_away(const char *name, uint64_t inode)
{
    char away[PATH_MAX + 32];
    DIR *list = opendir(name);
    int count = 0;
    while (list != NULL && readdir(list) != NULL)
        count++;
    if (list != NULL)
        closedir(list);
    if (count != 2) { /* "." and ".." */
        errno = list == NULL ? ENOTDIR : ENOTEMPTY;
        return -1;
    }
    snprintf(away, sizeof away, "%s/%llu.gone", keep, (unsigned long long)inode);
    return syscall(SYS_renameat2, AT_FDCWD, name, AT_FDCWD, away, 0);
}

static int removed(int folder, const char *path, int flags)
{
    char name[PATH_MAX];
    absolute(folder, path, name);
    RECORDED(below(name) ? of_name(name, AT_SYMLINK_NOFOLLOW) : 0,
             inode && (flags & AT_REMOVEDIR) ? put_away(name, inode) : syscall(SYS_unlinkat, folder, path, flags),
             note_plain(UNLINK, inode, below(name), 0, 0))
}
int unlink(const char *path) { return removed(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return removed(folder, path, flags); }
int rmdir(const char *path) { return removed(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode)
{
    char name[PATH_MAX];
    absolute(folder, path, name);
    RECORDED(below(name) != NULL, syscall(SYS_mkdirat, folder, path, mode), made(name, -1, 1))
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from, const char *old, int to, const char *new, int flags)
{
    char first[PATH_MAX], second[PATH_MAX];
    absolute(from, old, first);
    absolute(to, new, second);
    RECORDED(below(second) ? of_name(first, flags & AT_SYMLINK_FOLLOW ? 0 : AT_SYMLINK_NOFOLLOW) : 0,
             syscall(SYS_linkat, from, old, to, new, flags), note_plain(LINK, inode, below(second), 0, 0))
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *target, int folder, const char *path)
{
    char name[PATH_MAX];
    if (log_fd >= 0 && below(absolute(folder, path, name)) != NULL)
        die("symbolic links are not recorded");
    return syscall(SYS_symlinkat, target, folder, path);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

/* -- attributes -- */

static void note_attribute(uint64_t inode, const char *name, const void *value, size_t size)
{
    struct iovec data = {(void *)value, size};
    note(SETXATTR, inode, "", name, &data, 1, size, 0, 0);
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    RECORDED(of_fd(fd), syscall(SYS_fsetxattr, fd, name, value, size, flags), note_attribute(inode, name, value, size))
}
int setxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    RECORDED(of_name(path, 0), syscall(SYS_setxattr, path, name, value, size, flags), note_attribute(inode, name, value, size))
}
int lsetxattr(const char *path, const char *name, const void *value, size_t size, int flags)
{
    RECORDED(of_name(path, AT_SYMLINK_NOFOLLOW), syscall(SYS_lsetxattr, path, name, value, size, flags),
             note_attribute(inode, name, value, size))
}
int fremovexattr(int fd, const char *name)
{
    RECORDED(of_fd(fd), syscall(SYS_fremovexattr, fd, name), note(REMOVEXATTR, inode, "", name, NULL, 0, 0, 0, 0))
}
int removexattr(const char *path, const char *name)
{
    RECORDED(of_name(path, 0), syscall(SYS_removexattr, path, name), note(REMOVEXATTR, inode, "", name, NULL, 0, 0, 0, 0))
}
int fchmod(int fd, mode_t mode)
{
    RECORDED(of_fd(fd), syscall(SYS_fchmod, fd, mode), note_plain(CHMOD, inode, "", 0, mode & 07777))
}
int chmod(const char *path, mode_t mode)
{
    RECORDED(of_name(path, 0), syscall(SYS_fchmodat, AT_FDCWD, path, mode), note_plain(CHMOD, inode, "", 0, mode & 07777))
}

/* -- barriers -- */

int fsync(int fd)
{
    if (idle)
        return 0;
    RECORDED(of_fd(fd), syscall(SYS_fsync, fd), note_plain(FSYNC, inode, "", 0, 0))
}
int fdatasync(int fd)
{
    if (idle)
        return 0;
    RECORDED(of_fd(fd), syscall(SYS_fdatasync, fd), note_plain(FDATASYNC, inode, "", 0, 0))
}
int syncfs(int fd)
{
    if (idle)
        return 0;
    RECORDED(of_fd(fd), syscall(SYS_syncfs, fd), note_plain(SYNCFS, inode, "", 0, 0))
}
int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) /* no barrier: noted all the same */
{
    if (idle)
        return 0;
    RECORDED(of_fd(fd), syscall(SYS_sync_file_range, fd, offset, length, flags), note_plain(RANGE, inode, "", offset, length))
}
