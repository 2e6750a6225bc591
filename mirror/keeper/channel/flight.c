/* Requests in flight; see flight.h. */
#include "flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "protocol.h"

#define FIRST_CAPACITY 1024 /* more than a mount has waiting in all but the strangest moments */

static size_t home(const struct flight *flight, uint64_t unique)
{
    /* Uniques count up in steps of 2: the multiplication spreads them over the upper bits. */
    return (size_t)((unique * 0x9E3779B97F4A7C15ULL) >> 32) & (flight->capacity - 1);
}

int flight_init(struct flight *flight)
{
    flight->slots = calloc(FIRST_CAPACITY, sizeof *flight->slots);
    if (flight->slots == NULL)
        return ENOMEM;
    flight->capacity = FIRST_CAPACITY;
    flight->count = flight->opens = 0;
    flight->flow = FLOW_HELD;
    int error = pthread_mutex_init(&flight->lock, NULL);
    if (error != 0)
        free(flight->slots);
    return error;
}

void flight_destroy(struct flight *flight)
{
    pthread_mutex_destroy(&flight->lock);
    free(flight->slots);
}

/* Slot of `unique`, or the free slot where it would go. */
static size_t slot_of(const struct flight *flight, uint64_t unique)
{
    size_t at = home(flight, unique);
    while (flight->slots[at].unique != 0 && flight->slots[at].unique != unique)
        at = (at + 1) & (flight->capacity - 1);
    return at;
}

static int grow(struct flight *flight)
{
    struct request *old = flight->slots;
    size_t old_capacity = flight->capacity;
    struct request *slots = calloc(old_capacity * 2, sizeof *slots);
    if (slots == NULL)
        return ENOMEM;
    flight->slots = slots;
    flight->capacity = old_capacity * 2;
    for (size_t i = 0; i < old_capacity; i++)
        if (old[i].unique != 0)
            slots[slot_of(flight, old[i].unique)] = old[i];
    free(old);
    return 0;
}

/* Free a slot and close the gap in its probe chain. */
static void vacate(struct flight *flight, size_t gap)
{
    size_t mask = flight->capacity - 1;
    flight->opens -= flight->slots[gap].opcode == FUSE_OPEN;
    for (size_t at = (gap + 1) & mask; flight->slots[at].unique != 0; at = (at + 1) & mask) {
        size_t wanted = home(flight, flight->slots[at].unique);
        if (((at - wanted) & mask) >= ((at - gap) & mask)) {
            flight->slots[gap] = flight->slots[at];
            gap = at;
        }
    }
    flight->slots[gap].unique = 0;
    flight->count--;
}

int flight_add(struct flight *flight, const struct request *request, enum flow *flow)
{
    int error = 0;
    pthread_mutex_lock(&flight->lock);
    *flow = flight->flow;
    if (flight->flow != FLOW_REFUSED) {
        if (flight->count * 2 >= flight->capacity)
            error = grow(flight);
        if (error == 0) {
            size_t at = slot_of(flight, request->unique);
            const struct request *before = &flight->slots[at];
            flight->count += before->unique == 0;
            flight->opens -= before->unique != 0 && before->opcode == FUSE_OPEN;
            flight->opens += request->opcode == FUSE_OPEN;
            flight->slots[at] = *request;
        }
    }
    pthread_mutex_unlock(&flight->lock);
    return error;
}

bool flight_take(struct flight *flight, uint64_t unique, struct request *out)
{
    pthread_mutex_lock(&flight->lock);
    size_t at = slot_of(flight, unique);
    bool found = unique != 0 && flight->slots[at].unique == unique;
    if (found) {
        if (out != NULL)
            *out = flight->slots[at];
        vacate(flight, at);
    }
    pthread_mutex_unlock(&flight->lock);
    return found;
}

bool flight_find(struct flight *flight, uint64_t unique, struct request *out)
{
    pthread_mutex_lock(&flight->lock);
    size_t at = slot_of(flight, unique);
    bool found = unique != 0 && flight->slots[at].unique == unique;
    if (found)
        *out = flight->slots[at];
    pthread_mutex_unlock(&flight->lock);
    return found;
}

bool flight_opens(struct flight *flight, uint64_t node)
{
    bool found = false;
    pthread_mutex_lock(&flight->lock);
    for (size_t i = 0; flight->opens > 0 && !found && i < flight->capacity; i++) {
        const struct request *request = &flight->slots[i];
        found = request->unique != 0 && request->opcode == FUSE_OPEN && request->node == node;
    }
    pthread_mutex_unlock(&flight->lock);
    return found;
}

bool flight_take_any(struct flight *flight, struct request *out)
{
    bool found = false;
    pthread_mutex_lock(&flight->lock);
    for (size_t i = 0; flight->count > 0 && !found && i < flight->capacity; i++) {
        if (flight->slots[i].unique != 0) {
            *out = flight->slots[i];
            vacate(flight, i);
            found = true;
        }
    }
    pthread_mutex_unlock(&flight->lock);
    return found;
}

void flight_set_flow(struct flight *flight, enum flow flow, bool clear)
{
    pthread_mutex_lock(&flight->lock);
    /* Refusing is final: a take-over that races with the end must not open the flow again. */
    if (flight->flow != FLOW_REFUSED)
        flight->flow = flow;
    if (clear) {
        memset(flight->slots, 0, flight->capacity * sizeof *flight->slots);
        flight->count = flight->opens = 0;
    }
    pthread_mutex_unlock(&flight->lock);
}

enum flow flight_flow(struct flight *flight)
{
    pthread_mutex_lock(&flight->lock);
    enum flow flow = flight->flow;
    pthread_mutex_unlock(&flight->lock);
    return flow;
}

size_t flight_count(struct flight *flight)
{
    pthread_mutex_lock(&flight->lock);
    size_t count = flight->count;
    pthread_mutex_unlock(&flight->lock);
    return count;
}
