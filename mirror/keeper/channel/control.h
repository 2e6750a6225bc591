/* Registrations and sources: what the worker asks of the keeper beside the FUSE messages.
 *
 * One fixed message per SOCK_SEQPACKET packet, never answered. A worker sends REGISTER before it
 * answers an OPEN, and the OPEN's reply is looked at only after this socket has been drained: so that
 * open already gets passthrough, without a round trip. In the same way SOURCE comes before the answers to
 * READs that refer to it.
 */
#ifndef MIRROR_CONTROL_H
#define MIRROR_CONTROL_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "nodes.h"
#include "slow.h"
#include "sources.h"

enum control_op {
    CONTROL_REGISTER = 1, /* with one descriptor by SCM_RIGHTS */
    CONTROL_RETIRE = 2,
    CONTROL_SOURCE = 3,        /* reads of the node may refer to this file; with one descriptor */
    CONTROL_FORGET_SOURCE = 4, /* no more references to it will be made */
};

struct control_message {
    uint32_t op;
    uint32_t number; /* of a source, never used twice by one worker; 0 elsewhere */
    uint64_t node;
};

struct control {
    struct nodes *nodes;
    struct slow *slow;
    struct sources *sources;
    dev_t device; /* where backing files and sources live */
    uid_t owner;  /* whom they belong to */
    atomic_uint_fast64_t refused; /* descriptors or messages that are not acceptable */
};

/* Handle everything that waits on the socket, without blocking. Returns 0, or -1 at its end. */
int control_drain(struct control *control, int socket);

/* Whether a descriptor may become a backing file or a source: a regular file, opened read-only, on the
 * cache's file system, ours. Reads of the mount are not checked against the file's own mode. */
int control_check(const struct control *control, int fd);

#endif
