/* What a job of `_files` does, in plain system calls: it holds no lock of the interpreter, and touches no Python
 * object but the bytes of paths and buffers that the job keeps. */
#ifndef CACHE_FILE_WORK_H
#define CACHE_FILE_WORK_H

#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "crc32c.h"

/* Large writes make the page cache look for large pieces of free memory, which costs more than it saves where
 * memory has to be asked of a hypervisor: 1 GiB in writes of 1 MiB took four times as long there as in these. */
enum { PIECE = 64 * 1024 };

enum { LEASE_FLAGS = O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK };
enum { READ_FLAGS = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NOATIME | O_NONBLOCK };
enum { WRITE_FLAGS = O_WRONLY | O_CLOEXEC | O_NOFOLLOW };

typedef struct {
    int64_t start, stop;
    uint32_t crc;
} Run;

typedef struct job {
    PyObject_HEAD
    void (*work)(struct job *);
    struct job *next;
    PyObject *token, *part, *final; /* paths: bytes, or NULL */
    bool given, finished;
    int error; /* errno */
    const char *stage; /* where it happened */
    /* of a lease: all descriptors are the job's until result() */
    int lease, writer, found;
    bool want_writer, trusted;
    ino_t inode;
    off_t length;
    /* of a write */
    Py_buffer *chunks;
    Py_ssize_t count;
    int into; /* not the job's, until it closed it */
    int64_t at, block;
    bool closed, changed, wanted;
    Run *runs;
    size_t run_count;
    int reader, copy;
} Job;

static bool fail(Job *job, const char *stage, int error)
{
    job->stage = stage;
    job->error = error;
    return false;
}

static void close_all(int **fds)
{
    for (; *fds != NULL; fds++)
        if (**fds >= 0) {
            close(**fds);
            **fds = -1;
        }
}

/* As cache.names.trustworthy. */
static bool trustworthy(const struct stat *status)
{
    return S_ISREG(status->st_mode) && status->st_uid == geteuid() && !(status->st_mode & (S_IWGRP | S_IWOTH));
}

/* -- taking a lease --------------------------------------------------------------------------- */

static int open_lease(const char *part)
{
    int fd = open(part, LEASE_FLAGS, 0600);
    if (fd >= 0 || errno != ENOENT)
        return fd;
    char *folder = strdup(part), *slash = folder == NULL ? NULL : strrchr(folder, '/');
    if (slash == NULL) {
        free(folder);
        errno = folder == NULL ? ENOMEM : ENOENT;
        return -1;
    }
    *slash = '\0';
    int made = mkdir(folder, 0700), why = errno;
    free(folder);
    if (made < 0 && why != EEXIST) {
        errno = why;
        return -1;
    }
    return open(part, LEASE_FLAGS, 0600);
}

/* Lock the file that has the name; false: it failed, or (EWOULDBLOCK) another has it. */
static bool lock(Job *job)
{
    const char *part = PyBytes_AS_STRING(job->part);
    for (;;) {
        job->lease = open_lease(part);
        if (job->lease < 0)
            return fail(job, "lease", errno);
        struct stat status, named;
        if (flock(job->lease, LOCK_EX | LOCK_NB) < 0 || fstat(job->lease, &status) < 0)
            return fail(job, "lease", errno);
        job->trusted = trustworthy(&status);
        job->inode = status.st_ino;
        job->length = status.st_size;
        if (!job->trusted)
            return true;
        if (lstat(part, &named) == 0 && named.st_ino == status.st_ino)
            return true;
        /* Between open and lock the file got another name, or none. */
        close(job->lease);
        job->lease = -1;
    }
}

static void do_take(Job *job)
{
    if (!lock(job) || !job->trusted)
        return;
    if (job->final != NULL) {
        job->found = open(PyBytes_AS_STRING(job->final), READ_FLAGS);
        if (job->found < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
            fail(job, "found", errno);
            return;
        }
    }
    if (job->want_writer && job->found < 0) {
        job->writer = open(PyBytes_AS_STRING(job->part), WRITE_FLAGS);
        if (job->writer < 0)
            fail(job, "writer", errno);
    }
}

/* -- writing, and giving the name ------------------------------------------------------------- */

static bool write_all(Job *job, const char *data, size_t size, int64_t at)
{
    while (size > 0) {
        ssize_t done = pwrite(job->into, data, size < PIECE ? size : PIECE, at);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return fail(job, "write", done < 0 ? errno : EIO);
        data += done;
        size -= (size_t)done;
        at += done;
    }
    return true;
}

/* Note what was written: a sum of what came, not of what the disk makes of it. Runs end at whole blocks. */
static bool note(Job *job, const char *data, size_t size, int64_t at)
{
    while (size > 0) {
        Run *last = job->run_count > 0 ? &job->runs[job->run_count - 1] : NULL;
        if (last == NULL || last->stop % job->block == 0) {
            Run *runs = realloc(job->runs, (job->run_count + 1) * sizeof *runs);
            if (runs == NULL)
                return fail(job, "write", ENOMEM);
            job->runs = runs;
            last = &runs[job->run_count++];
            *last = (Run){.start = at, .stop = at};
        }
        int64_t left = job->block - last->stop % job->block;
        size_t some = (int64_t)size < left ? size : (size_t)left;
        last->crc = crc32c(last->crc, data, some);
        last->stop += (int64_t)some;
        data += some;
        size -= some;
        at += (int64_t)some;
    }
    return true;
}

static bool write_chunks(Job *job)
{
    int64_t at = job->at;
    for (Py_ssize_t i = 0; i < job->count; i++) {
        const char *data = job->chunks[i].buf;
        size_t left = (size_t)job->chunks[i].len;
        while (left > 0) {
            size_t size = left < PIECE ? left : PIECE;
            if (!note(job, data, size, at) || !write_all(job, data, size, at))
                return false;
            data += size;
            left -= size;
            at += (int64_t)size;
        }
    }
    return true;
}

/* The last writer is closed, what is there is opened and looked at, and that file gets the name. */
static void give_name(Job *job)
{
    const char *part = PyBytes_AS_STRING(job->part);
    close(job->into);
    job->closed = true;
    job->reader = open(part, READ_FLAGS);
    struct stat status;
    if (job->reader < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
        fail(job, "name", errno);
        return;
    }
    if (job->reader < 0 || fstat(job->reader, &status) < 0 || status.st_ino != job->inode
        || status.st_size != job->length || !trustworthy(&status)) {
        job->changed = true;
        return;
    }
    if (job->wanted)
        job->copy = fcntl(job->reader, F_DUPFD_CLOEXEC, 0);
    else
        close_all((int *[]){&job->reader, NULL});
    if ((job->wanted && job->copy < 0) || rename(part, PyBytes_AS_STRING(job->final)) < 0)
        fail(job, "name", errno);
}

static void do_store(Job *job)
{
    if (write_chunks(job) && job->part != NULL)
        give_name(job);
}

#endif
