/* Loaded before libc: calls on the files of objects are shown to a hook, which may have them fail.
 *
 * `cache._files` and `cache._sealing` call libc without Python, so nothing in Python can stand in its way. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/xattr.h>
#include <unistd.h>

/* Given the function, how much it takes (bytes, or a name), and whether it is done; returns an errno, or 0. */
typedef int (*Hook)(const char *function, long takes, int after);

static Hook hook;

void faults_hook(Hook wanted)
{
    hook = wanted;
}

static int is_object(const char *path)
{
    return strstr(path, "/objects/") != NULL;
}

static int is_object_fd(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = '\0';
    return is_object(path);
}

#define HOOKED(concerned, function, takes, call)                                                                       \
    do {                                                                                                               \
        int ours = hook != NULL && (concerned);                                                                        \
        int refused = ours ? hook(function, takes, 0) : 0;                                                             \
        if (refused) {                                                                                                 \
            errno = refused;                                                                                           \
            return -1;                                                                                                 \
        }                                                                                                              \
        result = (call);                                                                                               \
        if (ours) {                                                                                                    \
            int saved = errno;                                                                                         \
            hook(function, takes, 1);                                                                                  \
            errno = saved;                                                                                             \
        }                                                                                                              \
    } while (0)

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int hooked_open(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode)
{
    int result;
    HOOKED(is_object(path), "open", (flags & O_CREAT) && access(path, F_OK) < 0, real(path, flags, mode));
    return result;
}

#define MODE_OF(flags)                                                                                                 \
    va_list more;                                                                                                      \
    va_start(more, flags);                                                                                             \
    mode_t mode = (flags) & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                                          \
    va_end(more);

int open(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return hooked_open(REAL(open), path, flags, mode);
}

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags)
    return hooked_open(REAL(open64), path, flags, mode);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    ssize_t result;
    HOOKED(is_object_fd(fd), "pwrite", (long)size, REAL(pwrite)(fd, data, size, at));
    return result;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    ssize_t result;
    HOOKED(is_object_fd(fd), "pwrite", (long)size, REAL(pwrite64)(fd, data, size, at));
    return result;
}

int rename(const char *from, const char *to)
{
    int result;
    HOOKED(is_object(from), "rename", 0, REAL(rename)(from, to));
    return result;
}

int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
    int result;
    HOOKED(is_object_fd(fd), "setxattr", 1, REAL(fsetxattr)(fd, name, value, size, flags));
    return result;
}
