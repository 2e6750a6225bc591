/* The down thread: requests of the kernel, answered here or forwarded to the worker. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "channel.h"
#include "protocol.h"
#include "signals.h"

/* Spinning: after an open that was answered here its close and the next open usually follow within
 * microseconds, and a sleep costs more than that. `credit` says whether this has paid lately: a request
 * that came soon enough adds to it, spinning in vain takes from it, and at 0 the thread just sleeps. */
#define CREDIT_MAX 16

struct spin {
    uint64_t limit_ns;
    int credit;
    bool worthwhile; /* the last request was answered here */
};

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

static void relax(void)
{
    for (int i = 0; i < 8; i++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ __volatile__("yield");
#endif
    }
}

static ssize_t spin_for_request(struct channel *channel, const struct spin *spin, uint64_t start)
{
    ssize_t length;
    do {
        relax();
        length = read(channel->fuse_fd, channel->down_buffer, MESSAGE_MAX);
    } while (length < 0 && errno == EAGAIN && now_ns() - start < spin->limit_ns);
    return length;
}

static void sleep_until_readable(struct channel *channel, bool also_requests)
{
    struct pollfd fds[2] = {{.fd = channel->down_wake, .events = POLLIN},
                            {.fd = also_requests ? channel->fuse_fd : -1, .events = POLLIN}};
    poll(fds, 2, -1);
    if (fds[0].revents & POLLIN)
        quiet(channel->down_wake);
}

/* Whether requests are left in the kernel's queue: a kernel that cannot resend must not hand over what
 * no worker can take. */
static bool must_hold(struct channel *channel)
{
    return !atomic_load(&channel->resend) && flight_flow(&channel->flight) == FLOW_HELD;
}

/* The next request, in the down buffer. Returns its length, 0 at the end. */
static size_t next_request(struct channel *channel, struct spin *spin)
{
    while (!atomic_load(&channel->stopping)) {
        if (must_hold(channel)) {
            sleep_until_readable(channel, false);
            continue;
        }
        ssize_t length = read(channel->fuse_fd, channel->down_buffer, MESSAGE_MAX);
        if (length < 0 && errno == EAGAIN) {
            uint64_t start = spin->worthwhile ? now_ns() : 0;
            if (spin->worthwhile && spin->credit > 0) {
                length = spin_for_request(channel, spin, start);
                spin->credit += length >= 0 ? spin->credit < CREDIT_MAX : -1;
            }
            if (length < 0 && errno == EAGAIN) {
                sleep_until_readable(channel, true);
                if (spin->worthwhile && spin->credit < CREDIT_MAX && now_ns() - start < spin->limit_ns)
                    spin->credit++;
                spin->worthwhile = false;
                continue;
            }
        }
        if (length >= (ssize_t)sizeof(struct fuse_in_header))
            return (size_t)length;
        if (length == 0) /* only a stand-in for the kernel hangs up like this */
            return 0;
        if (length > 0)
            continue;
        if (errno == ENODEV || errno == ECONNABORTED)
            return 0;
        /* ENOENT: the request was taken back while it was read. */
        if (errno != EAGAIN && errno != EINTR && errno != ENOENT) {
            atomic_store(&channel->failure, errno);
            return 0;
        }
    }
    return 0;
}

