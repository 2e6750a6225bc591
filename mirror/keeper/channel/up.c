/* The up thread: replies of the worker on their way to the kernel, and the change from one worker to
 * the next. It never waits for anything but its sockets, and for the disk only when too much waits for
 * that already. */
#define _GNU_SOURCE /* dup3 */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "channel.h"
#include "protocol.h"

/* Replies handled in one go before registrations and the end are looked at again. */
#define BURST 64

static void set_state(struct channel *channel, enum worker_state state)
{
    atomic_store(&channel->worker_state, (int)state);
}

static enum worker_state state_of(struct channel *channel)
{
    return (enum worker_state)atomic_load(&channel->worker_state);
}

/* Write a worker's message to the kernel. Returns as count_reply() does. */
static int deliver(struct channel *channel, const void *message, size_t length)
{
    return count_reply(channel, write(channel->fuse_fd, message, length) >= 0 ? 0 : errno);
}

static void accept_init(struct channel *channel, size_t length)
{
    unsigned char out[INIT_REPLY_MAX];
    struct agreement agreement;
    size_t out_length = init_for_kernel(channel->init_offer, channel->init_length, channel->up_buffer,
                                        length, &channel->settings.wishes, out, &agreement);
    nodes_enable(&channel->nodes, agreement.passthrough);
    atomic_store(&channel->passthrough, agreement.passthrough);
    int error = write(channel->fuse_fd, out, out_length) < 0 ? errno : 0;
    if (error == 0)
        atomic_store(&channel->initialised, true);
    else
        atomic_store(&channel->failure, error);
    raise_event(channel);
}

/* A worker answered INIT: the first one's goes to the kernel, a successor's ends the take-over. */
static void handle_init_reply(struct channel *channel, size_t length)
{
    if (!init_reply_is_sane(channel->up_buffer, length)) {
        /* Cut this worker off; its end is then handled like any death. */
        COUNT(channel, bad_messages);
        shutdown(channel->worker_fd, SHUT_RDWR);
        return;
    }
    if (!atomic_load(&channel->initialised)) {
        /* The kernel begins to ask the moment it has its answer: the way must be open before. */
        struct fuse_out_header header;
        memcpy(&header, channel->up_buffer, sizeof header);
        flight_take(&channel->flight, header.unique, NULL); /* left behind by a worker that died over it */
        flight_set_flow(&channel->flight, FLOW_OPEN, false);
        accept_init(channel, length);
    } else {
        /* In this order: what is read from now on goes to the new worker, what was read before comes
         * again. A request caught between the two goes both ways, and one of the answers is stale. */
        flight_set_flow(&channel->flight, FLOW_OPEN, true);
        if (atomic_load(&channel->resend)) {
            struct fuse_out_header notification = {.len = sizeof notification, .error = NOTIFY_RESEND};
            if (write(channel->fuse_fd, &notification, sizeof notification) < 0)
                atomic_store(&channel->failure, errno);
        }
        COUNT(channel, takeovers);
    }
    set_state(channel, WORKER_SERVING);
    wake(channel->down_wake);
}

/* The open rule's half for OPENs that the worker answered; the buffer holds the reply. Returns as
 * deliver() does, or EPROTO for a reply that must not reach the kernel. */
static int handle_open_reply(struct channel *channel, const struct request *request, size_t length)
{
    struct fuse_out_header header;
    struct open_out out;
    memcpy(&header, channel->up_buffer, sizeof header);
    /* ENOSYS would switch OPEN messages off for the whole connection. */
    if (header.error == -ENOSYS || (header.error == 0 && length < sizeof header + sizeof out))
        return EPROTO;
    if (header.error != 0)
        return deliver(channel, channel->up_buffer, length);
    channel->control.opening = request->node;
    control_drain(&channel->control, channel->control_fd);
    memcpy(&out, channel->up_buffer + sizeof header, sizeof out);
    int32_t backing_id = 0;
    enum open_answer mode = nodes_open(&channel->nodes, request->node, OPENER_REPLY, &backing_id);
    channel->control.opening = 0;
    if (mode == OPEN_REFUSED)
        return count_reply(channel, answer(channel, request->unique, ENOMEM, NULL, 0));
    if (mode == OPEN_PASSTHROUGH) {
        out.open_flags = FOPEN_PASSTHROUGH | FOPEN_NOFLUSH;
        out.backing_id = backing_id;
    } else {
        out.open_flags = (out.open_flags & ~(uint32_t)FOPEN_PASSTHROUGH) | FOPEN_NOFLUSH;
        out.backing_id = 0;
    }
    memcpy(channel->up_buffer + sizeof header, &out, sizeof out);
    int error = deliver(channel, channel->up_buffer, length);
    if (error != 0) {
        int to_close;
        nodes_release(&channel->nodes, request->node, &to_close);
        slow_let_go(&channel->slow, to_close);
    }
    return error;
}

