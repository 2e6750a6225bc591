/* Requests in flight: what the kernel asked and the worker has not answered yet.
 *
 * A reply names only the `unique` of its request. The table says which of them are OPENs (the open
 * rule rewrites those), who waits (an interrupt is judged by the waiter's signals), and what a dead
 * worker left unanswered. A reply without an entry is stale and goes nowhere.
 */
#ifndef MIRROR_FLIGHT_H
#define MIRROR_FLIGHT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request {
    uint64_t unique; /* never 0 for a request: 0 marks a free slot */
    uint64_t node;
    uint32_t opcode;
    uint32_t task; /* thread id of the waiter in our pid namespace, 0: unknown */
};

/* Whether requests may go to the worker, decided under the table's lock so that an entry is either
 * forwarded to the worker that answers it, or seen by whoever clears the table. */
enum flow {
    FLOW_HELD,    /* no worker, or one that has not taken over yet: entries wait for the resend */
    FLOW_OPEN,    /* forwarded */
    FLOW_REFUSED, /* the channel is ending: nothing is added any more */
};

struct flight {
    pthread_mutex_t lock;
    struct request *slots; /* open addressing, linear probing, capacity a power of 2 */
    size_t capacity;
    size_t count;
    size_t opens; /* of these, OPENs */
    enum flow flow;
};

int flight_init(struct flight *flight);
void flight_destroy(struct flight *flight);

/* Add one request and say what to do with it. Returns 0 or ENOMEM. */
int flight_add(struct flight *flight, const struct request *request, enum flow *flow);

/* Remove the entry of `unique`; false when there is none. `out` may be NULL. */
bool flight_take(struct flight *flight, uint64_t unique, struct request *out);

/* Copy the entry of `unique` without removing it. */
bool flight_find(struct flight *flight, uint64_t unique, struct request *out);

/* Whether an OPEN of this node is in flight. Looks at all entries, but only when there is an OPEN at all. */
bool flight_opens(struct flight *flight, uint64_t node);

/* Remove any one entry; false when the table is empty. */
bool flight_take_any(struct flight *flight, struct request *out);

/* Change the flow; with `clear`, forget all entries in the same step. */
void flight_set_flow(struct flight *flight, enum flow flow, bool clear);

enum flow flight_flow(struct flight *flight);
size_t flight_count(struct flight *flight);

#endif
