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

/* Forget a node that has neither handles nor a backing file. */
static void drop_if_empty(struct nodes *nodes, uint32_t at)
{
    struct node *node = &nodes->slots[at];
    if (node->backing_id != 0 || node->cached != 0 || node->passthrough != 0)
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

/* Take the backing id of a node from the kernel; it must not be in use by a passthrough handle. */
static int unregister(struct nodes *nodes, uint32_t at)
{
    struct node *node = &nodes->slots[at];
    int fd = node->fd;
    idle_remove(nodes, at);
    /* The kernel can only refuse an id that it does not know: there is nothing left to do then. */
    nodes->backing.close(nodes->backing.context, node->backing_id);
    node->backing_id = 0;
    node->fd = NO_FD;
    node->retiring = false;
    nodes->registered--;
    drop_if_empty(nodes, at);
    return fd;
}

int nodes_init(struct nodes *nodes, struct backing_ops backing, uint32_t limit)
{
    *nodes = (struct nodes){.backing = backing, .limit = limit, .capacity = FIRST_CAPACITY,
                            .free = NO_NODE, .oldest = NO_NODE, .newest = NO_NODE};
    nodes->slots = malloc(FIRST_CAPACITY * sizeof *nodes->slots);
    nodes->buckets = malloc(FIRST_CAPACITY * sizeof *nodes->buckets);
    int error = nodes->slots == NULL || nodes->buckets == NULL ? ENOMEM : 0;
    if (error == 0) {
        memset(nodes->buckets, 0xff, FIRST_CAPACITY * sizeof *nodes->buckets);
        error = pthread_mutex_init(&nodes->lock, NULL);
    }
    if (error != 0) {
        free(nodes->slots);
        free(nodes->buckets);
    }
    return error;
}

void nodes_destroy(struct nodes *nodes)
{
    for (uint32_t bucket = 0; bucket < nodes->capacity; bucket++)
        for (uint32_t at = nodes->buckets[bucket]; at != NO_NODE; at = nodes->slots[at].next)
            if (nodes->slots[at].fd != NO_FD)
                close(nodes->slots[at].fd);
    pthread_mutex_destroy(&nodes->lock);
    free(nodes->slots);
    free(nodes->buckets);
}

void nodes_enable(struct nodes *nodes, bool enabled)
{
    pthread_mutex_lock(&nodes->lock);
    nodes->enabled = enabled;
    pthread_mutex_unlock(&nodes->lock);
}

enum open_answer nodes_open(struct nodes *nodes, uint64_t id, enum opener opener, int32_t *backing_id)
{
    enum open_answer answer = OPEN_ASK;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    if (at != NO_NODE && nodes->slots[at].backing_id != 0 && nodes->slots[at].cached == 0) {
        struct node *node = &nodes->slots[at];
        struct timespec now;
        clock_gettime(CLOCK_REALTIME_COARSE, &now);
        node->opened_at = (uint64_t)now.tv_sec;
        if (node->passthrough++ == 0)
            idle_remove(nodes, at);
        *backing_id = node->backing_id;
        if (opener == OPENER_KEEPER)
            nodes->counters.opens_by_keeper++;
        else
            nodes->counters.opens_by_reply++;
        answer = OPEN_PASSTHROUGH;
    } else if (opener == OPENER_REPLY) {
        /* Out of memory leaves the handle uncounted: passthrough must then never start beside it. */
        if (at == NO_NODE)
            at = obtain(nodes, id);
        if (at != NO_NODE)
            nodes->slots[at].cached++;
        else
            nodes->enabled = false;
        nodes->counters.opens_cached++;
        answer = OPEN_CACHED;
    }
    pthread_mutex_unlock(&nodes->lock);
    return answer;
}

bool nodes_release(struct nodes *nodes, uint64_t id, int *to_close)
{
    bool passthrough = false;
    *to_close = NO_FD;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    if (at != NO_NODE) {
        struct node *node = &nodes->slots[at];
        if (node->passthrough > 0) {
            passthrough = true;
            if (--node->passthrough == 0) {
                idle_append(nodes, at);
                if (node->retiring) {
                    nodes->counters.retired++;
                    *to_close = unregister(nodes, at);
                }
            }
        } else if (node->cached > 0) {
            node->cached--;
            drop_if_empty(nodes, at);
        }
    }
    pthread_mutex_unlock(&nodes->lock);
    return passthrough;
}

int nodes_register(struct nodes *nodes, uint64_t id, int fd, int to_close[2])
{
    int error = 0;
    to_close[0] = fd;
    to_close[1] = NO_FD;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    if (at != NO_NODE && nodes->slots[at].backing_id != 0) {
        error = EEXIST;
    } else if (!nodes->enabled) {
        error = EOPNOTSUPP;
    } else {
        if (nodes->registered >= nodes->limit && nodes->oldest != NO_NODE) {
            nodes->counters.budget_retired++;
            to_close[1] = unregister(nodes, nodes->oldest);
        }
        int backing_id = 0;
        if (nodes->registered >= nodes->limit) {
            nodes->counters.over_budget++;
            error = EMFILE;
        } else if ((at = obtain(nodes, id)) == NO_NODE) {
            error = ENOMEM;
        } else if ((backing_id = nodes->backing.open(nodes->backing.context, fd)) <= 0) {
            error = backing_id == 0 ? EIO : -backing_id;
            nodes->last_error = error;
            nodes->counters.failed++;
            drop_if_empty(nodes, at);
        } else {
            nodes->slots[at].backing_id = backing_id;
            nodes->slots[at].fd = fd;
            to_close[0] = NO_FD;
            nodes->registered++;
            nodes->counters.registered++;
            idle_append(nodes, at);
        }
    }
    pthread_mutex_unlock(&nodes->lock);
    return error;
}

void nodes_retire(struct nodes *nodes, uint64_t id, int *to_close)
{
    *to_close = NO_FD;
    pthread_mutex_lock(&nodes->lock);
    uint32_t at = find(nodes, id);
    if (at != NO_NODE && nodes->slots[at].backing_id != 0) {
        if (nodes->slots[at].passthrough == 0) {
            nodes->counters.retired++;
            *to_close = unregister(nodes, at);
        } else {
            nodes->slots[at].retiring = true;
        }
    }
    pthread_mutex_unlock(&nodes->lock);
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
    struct node *copy = malloc((nodes->registered + 1) * sizeof *copy);
    *count = 0;
    *counters = nodes->counters;
    if (copy != NULL)
        for (uint32_t bucket = 0; bucket < nodes->capacity; bucket++)
            for (uint32_t at = nodes->buckets[bucket]; at != NO_NODE; at = nodes->slots[at].next)
                if (nodes->slots[at].backing_id != 0)
                    copy[(*count)++] = nodes->slots[at];
    pthread_mutex_unlock(&nodes->lock);
    return copy;
}