/* Send a request to the worker. A failure is its death, which the up thread sees and mends. */
static bool send_to_worker(struct channel *channel, const void *message, size_t length)
{
    for (;;) {
        if (send(channel->worker_fd, message, length, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
            return true;
        if (errno == EINTR)
            continue;
        if (errno != EAGAIN)
            return false;
        struct pollfd fds[2] = {{.fd = channel->worker_fd, .events = POLLOUT},
                                {.fd = channel->down_wake, .events = POLLIN}};
        poll(fds, 2, -1);
        if (fds[1].revents & POLLIN)
            quiet(channel->down_wake);
        if (atomic_load(&channel->stopping))
            return false;
    }
}

static void forward(struct channel *channel, const struct fuse_in_header *header, const void *message)
{
    struct request request = {header->unique, header->nodeid, header->opcode, header->pid};
    enum flow flow;
    int error = flight_add(&channel->flight, &request, &flow);
    if (error != 0 || flow == FLOW_REFUSED) {
        answer(channel, header->unique, error != 0 ? error : ENOTCONN, NULL, 0);
        return;
    }
    bool sent = false;
    if (flow == FLOW_OPEN) {
        COUNT(channel, forwarded);
        if (header->opcode == FUSE_READ)
            COUNT(channel, read_requests);
        sent = send_to_worker(channel, message, header->len);
    }
    /* What is not sent now, the kernel sends again once the next worker is there; one that cannot do
     * that must not wait for ever. */
    if (!sent && !atomic_load(&channel->resend) && flight_take(&channel->flight, header->unique, NULL))
        answer(channel, header->unique, EIO, NULL, 0);
}

static void handle_init(struct channel *channel, const struct fuse_in_header *header, const void *message)
{
    size_t length = header->len < INIT_REQUEST_MAX ? header->len : INIT_REQUEST_MAX;
    memcpy(channel->init_offer, message, length);
    memcpy(channel->init, message, length);
    init_for_worker(channel->init, length);
    atomic_store(&channel->resend, init_offers_resend(channel->init_offer, length));
    struct fuse_in_header shorter = *header;
    shorter.len = (uint32_t)length;
    memcpy(channel->init, &shorter, sizeof shorter);
    atomic_store(&channel->init_length, length);
    forward(channel, &shorter, channel->init);
}

static bool handle_lookup(struct channel *channel, const struct fuse_in_header *header, const void *message)
{
    const char *text = (const char *)message + sizeof *header;
    struct fuse_entry_out entry;
    size_t length = strnlen(text, header->len - sizeof *header);
    if (!names_take(&channel->names, header->nodeid, text, length, &entry))
        return false;
    answer(channel, header->unique, 0, &entry, sizeof entry); /* whoever is gone leaves the next one to the worker */
    return true;
}

static bool handle_open(struct channel *channel, const struct fuse_in_header *header, const void *message)
{
    struct fuse_open_in open;
    memcpy(&open, (const char *)message + sizeof *header, sizeof open);
    /* The mount is read-only; should it be remounted otherwise, a backing file must still never be
     * opened for writing. */
    if ((open.flags & O_ACCMODE) != O_RDONLY || (open.flags & O_TRUNC) != 0) {
        answer(channel, header->unique, EROFS, NULL, 0);
        return true;
    }
    struct open_out out = {.fh = header->nodeid, .open_flags = FOPEN_PASSTHROUGH | FOPEN_NOFLUSH};
    if (nodes_open(&channel->nodes, header->nodeid, OPENER_KEEPER, &out.backing_id) != OPEN_PASSTHROUGH)
        return false;
    if (answer(channel, header->unique, 0, &out, sizeof out) != 0) {
        int to_close;
        nodes_release(&channel->nodes, header->nodeid, &to_close);
        slow_let_go(&channel->slow, to_close);
    }
    return true;
}

/* The kernel has let go of the handle's mode before it sends RELEASE: so the count falls on arrival. */
static bool handle_release(struct channel *channel, const struct fuse_in_header *header)
{
    if (header->unique & UNIQUE_RESENT) /* counted when it came first */
        return false;
    int to_close;
    bool ours = nodes_release(&channel->nodes, header->nodeid, &to_close);
    slow_let_go(&channel->slow, to_close);
    if (ours)
        answer(channel, header->unique, 0, NULL, 0);
    return ours;
}

static void handle_interrupt(struct channel *channel, const struct fuse_in_header *header,
                             const void *message)
{
    struct fuse_interrupt_in interrupt;
    struct request request;
    memcpy(&interrupt, (const char *)message + sizeof *header, sizeof interrupt);
    if (flight_find(&channel->flight, interrupt.unique, &request) && task_should_end(request.task) &&
        flight_take(&channel->flight, interrupt.unique, NULL)) {
        COUNT(channel, interrupted);
        answer(channel, interrupt.unique, EINTR, NULL, 0);
    }
}

/* Returns true when the request was answered here. */
static bool handle(struct channel *channel, size_t length)
{
    const unsigned char *message = channel->down_buffer;
    struct fuse_in_header header;
    memcpy(&header, message, sizeof header);
    COUNT(channel, requests);
    if (header.len != length)
        return false;
    size_t body = length - sizeof header;
    switch (header.opcode) {
    case FUSE_INIT:
        handle_init(channel, &header, message);
        return false;
    case FUSE_FORGET: /* the worker keeps no lookup counts, and these have no answer */
    case FUSE_BATCH_FORGET:
        return false;
    case FUSE_INTERRUPT:
        if (body >= sizeof(struct fuse_interrupt_in))
            handle_interrupt(channel, &header, message);
        return false;
    case FUSE_FLUSH: /* nothing is ever written: the kernel stops asking, for the whole connection */
        answer(channel, header.unique, ENOSYS, NULL, 0);
        return true;
    case FUSE_IOCTL: /* open() of Python asks every file whether it is a terminal */
        answer(channel, header.unique, ENOTTY, NULL, 0);
        return true;
    case FUSE_DESTROY:
        answer(channel, header.unique, 0, NULL, 0);
        return true;
    case FUSE_LOOKUP:
        if (handle_lookup(channel, &header, message))
            return true;
        break;
    case FUSE_OPEN:
        if (body >= sizeof(struct fuse_open_in) && handle_open(channel, &header, message))
            return true;
        break;
    case FUSE_RELEASE:
        if (handle_release(channel, &header))
            return true;
        break;
    default:
        break;
    }
    forward(channel, &header, message);
    return false;
}

void *down_main(void *argument)
{
    struct channel *channel = argument;
    struct spin spin = {.limit_ns = (uint64_t)channel->settings.spin_us * 1000, .credit = 0};
    size_t length;
    while ((length = next_request(channel, &spin)) > 0)
        spin.worthwhile = handle(channel, length) && spin.limit_ns > 0;
    atomic_store(&channel->ended, true);
    raise_event(channel);
    return NULL;
}
