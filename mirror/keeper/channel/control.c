/* Registrations; see control.h. */
#define _GNU_SOURCE /* O_PATH */

#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int control_check(const struct control *control, int fd)
{
    struct stat status;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fstat(fd, &status) != 0)
        return errno;
    if ((flags & O_ACCMODE) != O_RDONLY || (flags & O_PATH) != 0)
        return EACCES;
    if (!S_ISREG(status.st_mode))
        return EINVAL;
    if (status.st_dev != control->device)
        return EXDEV;
    if (status.st_uid != control->owner)
        return EPERM;
    return 0;
}

/* Take the descriptors out of a received packet: the first one, all others are closed. */
static int first_fd(struct msghdr *header)
{
    int first = NO_FD;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(header); part != NULL; part = CMSG_NXTHDR(header, part)) {
        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(part) + i * sizeof fd, sizeof fd);
            if (first == NO_FD)
                first = fd;
            else
                close(fd);
        }
    }
    return first;
}

/* Let go of all that is here of a node's file; false: it is in use, and nothing changed.
 *
 * A source that was not taken back keeps it busy, for the worker may refer to it at any moment. One that
 * is leaving need not be waited for: READs end before their handle's RELEASE, so without handles nobody
 * waits for a reply that refers to it. Handles are looked at last: only this thread makes one of an OPEN
 * in flight, and what the down thread opens by itself is decided under the lock of the nodes. */
static bool let_go(struct control *control, uint64_t node)
{
    int fd;
    if (node == control->opening || flight_opens(control->flight, node) ||
        sources_offers(control->sources, node) || !nodes_yield(control->nodes, node, &fd))
        return false;
    slow_let_go(control->slow, fd);
    while ((fd = sources_pull(control->sources, node)) != NO_FD)
        slow_let_go(control->slow, fd);
    return true;
}

static void yield(struct control *control, int socket, const struct control_message *question)
{
    struct control_message answer = *question;
    if (!let_go(control, question->node)) {
        answer.number++;
        atomic_fetch_add_explicit(&control->busy, 1, memory_order_relaxed);
    }
    /* The up thread waits for no worker: one that does not read hears nothing, and takes that for busy. */
    if (send(socket, &answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        atomic_fetch_add_explicit(&control->unanswered, 1, memory_order_relaxed);
}

static void handle(struct control *control, int socket, const struct control_message *message, int fd)
{
    int to_close[2] = {fd, NO_FD};
    bool acceptable = fd != NO_FD && message->node != 0 && control_check(control, fd) == 0;
    switch (message->op) {
    case CONTROL_REGISTER:
        if (acceptable)
            nodes_register(control->nodes, message->node, fd, to_close);
        else
            atomic_fetch_add_explicit(&control->refused, 1, memory_order_relaxed);
        break;
    case CONTROL_RETIRE:
        nodes_retire(control->nodes, message->node, &to_close[1]);
        break;
    case CONTROL_SOURCE:
        if (acceptable) {
            sources_offer(control->sources, message->node, message->number, fd);
            to_close[0] = NO_FD;
        } else {
            atomic_fetch_add_explicit(&control->refused, 1, memory_order_relaxed);
        }
        break;
    case CONTROL_FORGET_SOURCE:
        sources_forget(control->sources, message->node);
        break;
    case CONTROL_YIELD:
        yield(control, socket, message);
        break;
    default:
        atomic_fetch_add_explicit(&control->refused, 1, memory_order_relaxed);
        break;
    }
    /* What was refused may be anything, and its closing wait for anybody. */
    if (acceptable)
        slow_let_go(control->slow, to_close[0]);
    else
        slow_close(control->slow, to_close[0]);
    slow_let_go(control->slow, to_close[1]);
}

/* Names, one behind the other; what is no name ends it. */
static void offer_names(struct control *control, uint64_t folder, const unsigned char *at, size_t length)
{
    struct control_name name;
    while (length > sizeof name) {
        memcpy(&name, at, sizeof name);
        at += sizeof name;
        length -= sizeof name;
        if (name.length == 0 || name.length > length || name.entry.nodeid == 0)
            break;
        struct fuse_entry_out entry = name.entry; /* there it may not be aligned */
        names_offer(control->names, folder, (const char *)at, name.length, &entry);
        at += name.length;
        length -= name.length;
    }
    if (length > 0)
        atomic_fetch_add_explicit(&control->refused, 1, memory_order_relaxed);
}

static void handle_packet(struct control *control, int socket, size_t length, int fd)
{
    struct control_message message;
    if (length >= sizeof message) {
        memcpy(&message, control->buffer, sizeof message);
        if (length == sizeof message) {
            handle(control, socket, &message, fd);
            return;
        }
        if (message.op == CONTROL_NAMES && fd == NO_FD) {
            offer_names(control, message.node, control->buffer + sizeof message, length - sizeof message);
            return;
        }
    }
    atomic_fetch_add_explicit(&control->refused, 1, memory_order_relaxed);
    slow_close(control->slow, fd);
}

int control_drain(struct control *control, int socket)
{
    for (;;) {
        union {
            char bytes[CMSG_SPACE(4 * sizeof(int))];
            struct cmsghdr align;
        } ancillary;
        struct iovec body = {.iov_base = control->buffer, .iov_len = sizeof control->buffer};
        struct msghdr header = {.msg_iov = &body,
                                .msg_iovlen = 1,
                                .msg_control = ancillary.bytes,
                                .msg_controllen = sizeof ancillary.bytes};
        ssize_t length = recvmsg(socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (length < 0 && (errno == EINTR || errno == ECONNRESET))
            continue;
        if (length < 0)
            return errno == EAGAIN ? 0 : -1;
        int fd = first_fd(&header);
        if (length == 0 && fd == NO_FD)
            return -1;
        handle_packet(control, socket, (header.msg_flags & MSG_TRUNC) == 0 ? (size_t)length : 0, fd);
    }
}
