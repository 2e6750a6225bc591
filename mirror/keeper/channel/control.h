/* Registrations, sources and names: what the worker asks of the keeper beside the FUSE messages.
 *
 * One message per SOCK_SEQPACKET packet, of a fixed form but for NAMES; only YIELD is answered. What the
 * worker hears beside that is TOLD: the kernel has got all notifications that came before a mark of this
 * number (NOTIFY_MARK).
 *
 * A worker sends REGISTER before it answers an OPEN, and the OPEN's reply is looked at only after this
 * socket has been drained: so that open already gets passthrough, without a round trip. In the same way
 * SOURCE comes before the answers to READs that refer to it.
 *
 * NAMES says what stands at names of a folder (names.h). This socket is drained before a notification that
 * takes a name back is looked at, too: so what was said before that is not kept.
 *
 * YIELD comes from a worker that wants to remove an object: let go of the node's file if nobody has it
 * open. The answer is the same message with `number` raised by one when it is busy; a worker may number
 * its questions, so that an answer that comes too late is not taken for another one. Not busy means: no
 * handle is open, no OPEN is on its way to the worker or back, and every descriptor of the file that was
 * here is closed. An OPEN that comes later goes to the worker.
 */
#ifndef MIRROR_CONTROL_H
#define MIRROR_CONTROL_H

#include <stdatomic.h>
#include <stdint.h>
#include <sys/types.h>

#include "flight.h"
#include "names.h"
#include "nodes.h"
#include "slow.h"
#include "sources.h"

enum control_op {
    CONTROL_REGISTER = 1, /* with one descriptor by SCM_RIGHTS */
    CONTROL_RETIRE = 2,
    CONTROL_SOURCE = 3,        /* reads of the node may refer to this file; with one descriptor */
    CONTROL_FORGET_SOURCE = 4, /* no more references to it will be made */
    CONTROL_YIELD = 5,         /* let the node's file go if nobody has it open, and say so */
    CONTROL_TOLD = 6,          /* to the worker: the kernel was told all before a mark */
    CONTROL_NAMES = 7,         /* answers for names in a folder follow, in the form of control_name */
};

struct control_message {
    uint32_t op;
    uint32_t number; /* SOURCE: never used twice by one worker. YIELD: even, in the answer + 1 when busy */
    uint64_t node; /* TOLD: the mark's number. NAMES: the folder */
};

/* Then the name, without a NUL, and the next one right behind it. */
struct control_name {
    struct fuse_entry_out entry;
    uint8_t length;
} __attribute__((packed));
_Static_assert(sizeof(struct control_name) == 129, "as the worker packs it (control.py)");

#define CONTROL_MAX 65536 /* bytes of a message */

struct control {
    struct flight *flight;
    struct nodes *nodes;
    struct slow *slow;
    struct sources *sources;
    struct names *names;
    dev_t device; /* where backing files and sources live */
    uid_t owner;  /* whom they belong to */
    uint64_t opening; /* node whose OPEN left the flight table and is not counted yet, or 0; up thread */
    atomic_uint_fast64_t refused; /* descriptors or messages that are not acceptable */
    atomic_uint_fast64_t busy;    /* YIELDs that were refused */
    atomic_uint_fast64_t unanswered; /* answers dropped, because the worker does not read them */
    unsigned char buffer[CONTROL_MAX]; /* the message at hand; up thread */
};

/* Handle everything that waits on the socket, without blocking. Returns 0, or -1 at its end. */
int control_drain(struct control *control, int socket);

/* Whether a descriptor may become a backing file or a source: a regular file, opened read-only, on the
 * cache's file system, ours. Reads of the mount are not checked against the file's own mode. */
int control_check(const struct control *control, int fd);

#endif
