/* A job: what it asks for, how far it is, and what came of it. See mirror/http/_wire.c. */
#ifndef MIRROR_JOB_H
#define MIRROR_JOB_H

#include "types.h"

#include <stdint.h>

/* Bytes taken from a socket at once before it is known how many are worth it. */
enum { SCRATCH = 256 * 1024 };

typedef struct job {
    PyObject_HEAD
    PyObject *token;   /* the caller's */
    PyObject *request; /* bytes; NULL for a job that only receives */
    Tls *tls;          /* NULL: it is sent and received as it is */
    bool shakes;       /* it agrees on keys, and nothing else */
    bool at_once;      /* it may go on although the socket has nothing yet */
    struct job *next, *previous; /* among those under way, then among those that are done */
    bool cancelled;    /* guarded by the lock */
    int fd;
    size_t sent;
    size_t most;      /* most bytes of body; of a job that only receives, most bytes */
    size_t least;     /* of such a one, bytes that it waits for a little; 0: any will do */
    int64_t until;    /* monotonic, when the rest of its body is waited for no longer; 0: it has not begun */
    int worth;        /* what its socket was told of job_worth; 0: nothing, any byte will do */
    bool finished;
    /* the result */
    char *data;
    size_t size, room;
    size_t head;      /* bytes of the whole head, 0: it is not here, or none was asked for */
    size_t looked;    /* bytes without the end of a head */
    size_t wanted;    /* bytes in all, once the head is there */
    bool whole;       /* they are all of the body */
    int error;        /* errno; 0: bytes came, or the end did */
} Job;

/* Send what can be without waiting; false: the connection broke. */
bool job_send(Job *job);

/* Go on with a job as far as it goes without waiting; true: it is finished. scratch is room for SCRATCH bytes
 * twice. */
bool job_step(Job *job, char *scratch);

/* What its socket has to be ready for before it can go on, as epoll has it. */
uint32_t job_awaits(const Job *job);

/* Bytes that its socket should have before it says so. */
int job_worth(const Job *job);

/* Monotonic. */
int64_t now_ns(void);

#endif
