/* Nodes and the open rule; see nodes.h. */
#include "nodes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define FIRST_CAPACITY 1024

static uint32_t bucket_of(const struct nodes *nodes, uint64_t id)
{
    return (uint32_t)((id * 0x9E3779B97F4A7C15ULL) >> 32) & (nodes->capacity - 1);
}

static uint32_t find(const struct nodes *nodes, uint64_t id)
{
    uint32_t at = nodes->buckets[bucket_of(nodes, id)];
    while (at != NO_NODE && nodes->slots[at].id != id)
        at = nodes->slots[at].next;
    return at;
}

static int grow(struct nodes *nodes)
{
    uint32_t capacity = nodes->capacity * 2;
    struct node *slots = realloc(nodes->slots, capacity * sizeof *slots);
    if (slots == NULL)
        return ENOMEM;
    nodes->slots = slots;
    uint32_t *buckets = malloc(capacity * sizeof *buckets);
    if (buckets == NULL)
        return ENOMEM;
    free(nodes->buckets);
    nodes->buckets = buckets;
    nodes->capacity = capacity;
    memset(buckets, 0xff, capacity * sizeof *buckets);
    /* Only called with an empty free list: every used slot holds a node. */
    for (uint32_t at = 0; at < nodes->used; at++) {
        uint32_t bucket = bucket_of(nodes, slots[at].id);
        slots[at].next = buckets[bucket];
        buckets[bucket] = at;
    }
    return 0;
}

/* The node's slot, made when new; NO_NODE when out of memory. */
static uint32_t obtain(struct nodes *nodes, uint64_t id)
{
    uint32_t at = find(nodes, id);
    if (at != NO_NODE)
        return at;
    if (nodes->free != NO_NODE) {
        at = nodes->free;
        nodes->free = nodes->slots[at].next;
    } else {
        if (nodes->used == nodes->capacity && grow(nodes) != 0)
            return NO_NODE;
        at = nodes->used++;
    }
    uint32_t bucket = bucket_of(nodes, id);
    nodes->slots[at] = (struct node){
        .id = id, .next = nodes->buckets[bucket], .older = NO_NODE, .newer = NO_NODE, .fd = NO_FD};
    nodes->buckets[bucket] = at;
    return at;
}

static bool has_handles(const struct node *node)
{
    return node->cached != 0 || node->passthrough != 0;
}

/* Forget a node that has neither handles nor a held file. */
static void drop_if_empty(struct nodes *nodes, uint32_t at)
{
    struct node *node = &nodes->slots[at];
    if (node->fd != NO_FD || has_handles(node))
        return;
    uint32_t *link = &nodes->buckets[bucket_of(nodes, node->id)];
    while (*link != at)
        link = &nodes->slots[*link].next;
    *link = node->next;
    node->next = nodes->free;
    nodes->free = at;
}

static void idle_append(struct nodes *nodes, uint32_t at)
{
    struct node *node = &nodes->slots[at];
    node->older = nodes->newest;
    node->newer = NO_NODE;
    if (nodes->newest != NO_NODE)
        nodes->slots[nodes->newest].newer = at;
    else
        nodes->oldest = at;
    nodes->newest = at;
}

static void idle_remove(struct nodes *nodes, uint32_t at)
{
    struct node *node = &nodes->slots[at];
    if (node->older != NO_NODE)
        nodes->slots[node->older].newer = node->newer;
    else
        nodes->oldest = node->newer;
    if (node->newer != NO_NODE)
        nodes->slots[node->newer].older = node->older;
    else
        nodes->newest = node->older;
}

/* Let go of the file of an idle node; the caller closes the descriptor. */
static int let_go(struct nodes *nodes, uint32_t at)
{
    struct node *node = &nodes->slots[at];
    int fd = node->fd;
    idle_remove(nodes, at);
    if (node->backing_id != 0) {
        /* The kernel can only refuse an id that it does not know: there is nothing left to do then. */
        nodes->backing.close(nodes->backing.context, node->backing_id);
        node->backing_id = 0;
        nodes->registered--;
    }
    node->fd = NO_FD;
    node->retiring = false;
    nodes->held--;
    drop_if_empty(nodes, at);
    return fd;
}

static void free_all(struct nodes *nodes)
{
    free(nodes->slots);
    free(nodes->buckets);
    free(nodes->opened);
    free(nodes->opened_spare);
}

