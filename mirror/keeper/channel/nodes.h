/* Nodes with open handles or a backing file, and the open rule.
 *
 * The kernel allows the handles of one inode to be of one mode at a time, page-cached or passthrough,
 * and answers EIO to an open that breaks this. So one function, nodes_open(), decides the mode of
 * every handle, whoever answers the OPEN, and everything it looks at changes under one lock.
 *
 * A node without open handles and without a backing file has no entry. Descriptors of backing files
 * stay open for as long as their id lives, so that lsof shows them and RLIMIT_NOFILE counts them (the
 * kernel does neither); those to be closed are handed back to the caller, because closing the last
 * descriptor of a large unlinked file takes long.
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
    uint32_t older;       /* neighbours in the list of idle registered nodes */
    uint32_t newer;
    int32_t backing_id;   /* 0: not registered */
    int fd;               /* the backing file, NO_FD: not registered */
    uint32_t cached;      /* open page-cached handles; 0 while passthrough > 0 */
    uint32_t passthrough; /* open passthrough handles; 0 while cached > 0 */
    bool retiring;        /* the id goes at the last release */
};

struct node_counters {
    uint64_t opens_by_keeper;   /* passthrough, the worker never saw them */
    uint64_t opens_by_reply;    /* passthrough, a worker's reply was rewritten */
    uint64_t opens_cached;
    uint64_t registered;        /* registrations made */
    uint64_t failed;            /* the kernel said no */
    uint64_t over_budget;       /* refused: the budget is used up by open files */
    uint64_t retired;           /* ids closed because the worker asked */
    uint64_t budget_retired;    /* ids closed to make room */
};

struct nodes {
    pthread_mutex_t lock;
    struct backing_ops backing;
    bool enabled;        /* the kernel agreed to passthrough */
    int last_error;      /* errno of the last failed registration, 0: none */
    uint32_t limit;      /* most registered nodes */
    uint32_t registered; /* registered now */
    struct node *slots;
    uint32_t capacity;   /* of slots and buckets, a power of 2 */
    uint32_t used;       /* slots handed out so far; freed ones are in the free list */
    uint32_t free;
    uint32_t *buckets;
    uint32_t oldest;     /* idle registered nodes, by the time they became idle */
    uint32_t newest;
    struct node_counters counters;
};

enum open_answer {
    OPEN_PASSTHROUGH, /* answer with this backing id; counted */
    OPEN_CACHED,      /* let the worker's answer stand; counted */
    OPEN_ASK,         /* not decided: the worker has to be asked first */
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

/* Give the node a backing file. Takes the descriptor in every case; `to_close` are up to two that the
 * caller closes. Returns 0, EEXIST (it has one already) or the reason why not. */
int nodes_register(struct nodes *nodes, uint64_t id, int fd, int to_close[2]);

/* Take the backing file back, at once when idle, else at its last release. */
void nodes_retire(struct nodes *nodes, uint64_t id, int *to_close);

int nodes_last_error(struct nodes *nodes);

/* Copy all registered nodes to a new array (free() it); NULL when out of memory. */
struct node *nodes_snapshot(struct nodes *nodes, size_t *count, struct node_counters *counters);

#endif
