/* The timing loops of the bench: what is measured is the file system, not an interpreter.
 *
 *   reader seq     FILE           read a file in order, 256 KiB at a time
 *   reader random  FILE COUNT     pread 4 KiB at COUNT aligned places, the same ones every run
 *   reader mmap    FILE           map a file anew and read one word of every page
 *   reader open    FILE COUNT     open and close a file COUNT times
 *   reader epoch   LIST           open, read and close every file that LIST names, one a line
 *   reader evict   LIST           drop the cached pages of every file that LIST names
 *
 * Prints "NANOSECONDS BYTES OPERATIONS": the time from the first system call of the loop to the last.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 256 << 10, PAGE = 4096 };

static char *buffer;
static uint64_t bytes, operations;
static volatile uint64_t sink; /* what is read must not be optimised away */

static void fail(const char *what) {
    fprintf(stderr, "reader: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int opened(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail(path);
    return fd;
}

static uint64_t size_of(int fd) {
    struct stat st;
    if (fstat(fd, &st)) fail("fstat");
    return (uint64_t)st.st_size;
}

static void read_all(const char *path) {
    int fd = opened(path);
    ssize_t n;
    while ((n = read(fd, buffer, BLOCK)) > 0) bytes += (uint64_t)n;
    if (n < 0) fail(path);
    close(fd);
    operations++;
}

static void read_random(const char *path, uint64_t count) {
    int fd = opened(path);
    uint64_t pages = size_of(fd) / PAGE, state = 88172645463325252u;
    for (uint64_t i = 0; i < count; i++) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17; /* xorshift64 */
        if (pread(fd, buffer, PAGE, (off_t)(state % pages * PAGE)) != PAGE) fail(path);
        bytes += PAGE;
    }
    operations = count;
    close(fd);
}

static void scan_map(const char *path) {
    int fd = opened(path);
    uint64_t size = size_of(fd);
    const char *map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) fail(path);
    for (uint64_t at = 0; at < size; at += PAGE) sink += *(const uint64_t *)(map + at);
    bytes = size, operations = size / PAGE;
    munmap((void *)map, size);
    close(fd);
}

/* Calls visit for every line of a list that was read before the clock starts. */
static uint64_t for_each(const char *list, void (*visit)(const char *)) {
    char **names = NULL, *line = NULL;
    size_t count = 0, room = 0;
    FILE *file = fopen(list, "r");
    if (!file) fail(list);
    for (ssize_t n; (n = getline(&line, &room, file)) > 0; line = NULL, room = 0) {
        line[strcspn(line, "\n")] = 0;
        if (!(names = realloc(names, (count + 1) * sizeof *names))) fail(list);
        names[count++] = line;
    }
    fclose(file);
    uint64_t start = now();
    for (size_t i = 0; i < count; i++) visit(names[i]);
    return now() - start;
}

static void evict(const char *path) {
    int fd = opened(path);
    int failed = posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    if (failed) errno = failed, fail(path);
    close(fd);
    operations++;
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: reader seq|random|mmap|open|epoch|evict PATH [COUNT]\n"), 2;
    const char *what = argv[1], *path = argv[2];
    uint64_t count = argc > 3 ? strtoull(argv[3], NULL, 10) : 0, took;
    if (!(buffer = aligned_alloc(PAGE, BLOCK))) fail("memory");
    memset(buffer, 1, BLOCK); /* its pages are not part of what is measured */

    uint64_t start = now();
    if (!strcmp(what, "seq")) read_all(path);
    else if (!strcmp(what, "random")) read_random(path, count);
    else if (!strcmp(what, "mmap")) scan_map(path);
    else if (!strcmp(what, "open")) for (; operations < count; operations++) close(opened(path));
    else if (strcmp(what, "epoch") && strcmp(what, "evict")) return fprintf(stderr, "reader: no %s\n", what), 2;
    took = now() - start;
    if (!strcmp(what, "epoch")) took = for_each(path, read_all);
    if (!strcmp(what, "evict")) took = for_each(path, evict);
    printf("%llu %llu %llu\n", (unsigned long long)took, (unsigned long long)bytes, (unsigned long long)operations);
    return 0;
}