int nodes_init(struct nodes *nodes, struct backing_ops backing, uint32_t limit)
{
    *nodes = (struct nodes){.backing = backing, .limit = limit, .capacity = FIRST_CAPACITY,
                            .free = NO_NODE, .oldest = NO_NODE, .newest = NO_NODE, .interval = 1};
    nodes->slots = malloc(FIRST_CAPACITY * sizeof *nodes->slots);
    nodes->buckets = malloc(FIRST_CAPACITY * sizeof *nodes->buckets);
    nodes->opened = malloc(OPENED_MAX * sizeof *nodes->opened);
    nodes->opened_spare = malloc(OPENED_MAX * sizeof *nodes->opened_spare);
    bool made = nodes->slots != NULL && nodes->buckets != NULL && nodes->opened != NULL &&
                nodes->opened_spare != NULL;
    int error = made ? 0 : ENOMEM;
    if (error == 0) {
        memset(nodes->buckets, 0xff, FIRST_CAPACITY * sizeof *nodes->buckets);
        error = pthread_mutex_init(&nodes->lock, NULL);
    }
    if (error != 0)
        free_all(nodes);
    return error;
}

void nodes_destroy(struct nodes *nodes)
{
    for (uint32_t bucket = 0; bucket < nodes->capacity; bucket++)
        for (uint32_t at = nodes->buckets[bucket]; at != NO_NODE; at = nodes->slots[at].next)
            if (nodes->slots[at].fd != NO_FD)
                close(nodes->slots[at].fd);
    pthread_mutex_destroy(&nodes->lock);
    free_all(nodes);
}

void nodes_enable(struct nodes *nodes, bool enabled)
{
    pthread_mutex_lock(&nodes->lock);
    nodes->enabled = enabled;
    pthread_mutex_unlock(&nodes->lock);
}

/* Note an open that the worker does not see. Part of every open of a complete file: it must not wait,
 * allocate or ask the system for anything. */
static void note_open(struct nodes *nodes, struct node *node)
{
    if (node->noted == nodes->interval)
        return;
    node->noted = nodes->interval;
    if (nodes->opened_count < OPENED_MAX)
        nodes->opened[nodes->opened_count++] = (struct opened){.node = node->id, .at = node->opened_at};
    else
        nodes->counters.opens_dropped++;
}

static void open_passthrough(struct nodes *nodes, uint32_t at, enum opener opener)
{
    struct node *node = &nodes->slots[at];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    node->opened_at = (uint64_t)now.tv_sec;
    if (node->passthrough++ == 0)
        idle_remove(nodes, at);
    if (opener == OPENER_KEEPER) {
        nodes->counters.opens_by_keeper++;
        note_open(nodes, node);
    } else {
        nodes->counters.opens_by_reply++;
    }
}

enum open_answer nodes_open(struct nodes *nodes, uint64_t id, enum opener opener, int32_t *backing_id)
{
    enum open_answer answer = OPEN_ASK;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    if (at != NO_NODE && nodes->slots[at].backing_id != 0 && nodes->slots[at].cached == 0) {
        open_passthrough(nodes, at, opener);
        *backing_id = nodes->slots[at].backing_id;
        answer = OPEN_PASSTHROUGH;
    } else if (opener == OPENER_REPLY) {
        if (at == NO_NODE)
            at = obtain(nodes, id);
        if (at == NO_NODE) {
            answer = OPEN_REFUSED;
        } else {
            struct node *node = &nodes->slots[at];
            if (node->cached++ == 0 && node->fd != NO_FD)
                idle_remove(nodes, at);
            nodes->counters.opens_cached++;
            answer = OPEN_CACHED;
        }
    }
    pthread_mutex_unlock(&nodes->lock);
    return answer;
}

/* The last handle is gone; returns a descriptor to close, or NO_FD. */
static int become_idle(struct nodes *nodes, uint32_t at)
{
    if (nodes->slots[at].fd == NO_FD) {
        drop_if_empty(nodes, at);
        return NO_FD;
    }
    idle_append(nodes, at);
    if (!nodes->slots[at].retiring)
        return NO_FD;
    nodes->counters.retired++;
    return let_go(nodes, at);
}

bool nodes_release(struct nodes *nodes, uint64_t id, int *to_close)
{
    bool passthrough = false;
    *to_close = NO_FD;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    if (at != NO_NODE && has_handles(&nodes->slots[at])) {
        struct node *node = &nodes->slots[at];
        passthrough = node->passthrough > 0;
        if (passthrough)
            node->passthrough--;
        else
            node->cached--;
        if (!has_handles(node))
            *to_close = become_idle(nodes, at);
    }
    pthread_mutex_unlock(&nodes->lock);
    return passthrough;
}

