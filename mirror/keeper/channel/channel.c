/* The channel's life cycle; see channel.h. */
#define _GNU_SOURCE /* F_DUPFD_CLOEXEC, dup3 */

#include "channel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "protocol.h"

void wake(int event_fd)
{
    uint64_t one = 1;
    /* Only a counter that is full already can refuse, and that wakes as well. */
    ssize_t ignored = write(event_fd, &one, sizeof one);
    (void)ignored;
}

void quiet(int event_fd)
{
    uint64_t count;
    ssize_t ignored = read(event_fd, &count, sizeof count);
    (void)ignored;
}

void raise_event(struct channel *channel)
{
    wake(channel->event_fd);
}

/* Write one answer of our own to the kernel. Returns 0 or an errno; ENOENT: nobody waits any more. */
int answer(struct channel *channel, uint64_t unique, int error, const void *body, size_t length)
{
    struct fuse_out_header header = {
        .len = (uint32_t)(sizeof header + length), .error = -error, .unique = unique};
    struct iovec parts[2] = {{&header, sizeof header}, {(void *)(uintptr_t)body, length}};
    ssize_t written = writev(channel->fuse_fd, parts, length > 0 ? 2 : 1);
    return written < 0 ? errno : 0;
}

/* Count a reply of the worker that was written with this result, and return the result. ENOENT is no
 * error, it only says that nobody waits for this answer any more. */
int count_reply(struct channel *channel, int error)
{
    if (error == 0) {
        COUNT(channel, replies);
        atomic_fetch_add_explicit(&channel->served, 1, memory_order_relaxed);
    } else if (error == ENOENT) {
        COUNT(channel, stale_replies);
    }
    return error;
}

/* The end of every reply: when the kernel did not like it, its waiter still needs an answer. */
void finish_reply(struct channel *channel, uint64_t unique, int error)
{
    if (error == 0 || error == ENOENT || error == ENODEV)
        return;
    COUNT(channel, bad_messages);
    answer(channel, unique, EIO, NULL, 0);
}

int channel_init(struct channel *channel, int fuse_fd, const struct channel_settings *settings)
{
    memset(channel, 0, sizeof *channel);
    channel->settings = *settings;
    channel->fuse_fd = fuse_fd;
    channel->worker_fd = channel->control_fd = -1;
    channel->next_worker = channel->next_control = -1;
    int error = flight_init(&channel->flight);
    if (error != 0)
        return error;
    error = nodes_init(&channel->nodes, settings->backing, settings->backing_limit);
    if (error != 0)
        goto no_nodes;
    error = slow_init(&channel->slow, fuse_fd);
    if (error != 0)
        goto no_slow;
    error = reads_init(&channel->reads);
    if (error != 0)
        goto no_reads;
    error = names_init(&channel->names);
    if (error != 0)
        goto no_names;
    pthread_mutex_init(&channel->attach_lock, NULL);
    channel->control.flight = &channel->flight;
    channel->control.nodes = &channel->nodes;
    channel->control.slow = &channel->slow;
    channel->control.sources = &channel->sources;
    channel->control.names = &channel->names;
    channel->sources.slow = &channel->slow;
    channel->control.device = settings->cache_device;
    channel->control.owner = settings->owner;
    channel->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    channel->up_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    channel->down_wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    channel->down_buffer = malloc(MESSAGE_MAX);
    channel->up_buffer = malloc(MESSAGE_MAX);
    int flags = fcntl(fuse_fd, F_GETFL);
    if (channel->event_fd < 0 || channel->up_wake < 0 || channel->down_wake < 0 || flags < 0 ||
        fcntl(fuse_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        error = errno;
    else if (channel->down_buffer == NULL || channel->up_buffer == NULL)
        error = ENOMEM;
    if (error != 0) {
        channel->fuse_fd = -1; /* still the caller's */
        channel_destroy(channel);
    }
    return error;
no_names:
    reads_destroy(&channel->reads);
no_reads:
    slow_destroy(&channel->slow);
no_slow:
    nodes_destroy(&channel->nodes);
no_nodes:
    flight_destroy(&channel->flight);
    return error;
}

static int start_threads(struct channel *channel)
{
    int error = slow_start(&channel->slow);
    if (error != 0)
        return error;
    error = reads_start(channel);
    if (error != 0)
        goto no_disk;
    error = pthread_create(&channel->up_thread, NULL, up_main, channel);
    if (error != 0)
        goto no_up;
    error = pthread_create(&channel->down_thread, NULL, down_main, channel);
    if (error == 0)
        return 0;
    atomic_store(&channel->stopping, true);
    wake(channel->up_wake);
    pthread_join(channel->up_thread, NULL);
no_up:
    reads_stop(channel);
no_disk:
    slow_stop(&channel->slow);
    return error;
}

int channel_start(struct channel *channel)
{
    /* Signals are the main thread's: block all while the threads inherit the mask. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = start_threads(channel);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    channel->running = error == 0;
    return error;
}

int channel_attach(struct channel *channel, int worker_fd, int control_fd,
                   const unsigned char token[TOKEN_SIZE])
{
    int error = 0;
    pthread_mutex_lock(&channel->attach_lock);
    if (channel->next_worker >= 0) {
        error = EALREADY;
    } else {
        channel->next_worker = worker_fd;
        channel->next_control = control_fd;
        memcpy(channel->next_token, token, TOKEN_SIZE);
    }
    pthread_mutex_unlock(&channel->attach_lock);
    wake(channel->up_wake);
    return error;
}

void channel_stop(struct channel *channel)
{
    if (!channel->running)
        return;
    channel->running = false;
    /* From here on the down thread refuses whatever comes, and what was in flight is refused here: the
     * slow thread may wait in the kernel for a page that such a request holds. */
    flight_set_flow(&channel->flight, FLOW_REFUSED, false);
    wake(channel->down_wake);
    struct request request;
    while (flight_take_any(&channel->flight, &request))
        answer(channel, request.unique, ENOTCONN, NULL, 0);
    reads_stop(channel);
    slow_stop(&channel->slow);
    atomic_store(&channel->stopping, true);
    wake(channel->up_wake);
    wake(channel->down_wake);
    pthread_join(channel->up_thread, NULL);
    pthread_join(channel->down_thread, NULL);
}

static void close_if_open(int fd)
{
    if (fd >= 0)
        close(fd);
}

void channel_destroy(struct channel *channel)
{
    close_if_open(channel->next_worker);
    close_if_open(channel->next_control);
    close_if_open(channel->worker_fd);
    close_if_open(channel->control_fd);
    close_if_open(channel->fuse_fd);
    close_if_open(channel->event_fd);
    close_if_open(channel->up_wake);
    close_if_open(channel->down_wake);
    sources_clear(&channel->sources);
    reads_destroy(&channel->reads);
    names_destroy(&channel->names);
    slow_destroy(&channel->slow);
    nodes_destroy(&channel->nodes);
    flight_destroy(&channel->flight);
    pthread_mutex_destroy(&channel->attach_lock);
    free(channel->down_buffer);
    free(channel->up_buffer);
}
