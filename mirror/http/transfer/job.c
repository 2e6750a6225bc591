/* How a job goes on: it sends, and receives as long as something comes that is worth waiting for.
 *
 * Nothing that came is interpreted here but for one thing: how many bytes of body it is worth waiting for.
 * Whatever a head says is read again, and judged, by mirror/http/heads.py. */
#include "job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

enum { MOST_HEAD = 64 * 1024 };

/* A body that has begun is waited for so long; then what came is handed on, and the rest is asked for. Whoever
 * only receives may wait for a reader, so less long: at 100 MB/s a mebibyte takes that time. */
static const int64_t LINGER_NS = 100 * 1000 * 1000, SHORT_LINGER_NS = 10 * 1000 * 1000;

int64_t now_ns(void)
{
    struct timespec moment;
    clock_gettime(CLOCK_MONOTONIC, &moment);
    return (int64_t)moment.tv_sec * 1000000000 + moment.tv_nsec;
}

/* -- what is worth waiting for ---------------------------------------------------------------- */

/* Bytes of the head with its empty line, 0 when that has not come; in the first `looked` it does not end. */
static size_t head_size(const char *data, size_t size, size_t looked)
{
    size_t from = looked > 3 ? looked - 3 : 0; /* it may have begun there */
    const char *end = size < 4 ? NULL : memmem(data + from, size - from, "\r\n\r\n", 4);
    return end == NULL ? 0 : (size_t)(end - data) + 4;
}

/* The Content-Length of a head, 0 when it has none: then nothing is waited for here. */
static size_t stated_length(const char *head, size_t size)
{
    static const char name[] = "content-length:";
    const char *line = head, *end = head + size;
    while ((line = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        line++;
        if ((size_t)(end - line) <= sizeof name - 1 || strncasecmp(line, name, sizeof name - 1) != 0)
            continue;
        size_t length = 0;
        const char *at = line + sizeof name - 1;
        while (at < end && (*at == ' ' || *at == '\t'))
            at++;
        for (; at < end && *at >= '0' && *at <= '9'; at++) {
            if (length > SIZE_MAX / 100)
                return 0;
            length = length * 10 + (size_t)(*at - '0');
        }
        return length;
    }
    return 0;
}

/* -- sending and receiving -------------------------------------------------------------------- */

static bool make_room(Job *job, size_t room)
{
    if (room <= job->room)
        return true;
    char *data = realloc(job->data, room);
    if (data == NULL) {
        job->error = ENOMEM;
        return false;
    }
    job->data = data;
    job->room = room;
    return true;
}

/* Take what was received into the scratch buffer; false: there is no memory. */
static bool keep(Job *job, const char *scratch, size_t size)
{
    if (!make_room(job, job->size + size))
        return false;
    memcpy(job->data + job->size, scratch, size);
    job->size += size;
    return true;
}

static bool look_for_head(Job *job)
{
    job->head = head_size(job->data, job->size, job->looked);
    job->looked = job->size;
    if (job->head == 0)
        return true;
    size_t length = stated_length(job->data, job->head);
    job->whole = length <= job->most;
    job->wanted = job->head + (job->whole ? length : job->most);
    job->until = now_ns() + LINGER_NS;
    return make_room(job, job->wanted);
}

static bool sending(const Job *job)
{
    return job->request != NULL && job->sent < (size_t)PyBytes_GET_SIZE(job->request);
}

static ssize_t send_to(Job *job, const char *out, size_t size)
{
    return job->tls != NULL ? tls_send(job->tls->tls, out, size)
                            : send(job->fd, out, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t receive_from(Job *job, char *into, size_t size)
{
    return job->tls != NULL ? tls_receive(job->tls->tls, into, size) : recv(job->fd, into, size, MSG_DONTWAIT);
}

bool job_send(Job *job)
{
    const char *out = PyBytes_AS_STRING(job->request); /* immutable, and held: no lock needed */
    while (sending(job)) {
        ssize_t sent = send_to(job, out + job->sent, (size_t)PyBytes_GET_SIZE(job->request) - job->sent);
        if (sent >= 0)
            job->sent += (size_t)sent;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR) {
            job->error = errno;
            return false;
        }
    }
    return true;
}

/* Agree on keys as far as it goes without waiting; true: that is done, or has failed. */
static bool shake(Job *job)
{
    if (tls_shake(job->tls->tls) == 0)
        return true;
    if (errno == EAGAIN)
        return false;
    job->error = errno;
    return true;
}

/* Go on with a job as far as it goes without waiting; true: it is finished. */
static bool go_on(Job *job, char *scratch)
{
    if (job->shakes)
        return shake(job);
    bool exchange = job->request != NULL;
    if (sending(job)) {
        if (!job_send(job))
            return true;
        if (sending(job))
            return false;
    }
    for (;;) {
        bool direct = !exchange || job->head != 0;
        /* One more than there should be: a body that goes on shows here, at no cost. */
        size_t goal = !exchange ? job->most : job->wanted + job->whole;
        if (direct && !make_room(job, goal))
            return true;
        char *into = direct ? job->data + job->size : scratch;
        ssize_t got = receive_from(job, into, direct ? goal - job->size : SCRATCH);
        if (got < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN) {
                if (exchange || job->size == 0)
                    return false;
                if (job->size < job->least && job->until == 0)
                    job->until = now_ns() + SHORT_LINGER_NS;
                return job->size >= job->least;
            }
            /* What has come is good; whoever asks for the rest hears of the end. */
            if (exchange || job->size == 0)
                job->error = errno;
            return true;
        }
        if (got == 0)
            return true; /* the end: the size tells */
        if (direct)
            job->size += (size_t)got;
        else if (!keep(job, scratch, (size_t)got) || !look_for_head(job))
            return true;
        if (!exchange ? job->size >= job->most : job->head != 0 ? job->size >= job->wanted : job->size >= MOST_HEAD)
            return true;
    }
}

bool job_step(Job *job, char *scratch)
{
    job->at_once = false;
    if (job->tls == NULL)
        return go_on(job, scratch);
    tls_lend(job->tls->tls, scratch + SCRATCH, SCRATCH);
    bool finished = go_on(job, scratch);
    tls_take_back(job->tls->tls);
    return finished;
}

/* Most bytes that a socket is to gather: so many are still in the processor's cache. */
enum { WORTH = 128 * 1024 };

int job_worth(const Job *job)
{
    size_t wanted = job->request != NULL ? job->wanted : job->least;
    if (job->until == 0 || sending(job) || wanted <= job->size)
        return 1; /* nobody would end the wait for more */
    size_t left = wanted - job->size;
    if (job->tls != NULL) {
        size_t held = tls_most_held(job->tls->tls);
        left = left > held ? left - held : 1;
    }
    return left < WORTH ? (int)left : WORTH;
}

uint32_t job_awaits(const Job *job)
{
    if (job->at_once)
        return EPOLLIN | EPOLLOUT;
    /* What is sealed may have to be received before it can be sent, and the other way round. */
    return (job->tls != NULL ? job->tls->tls->sends : sending(job)) ? EPOLLOUT : EPOLLIN;
}
