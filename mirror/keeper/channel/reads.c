/* Reads by reference; see reads.h. */
#define _GNU_SOURCE /* preadv2, F_DUPFD_CLOEXEC */

#include "reads.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "channel.h"
#include "protocol.h"

#define COUNT_READ(channel, name) \
    atomic_fetch_add_explicit(&(channel)->reads.name, 1, memory_order_relaxed)

/* Read all of it and answer; `read->fd` stays open. Returns as answer() does. */
static int read_and_answer(struct channel *channel, const struct disk_read *read, unsigned char *data)
{
    size_t done = 0;
    while (done < read->size) {
        ssize_t length = pread(read->fd, data + done, read->size - done, (off_t)(read->offset + done));
        if (length < 0 && errno == EINTR)
            continue;
        if (length <= 0) {
            /* To the kernel a short answer would be the end of the file. */
            COUNT_READ(channel, failed);
            return count_reply(channel, answer(channel, read->unique, EIO, NULL, 0));
        }
        done += (size_t)length;
    }
    return count_reply(channel, answer(channel, read->unique, 0, data, read->size));
}

static void *disk_main(void *argument)
{
    struct channel *channel = argument;
    struct reads *reads = &channel->reads;
    pthread_mutex_lock(&reads->lock);
    for (;;) {
        while (reads->count == 0 && !reads->ending)
            pthread_cond_wait(&reads->more, &reads->lock);
        if (reads->count == 0)
            break;
        struct disk_read read = reads->ring[reads->first];
        bool ending = reads->ending;
        reads->first = (reads->first + 1) % DISK_READS;
        reads->count--;
        pthread_mutex_unlock(&reads->lock);
        if (ending)
            answer(channel, read.unique, ENOTCONN, NULL, 0);
        else
            finish_reply(channel, read.unique, read_and_answer(channel, &read, reads->disk_data));
        slow_let_go(&channel->slow, read.fd);
        pthread_mutex_lock(&reads->lock);
    }
    pthread_mutex_unlock(&reads->lock);
    return NULL;
}

/* Leave a read to the disk's thread; false when it has no room. */
static bool hand_over(struct channel *channel, const struct disk_read *read)
{
    struct reads *reads = &channel->reads;
    struct disk_read own = *read;
    own.fd = fcntl(read->fd, F_DUPFD_CLOEXEC, 0);
    if (own.fd < 0)
        return false;
    pthread_mutex_lock(&reads->lock);
    bool room = reads->running && reads->count < DISK_READS;
    if (room) {
        reads->ring[(reads->first + reads->count) % DISK_READS] = own;
        reads->count++;
        pthread_cond_signal(&reads->more);
    }
    pthread_mutex_unlock(&reads->lock);
    if (!room)
        close(own.fd);
    return room;
}

bool reference_in(const unsigned char *message, size_t length, const unsigned char token[TOKEN_SIZE],
                  struct reference *out)
{
    struct fuse_out_header header;
    if (length != sizeof header + sizeof *out)
        return false;
    memcpy(&header, message, sizeof header);
    memcpy(out, message + sizeof header, sizeof *out);
    return header.error == 0 && memcmp(out->token, token, TOKEN_SIZE) == 0;
}

int reads_answer(struct channel *channel, uint64_t unique, uint64_t node, const struct reference *reference)
{
    struct reads *reads = &channel->reads;
    struct disk_read read = {.unique = unique, .offset = reference->offset, .size = reference->size};
    if (read.size > READ_MAX || read.offset > INT64_MAX - READ_MAX)
        return EPROTO;
    /* As for an OPEN: what the worker offered before it answered is looked at first. */
    control_drain(&channel->control, channel->control_fd);
    read.fd = sources_find(&channel->sources, node, reference->source);
    if (read.fd < 0)
        return EPROTO;
    COUNT_READ(channel, by_reference);
    struct iovec data = {.iov_base = reads->up_data, .iov_len = read.size};
    if (preadv2(read.fd, &data, 1, (off_t)read.offset, RWF_NOWAIT) == (ssize_t)read.size)
        return count_reply(channel, answer(channel, unique, 0, reads->up_data, read.size));
    /* Not all of it is in the page cache, or the file system cannot say: reading it tells for good. */
    COUNT_READ(channel, from_disk);
    return hand_over(channel, &read) ? 0 : read_and_answer(channel, &read, reads->up_data);
}

int reads_init(struct reads *reads)
{
    *reads = (struct reads){0};
    reads->up_data = aligned_alloc(4096, READ_MAX);
    reads->disk_data = aligned_alloc(4096, READ_MAX);
    if (reads->up_data == NULL || reads->disk_data == NULL) {
        free(reads->up_data);
        free(reads->disk_data);
        return ENOMEM;
    }
    pthread_mutex_init(&reads->lock, NULL);
    pthread_cond_init(&reads->more, NULL);
    return 0;
}

int reads_start(struct channel *channel)
{
    int error = pthread_create(&channel->reads.thread, NULL, disk_main, channel);
    channel->reads.running = error == 0;
    return error;
}

void reads_stop(struct channel *channel)
{
    struct reads *reads = &channel->reads;
    pthread_mutex_lock(&reads->lock);
    bool running = reads->running;
    reads->running = false;
    reads->ending = true;
    pthread_cond_signal(&reads->more);
    pthread_mutex_unlock(&reads->lock);
    if (running)
        pthread_join(reads->thread, NULL);
}

void reads_destroy(struct reads *reads)
{
    pthread_cond_destroy(&reads->more);
    pthread_mutex_destroy(&reads->lock);
    free(reads->up_data);
    free(reads->disk_data);
}
