/* Files that reads may refer to: instead of bytes the worker answers "so many bytes from there".
 *
 * The table is one worker's and goes with it. A source is known by its node and a number that the
 * worker never uses twice, and a reference names both: so a reference that was made before a node got
 * another file can never be resolved in the new one, whose bytes may not be there yet.
 *
 * Sources come over the control socket and references over the FUSE socket, so one that is taken back
 * may still be named by replies that wait. It therefore only begins to leave, and is closed once the
 * FUSE socket was seen empty after that. Used by the up thread alone.
 */
#ifndef MIRROR_SOURCES_H
#define MIRROR_SOURCES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slow.h"

#define SOURCES_MAX 256     /* offered at once; the one used longest ago makes room */
#define SOURCES_LEAVING 64  /* taken back and not closed yet; more are closed at once */

struct source {
    uint64_t node;
    uint64_t used_at;  /* the table's clock at its last use */
    uint32_t number;
    int fd;            /* read-only, the cache's */
    bool leaving;
};

struct sources {
    struct slow *slow; /* closes descriptors */
    struct source slots[SOURCES_MAX + SOURCES_LEAVING]; /* the first `count` are in use */
    size_t count;
    size_t leaving;
    uint64_t clock;
};

/* Offer a file for a node, in place of the one it has; takes the descriptor. */
void sources_offer(struct sources *sources, uint64_t node, uint32_t number, int fd);

/* The descriptor that a reference names, the table's own, or -1. */
int sources_find(struct sources *sources, uint64_t node, uint32_t number);

/* Take a node's source back. */
void sources_forget(struct sources *sources, uint64_t node);

/* Whether the node has a source that was not taken back. */
bool sources_offers(const struct sources *sources, uint64_t node);

/* A descriptor of the node that is leaving, for the caller to close, or -1: to be asked until then. Only
 * for a node without open handles, to which no reply can refer any more. */
int sources_pull(struct sources *sources, uint64_t node);

/* All replies that were sent before now have been handled: close what is leaving. */
void sources_settle(struct sources *sources);

/* Close all of them: their worker is gone. */
void sources_clear(struct sources *sources);

#endif
