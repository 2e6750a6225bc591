/* Reading one small file, in plain system calls: no lock of the interpreter is held, no Python object touched.
 *
 * What is promised of a path (never out of the source, never a pipe or a device opened, nothing of a mount of
 * ours) is promised by walk.py, which can decide about links and about mounts. Here nothing is decided: the
 * kernel is asked for a path on which there are none of both, and all that is otherwise is left to walk.py. */
#ifndef MIRROR_FILE_WHOLE_H
#define MIRROR_FILE_WHOLE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What is to be read. */
typedef struct {
    const char *root, *path; /* the path is relative to the root */
    dev_t device; /* of the root, as it was judged */
    ino_t inode;
    size_t most;  /* bytes of a file that is read at all */
} Wanted;

/* What came of it. */
typedef struct {
    int error; /* an errno; 0: all of the file is here, of one version */
    struct stat status;
    char *data; /* the caller's */
    size_t size;
} Got;

static int open_beneath(int folder, const char *path)
{
    struct open_how how = {
        .flags = O_PATH | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    return (int)syscall(SYS_openat2, folder, path, &how, sizeof how);
}

/* Old containers forbid the call, one way or the other. */
static bool can_open_beneath(void)
{
    int top = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC), fd = open_beneath(top, ".");
    if (fd >= 0)
        close(fd);
    if (top >= 0)
        close(top);
    return fd >= 0;
}

static bool same_time(const struct timespec *one, const struct timespec *other)
{
    return one->tv_sec == other->tv_sec && one->tv_nsec == other->tv_nsec;
}

/* Whatever tells versions apart for the caller, all of it is the same. */
static bool same_version(const struct stat *one, const struct stat *other)
{
    return one->st_size == other->st_size && one->st_ino == other->st_ino
        && same_time(&one->st_mtim, &other->st_mtim) && same_time(&one->st_ctim, &other->st_ctim);
}

/* Returns 0 or an errno, as all that follow. */
static int read_bytes(int fd, char *data, size_t size)
{
    for (size_t at = 0; at < size;) {
        ssize_t done = pread(fd, data + at, size - at, (off_t)at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return done < 0 ? errno : ESTALE;
        at += (size_t)done;
    }
    return 0;
}

static int read_open(int fd, size_t most, Got *got)
{
    struct stat after;
    if (fstat(fd, &got->status) < 0)
        return errno;
    if ((size_t)got->status.st_size > most)
        return EFBIG;
    got->size = (size_t)got->status.st_size;
    got->data = malloc(got->size + 1);
    if (got->data == NULL)
        return ENOMEM;
    int error = read_bytes(fd, got->data, got->size);
    if (error)
        return error;
    if (fstat(fd, &after) < 0)
        return errno;
    return same_version(&got->status, &after) ? 0 : ESTALE;
}

static int read_at(int place, size_t most, Got *got)
{
    struct stat status;
    if (fstat(place, &status) < 0)
        return errno;
    if (!S_ISREG(status.st_mode))
        return EINVAL;
    /* The way through /proc opens what was come to, and nothing that has its name by now. */
    char itself[32];
    snprintf(itself, sizeof itself, "/proc/self/fd/%d", place);
    int fd = open(itself, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = read_open(fd, most, got);
    close(fd);
    return error;
}

static int read_below(int root, const Wanted *wanted, Got *got)
{
    struct stat status;
    if (fstat(root, &status) < 0)
        return errno;
    if (status.st_dev != wanted->device || status.st_ino != wanted->inode)
        return ESTALE;
    int place = open_beneath(root, wanted->path);
    if (place < 0)
        return errno;
    int error = read_at(place, wanted->most, got);
    close(place);
    return error;
}

static void read_whole(const Wanted *wanted, Got *got)
{
    *got = (Got){.error = 0};
    int root = open(wanted->root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (root < 0) {
        got->error = errno;
        return;
    }
    got->error = read_below(root, wanted, got);
    close(root);
    if (got->error) {
        free(got->data);
        got->data = NULL;
        got->size = 0;
    }
}

#endif
