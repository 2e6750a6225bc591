/* The channel: /dev/fuse on one side, the worker's sockets on the other, four threads between.
 *
 *   down   kernel -> worker   reads requests, answers what the keeper can answer, forwards the rest
 *   up     worker -> kernel   drains registrations, rewrites OPEN replies, takes over new workers
 *   slow   notifications and closing of files: whatever may wait in the kernel (slow.h)
 *   disk   reads by reference that are not in the page cache (reads.h)
 *
 * The worker may die at any instruction and be replaced. A connection outlives it because everything
 * that the kernel was told is kept here: INIT's bytes, the requests in flight, the handles' modes, the
 * backing files. In a take-over the new worker gets INIT again; once it has answered, the table of
 * requests is emptied and the kernel is asked to send again whatever it has no answer for.
 */
#ifndef MIRROR_CHANNEL_H
#define MIRROR_CHANNEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "control.h"
#include "flight.h"
#include "names.h"
#include "negotiate.h"
#include "nodes.h"
#include "reads.h"
#include "slow.h"
#include "sources.h"

/* Largest message either way: 256 pages of data and a page for headers and names. */
#define MESSAGE_MAX (257 * 4096)

struct channel_settings {
    struct backing_ops backing;
    struct wishes wishes;
    uint32_t backing_limit;
    uint32_t spin_us;
    dev_t cache_device;
    uid_t owner;
};

/* The worker, as the channel sees it. Only the up thread moves between these. */
enum worker_state {
    WORKER_ABSENT,   /* none yet, or dead and drained: waits for channel_attach() */
    WORKER_GREETING, /* has been sent INIT again; only its answer to that counts */
    WORKER_SERVING,
};

struct counters {
    atomic_uint_fast64_t requests;        /* read from the kernel */
    atomic_uint_fast64_t read_requests;   /* READs among those that went to the worker */
    atomic_uint_fast64_t forwarded;       /* went to the worker */
    atomic_uint_fast64_t replies;         /* of the worker, written to the kernel */
    atomic_uint_fast64_t stale_replies;   /* of the worker, nobody waits for them any more */
    atomic_uint_fast64_t bad_messages;    /* of the worker, malformed or refused by the kernel */
    atomic_uint_fast64_t interrupted;     /* requests answered EINTR because their task should end */
    atomic_uint_fast64_t takeovers;       /* workers that took over a running connection */
};

struct channel {
    struct channel_settings settings;
    int fuse_fd;
    int worker_fd;  /* our ends; the numbers stay, dup3() puts the next worker's behind them */
    int control_fd;
    int event_fd;   /* readable when something below changed */
    int up_wake;
    int down_wake;

    struct flight flight;
    struct nodes nodes;
    struct slow slow;
    struct control control;
    struct sources sources;         /* the present worker's */
    struct names names;             /* the present worker's */
    struct reads reads;
    unsigned char token[TOKEN_SIZE]; /* the present worker's; the up thread's alone */
    struct counters counters;

    unsigned char init[INIT_REQUEST_MAX];       /* the kernel's INIT as offered to workers */
    unsigned char init_offer[INIT_REQUEST_MAX]; /* the same as the kernel sent it */
    atomic_size_t init_length;            /* of both; 0: not seen yet */
    atomic_bool initialised;              /* the kernel has our answer to INIT */
    atomic_bool resend;                   /* the kernel sends requests again when asked */
    atomic_bool passthrough;              /* agreed on */

    atomic_int worker_state;              /* enum worker_state */
    atomic_uint_fast64_t served;          /* replies of the present worker */
    atomic_bool stopping;                 /* up and down shall end */
    atomic_bool ended;                    /* the kernel's side is gone */
    atomic_int failure;                   /* errno that ended the down thread, 0: none */

    pthread_mutex_t attach_lock;
    int next_worker; /* sockets of a worker that waits to be taken, or -1 */
    int next_control;
    unsigned char next_token[TOKEN_SIZE];

    unsigned char *down_buffer;
    unsigned char *up_buffer;
    pthread_t down_thread;
    pthread_t up_thread;
    bool running;
};

/* Prepare a channel on an open /dev/fuse (taken over). Returns 0 or an errno. */
int channel_init(struct channel *channel, int fuse_fd, const struct channel_settings *settings);
int channel_start(struct channel *channel);

/* Hand over a worker's sockets (our ends, taken over) and the token that its references carry. The
 * former worker is dead, or is cut off. Returns 0, or EALREADY when another one waits. */
int channel_attach(struct channel *channel, int worker_fd, int control_fd,
                   const unsigned char token[TOKEN_SIZE]);

/* End all threads. Whoever waits for an answer gets ENOTCONN, so that nothing in the kernel can hold
 * up our own end. */
void channel_stop(struct channel *channel);
void channel_destroy(struct channel *channel);

/* Between the channel's own files. */
void *down_main(void *argument);
void *up_main(void *argument);
int answer(struct channel *channel, uint64_t unique, int error, const void *body, size_t length);
int count_reply(struct channel *channel, int error);
void finish_reply(struct channel *channel, uint64_t unique, int error);
void raise_event(struct channel *channel);
void wake(int event_fd);
void quiet(int event_fd);

#define COUNT(channel, name) \
    atomic_fetch_add_explicit(&(channel)->counters.name, 1, memory_order_relaxed)

#endif