/* Make sure that one more file may be held. Returns 0 or EMFILE. */
static int make_room(struct nodes *nodes, int *to_close)
{
    if (nodes->held >= nodes->limit && nodes->oldest != NO_NODE) {
        nodes->counters.budget_retired++;
        *to_close = let_go(nodes, nodes->oldest);
    }
    if (nodes->held < nodes->limit)
        return 0;
    nodes->counters.over_budget++;
    return EMFILE;
}

/* Give a held file to the kernel. Returns 0 or the reason why not. */
static int give_to_kernel(struct nodes *nodes, struct node *node)
{
    if (!nodes->enabled)
        return EOPNOTSUPP;
    int backing_id = nodes->backing.open(nodes->backing.context, node->fd);
    if (backing_id <= 0) {
        nodes->last_error = backing_id == 0 ? EIO : -backing_id;
        nodes->counters.failed++;
        return nodes->last_error;
    }
    node->backing_id = backing_id;
    nodes->registered++;
    nodes->counters.registered++;
    return 0;
}

/* Hold a file for the node in the slot; returns the one that it takes the place of, or NO_FD. */
static int hold(struct nodes *nodes, uint32_t at, int fd)
{
    struct node *node = &nodes->slots[at];
    int before = node->fd;
    node->fd = fd;
    node->retiring = false; /* that was said of the file before */
    if (before == NO_FD) {
        nodes->held++;
        if (!has_handles(node))
            idle_append(nodes, at);
    }
    return before;
}

int nodes_register(struct nodes *nodes, uint64_t id, int fd, int to_close[2])
{
    int error = 0;
    to_close[0] = fd;
    to_close[1] = NO_FD;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    bool held = at != NO_NODE && nodes->slots[at].fd != NO_FD;
    if (held && nodes->slots[at].backing_id != 0)
        error = EEXIST;
    else if (!held)
        error = make_room(nodes, &to_close[1]);
    if (error == 0 && (at = obtain(nodes, id)) == NO_NODE)
        error = ENOMEM;
    if (error == 0) {
        to_close[0] = hold(nodes, at, fd);
        error = give_to_kernel(nodes, &nodes->slots[at]);
    }
    pthread_mutex_unlock(&nodes->lock);
    return error;
}

void nodes_retire(struct nodes *nodes, uint64_t id, int *to_close)
{
    *to_close = NO_FD;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    if (at != NO_NODE && nodes->slots[at].fd != NO_FD) {
        if (has_handles(&nodes->slots[at])) {
            nodes->slots[at].retiring = true;
        } else {
            nodes->counters.retired++;
            *to_close = let_go(nodes, at);
        }
    }
    pthread_mutex_unlock(&nodes->lock);
}

bool nodes_yield(struct nodes *nodes, uint64_t id, int *to_close)
{
    *to_close = NO_FD;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    bool free_to_go = at == NO_NODE || !has_handles(&nodes->slots[at]);
    /* A node that is known and has no handles holds a file. */
    if (at != NO_NODE && free_to_go) {
        nodes->counters.yielded++;
        *to_close = let_go(nodes, at);
    }
    pthread_mutex_unlock(&nodes->lock);
    return free_to_go;
}

size_t nodes_take_opens(struct nodes *nodes, const struct opened **opened)
{
    pthread_mutex_lock(&nodes->lock);
    struct opened *taken = nodes->opened;
    size_t count = nodes->opened_count;
    nodes->opened = nodes->opened_spare;
    nodes->opened_spare = taken;
    nodes->opened_count = 0;
    nodes->interval++;
    pthread_mutex_unlock(&nodes->lock);
    *opened = taken;
    return count;
}

int nodes_last_error(struct nodes *nodes)
{
    pthread_mutex_lock(&nodes->lock);
    int error = nodes->last_error;
    pthread_mutex_unlock(&nodes->lock);
    return error;
}

struct node *nodes_snapshot(struct nodes *nodes, size_t *count, struct node_counters *counters)
{
    pthread_mutex_lock(&nodes->lock);
    struct node *copy = malloc((nodes->held + 1) * sizeof *copy);
    *count = 0;
    *counters = nodes->counters;
    if (copy != NULL)
        for (uint32_t bucket = 0; bucket < nodes->capacity; bucket++)
            for (uint32_t at = nodes->buckets[bucket]; at != NO_NODE; at = nodes->slots[at].next)
                if (nodes->slots[at].fd != NO_FD)
                    copy[(*count)++] = nodes->slots[at];
    pthread_mutex_unlock(&nodes->lock);
    return copy;
}
