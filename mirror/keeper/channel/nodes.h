/* Nodes with open handles or a held file, and the open rule.
 *
 * The kernel allows the handles of one inode to be of one mode at a time, page-cached or passthrough,
 * and answers EIO to an open that breaks this. So one function, nodes_open(), decides the mode of
 * every handle, whoever answers the OPEN, and everything it looks at changes under one lock.
 *
 * A file that the worker registers is *held*: its descriptor stays open here, and with it the lock that
 * the worker took on it, which says to every process that the file is in use. Where the kernel takes the
 * file it has a backing id besides. Where it does not (no privilege, an old kernel) the handles are all
 * page-cached, and the file is held for their sake all the same. The descriptor also makes lsof show the
 * file and RLIMIT_NOFILE count it; the kernel does neither.
 *
 * A held file is let go when it is retired or yielded, or when the budget wants its place; never while
 * a handle of either mode is open. Its descriptor is then handed back to the caller, because closing the
 * last one of a large unlinked file takes long. A node without open handles and without a held file has
 * no entry.
 *
 * What the keeper opens by itself the worker does not see, so it is noted here, for whoever decides what
 * was not used for long: a node once between two calls of nodes_take_opens(), in room made ahead.
 */
#ifndef MIRROR_NODES_H
#define MIRROR_NODES_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How backing files reach the kernel: ioctls on /dev/fuse, or a fake in tests. */
struct backing_ops {
    int (*open)(void *context, int fd);        /* returns the id (> 0) or -errno */
    int (*close)(void *context, int32_t id);   /* returns 0 or -errno */
    void *context;
};

#define NO_NODE UINT32_MAX
#define NO_FD (-1)

struct node {
    uint64_t id;
    uint64_t opened_at;   /* realtime seconds of the last passthrough open, 0: never */
    uint32_t next;        /* slot of the next node in the hash chain or in the free list */
    uint32_t older;       /* neighbours in the list of idle nodes: held, without handles */
    uint32_t newer;
    int32_t backing_id;   /* 0: the kernel does not have it, and never without a held file */
    int fd;               /* the held file, or NO_FD */
    uint32_t cached;      /* open page-cached handles; 0 while passthrough > 0 */
    uint32_t passthrough; /* open passthrough handles; 0 while cached > 0 */
    uint32_t noted;       /* interval in which an open was noted last, 0: never */
    bool retiring;        /* the file goes at the last release */
};

/* An open that the worker did not see. */
struct opened {
    uint64_t node;
    uint64_t at; /* realtime seconds */
};
_Static_assert(sizeof(struct opened) == 16, "as it is packed for the worker (link.py)");

#define OPENED_MAX 65536 /* notes in one interval; what is more is dropped and counted */

struct node_counters {
    uint64_t opens_by_keeper;   /* passthrough, the worker never saw them */
    uint64_t opens_by_reply;    /* passthrough, a worker's reply was rewritten */
    uint64_t opens_cached;
    uint64_t registered;        /* registrations made */
    uint64_t failed;            /* the kernel said no */
    uint64_t over_budget;       /* refused: the budget is used up by open files */
    uint64_t retired;           /* files let go because the worker asked */
    uint64_t budget_retired;    /* files let go to make room */
    uint64_t yielded;           /* files let go because the worker wants to remove them */
    uint64_t opens_dropped;     /* not noted: no room */
};

struct nodes {
    pthread_mutex_t lock;
    struct backing_ops backing;
    bool enabled;        /* the kernel agreed to passthrough */
    int last_error;      /* errno of the last failed registration, 0: none */
    uint32_t limit;      /* most held files */
    uint32_t held;       /* now */
    uint32_t registered; /* of these, with a backing id */
    struct node *slots;
    uint32_t capacity;   /* of slots and buckets, a power of 2 */
    uint32_t used;       /* slots handed out so far; freed ones are in the free list */
    uint32_t free;
    uint32_t *buckets;
    uint32_t oldest;     /* idle nodes, by the time they became idle */
    uint32_t newest;
    struct opened *opened;       /* notes of this interval */
    struct opened *opened_spare; /* of the last one, for who took them */
    uint32_t opened_count;
    uint32_t interval;
    struct node_counters counters;
};

enum open_answer {
    OPEN_PASSTHROUGH, /* answer with this backing id; counted */
    OPEN_CACHED,      /* let the worker's answer stand; counted */
    OPEN_ASK,         /* not decided: the worker has to be asked first */
    OPEN_REFUSED,     /* out of memory: a handle that is not counted must not be */
};

enum opener { OPENER_KEEPER, OPENER_REPLY };

int nodes_init(struct nodes *nodes, struct backing_ops backing, uint32_t limit);

/* Close all descriptors; the ids go with the connection. */
void nodes_destroy(struct nodes *nodes);

void nodes_enable(struct nodes *nodes, bool enabled);

/* The open rule. OPENER_KEEPER asks before the worker has seen the request, OPENER_REPLY when a
 * successful reply of the worker passes by. */
enum open_answer nodes_open(struct nodes *nodes, uint64_t id, enum opener opener, int32_t *backing_id);

/* One handle of the node is gone, or the kernel never took the answer that opened it. Returns whether
 * it was a passthrough handle, which the worker need not hear of. */
bool nodes_release(struct nodes *nodes, uint64_t id, int *to_close);

/* Hold a file for the node, and give it to the kernel as backing file. Takes the descriptor in every
 * case; `to_close` are up to two that the caller closes. A node that has a backing id keeps the file it
 * has (EEXIST); one that is only held gets the new file in its place, which is the one that its handles
 * read from now on. Returns 0, or the reason why the kernel does not have it: EMFILE and ENOMEM say that
 * it is not even held. */
int nodes_register(struct nodes *nodes, uint64_t id, int fd, int to_close[2]);

/* Let the node's file go, at once when no handle is open, else at the last release. */
void nodes_retire(struct nodes *nodes, uint64_t id, int *to_close);

/* Let the node's file go if no handle is open; false: one is, and nothing changed. */
bool nodes_yield(struct nodes *nodes, uint64_t id, int *to_close);

/* The opens by the keeper alone since the last call. The array is good until the next call: for one thread. */
size_t nodes_take_opens(struct nodes *nodes, const struct opened **opened);

int nodes_last_error(struct nodes *nodes);

/* Copy all nodes with a held file to a new array (free() it); NULL when out of memory. */
struct node *nodes_snapshot(struct nodes *nodes, size_t *count, struct node_counters *counters);

#endif