/* What the worker takes back from the kernel must not be given to it here. */
static void forget_name(struct channel *channel, size_t length)
{
    struct fuse_notify_inval_entry_out entry;
    size_t start = sizeof(struct fuse_out_header) + sizeof entry;
    if (length < start)
        return;
    memcpy(&entry, channel->up_buffer + start - sizeof entry, sizeof entry);
    control_drain(&channel->control, channel->control_fd);
    if (entry.namelen <= length - start)
        names_forget(&channel->names, entry.parent, (char *)channel->up_buffer + start, entry.namelen);
}

static bool pass_mark(struct channel *channel, size_t length)
{
    struct notify_mark mark;
    if (length != sizeof(struct fuse_out_header) + sizeof mark)
        return false;
    memcpy(&mark, channel->up_buffer + sizeof(struct fuse_out_header), sizeof mark);
    struct control_message told = {.op = CONTROL_TOLD, .node = mark.number};
    return slow_say(&channel->slow, channel->control_fd, &told, sizeof told);
}

static void handle_notification(struct channel *channel, const struct fuse_out_header *header)
{
    bool taken = false;
    switch (header->error) {
    case FUSE_NOTIFY_INVAL_ENTRY:
        forget_name(channel, header->len);
        taken = slow_notify(&channel->slow, channel->up_buffer, header->len);
        break;
    case FUSE_NOTIFY_INVAL_INODE:
        taken = slow_notify(&channel->slow, channel->up_buffer, header->len);
        break;
    case NOTIFY_MARK:
        taken = pass_mark(channel, header->len);
        break;
    default: /* everything else would write into the kernel's caches or touch the connection */
        COUNT(channel, bad_messages);
        return;
    }
    if (!taken) {
        /* What it takes back would stay, or it would wait for ever: its successor takes all back. */
        COUNT(channel, bad_messages);
        shutdown(channel->worker_fd, SHUT_RDWR);
    }
}

static void handle_message(struct channel *channel, size_t length)
{
    struct fuse_out_header header;
    struct request request;
    memcpy(&header, channel->up_buffer, length < sizeof header ? length : sizeof header);
    if (length < sizeof header || header.len != length) {
        COUNT(channel, bad_messages);
        return;
    }
    if (header.unique == 0) {
        handle_notification(channel, &header);
        return;
    }
    if (state_of(channel) == WORKER_GREETING) {
        struct fuse_in_header init;
        memcpy(&init, channel->init, sizeof init);
        if (header.unique == init.unique)
            handle_init_reply(channel, length);
        return;
    }
    if (!flight_take(&channel->flight, header.unique, &request)) {
        COUNT(channel, stale_replies);
        return;
    }
    int error = 0;
    struct reference reference;
    if (request.opcode == FUSE_INIT)
        handle_init_reply(channel, length);
    else if (request.opcode == FUSE_OPEN)
        error = handle_open_reply(channel, &request, length);
    else if (request.opcode == FUSE_READ &&
             reference_in(channel->up_buffer, length, channel->token, &reference))
        error = reads_answer(channel, request.unique, request.node, &reference);
    else
        error = deliver(channel, channel->up_buffer, length);
    finish_reply(channel, request.unique, error);
}

