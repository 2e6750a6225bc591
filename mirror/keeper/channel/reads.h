/* Reads by reference: the worker says where in a source the bytes lie, and the keeper reads them.
 *
 * A megabyte then crosses from the cache to the kernel through one buffer, and not through the worker
 * and a socket as well. What lies in the page cache the up thread reads at once. The rest waits for the
 * disk, and that must not hold up other replies: it goes to a thread of its own through a bounded ring.
 *
 * A reference looks like the answer to a READ. What makes it one is a token that the keeper made for
 * this worker out of 128 random bits and that nobody else knows: no bytes of a file, whoever wrote
 * them, can be taken for a reference.
 */
#ifndef MIRROR_READS_H
#define MIRROR_READS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TOKEN_SIZE 16
#define READ_MAX (256 * 4096) /* the kernel's largest READ */
#define DISK_READS 64

struct channel;

/* The payload of an answer to FUSE_READ. */
struct reference {
    unsigned char token[TOKEN_SIZE];
    uint64_t offset;
    uint32_t size;
    uint32_t source; /* its number, beside the node that was asked for */
};
_Static_assert(sizeof(struct reference) == 32, "as the worker builds it, without padding");

/* A read that waits for the disk. */
struct disk_read {
    uint64_t unique;
    uint64_t offset;
    uint32_t size;
    int fd; /* its own: the source may be taken back meanwhile */
};

struct reads {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t thread;
    bool running;
    bool ending;
    struct disk_read ring[DISK_READS];
    size_t first;
    size_t count;
    unsigned char *up_data; /* page-aligned, as the kernel's own pages: it copies them one by one */
    unsigned char *disk_data;
    atomic_uint_fast64_t by_reference;
    atomic_uint_fast64_t from_disk; /* of these, not found in the page cache */
    atomic_uint_fast64_t failed;    /* of these, answered EIO: the file ended or the disk failed */
};

/* Returns 0 or an errno. */
int reads_init(struct reads *reads);
int reads_start(struct channel *channel);

/* Whether a worker's message is a reference made with this token; then `out` is it. */
bool reference_in(const unsigned char *message, size_t length, const unsigned char token[TOKEN_SIZE],
                  struct reference *out);

/* Answer a READ of the node with what the reference names: all of it or EIO, never a part. Returns as
 * answer() does, or EPROTO for what no reference may say. */
int reads_answer(struct channel *channel, uint64_t unique, uint64_t node, const struct reference *reference);

/* Refuse what waits with ENOTCONN, let the thread end, wait for it. Reads that come later are done on
 * the spot. */
void reads_stop(struct channel *channel);
void reads_destroy(struct reads *reads);

#endif