/* The worker is dead and all it had written is delivered. */
static void lose_worker(struct channel *channel)
{
    control_drain(&channel->control, channel->control_fd);
    sources_clear(&channel->sources);
    names_clear(&channel->names);
    flight_set_flow(&channel->flight, FLOW_HELD, false);
    set_state(channel, WORKER_ABSENT);
    if (!atomic_load(&channel->resend) && atomic_load(&channel->initialised)) {
        struct request request;
        while (flight_take_any(&channel->flight, &request))
            answer(channel, request.unique, EIO, NULL, 0);
    }
    raise_event(channel);
}

static void receive(struct channel *channel)
{
    for (int i = 0; i < BURST; i++) {
        ssize_t length = recv(channel->worker_fd, channel->up_buffer, MESSAGE_MAX, MSG_DONTWAIT | MSG_TRUNC);
        if (length < 0 && errno == EAGAIN) {
            sources_settle(&channel->sources);
            return;
        }
        /* ECONNRESET comes once, before what is queued, when the worker died with requests unread. */
        if (length < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (length <= 0) {
            lose_worker(channel);
            return;
        }
        if (length > MESSAGE_MAX)
            COUNT(channel, bad_messages);
        else
            handle_message(channel, (size_t)length);
    }
}

/* Put a socket behind the number of the last one. The down thread may be sending to it: it then reaches
 * either the dead worker or, after its INIT, the new one. */
static int replace(int *number, int fd)
{
    if (*number < 0) {
        *number = fd;
        return 0;
    }
    int error = dup3(fd, *number, O_CLOEXEC) < 0 ? errno : 0;
    close(fd);
    return error;
}

static void take_next_worker(struct channel *channel)
{
    pthread_mutex_lock(&channel->attach_lock);
    int worker = channel->next_worker;
    int control = channel->next_control;
    channel->next_worker = channel->next_control = -1;
    memcpy(channel->token, channel->next_token, TOKEN_SIZE);
    pthread_mutex_unlock(&channel->attach_lock);
    if (worker < 0)
        return;
    size_t init_length = atomic_load(&channel->init_length);
    bool greet = init_length > 0;
    /* A worker that is dead already cannot take it; the end of its socket says so below. */
    if (greet && send(worker, channel->init, init_length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        shutdown(worker, SHUT_RDWR);
    int error = replace(&channel->worker_fd, worker);
    int control_error = replace(&channel->control_fd, control);
    if (error != 0 || control_error != 0)
        atomic_store(&channel->failure, error != 0 ? error : control_error);
    atomic_store(&channel->served, 0);
    set_state(channel, greet ? WORKER_GREETING : WORKER_SERVING);
    if (!greet) {
        flight_set_flow(&channel->flight, FLOW_OPEN, false);
        /* INIT may have come in this very moment and been held back: begin again, with it. */
        if (atomic_load(&channel->init_length) > 0)
            shutdown(channel->worker_fd, SHUT_RDWR);
    }
    wake(channel->down_wake);
}

/* A successor is waiting while its predecessor still holds the line: hang up, keep what is queued. */
static void cut_off_predecessor(struct channel *channel)
{
    pthread_mutex_lock(&channel->attach_lock);
    bool waiting = channel->next_worker >= 0;
    pthread_mutex_unlock(&channel->attach_lock);
    if (waiting)
        shutdown(channel->worker_fd, SHUT_RDWR);
}

void *up_main(void *argument)
{
    struct channel *channel = argument;
    while (!atomic_load(&channel->stopping)) {
        if (state_of(channel) == WORKER_ABSENT)
            take_next_worker(channel);
        else
            cut_off_predecessor(channel);
        bool present = state_of(channel) != WORKER_ABSENT;
        struct pollfd fds[3] = {{.fd = channel->up_wake, .events = POLLIN},
                                {.fd = present ? channel->worker_fd : -1, .events = POLLIN},
                                {.fd = present ? channel->control_fd : -1, .events = POLLIN}};
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[0].revents != 0)
            quiet(channel->up_wake);
        if (fds[1].revents != 0)
            receive(channel);
        if (fds[2].revents != 0 && control_drain(&channel->control, channel->control_fd) < 0)
            shutdown(channel->worker_fd, SHUT_RDWR); /* a worker without registrations is half a worker */
        if (channel->sources.leaving > 0) /* an idle worker's too should be closed */
            receive(channel);
    }
    return NULL;
}
