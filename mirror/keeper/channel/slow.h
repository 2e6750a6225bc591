/* What may wait in the kernel, done by a thread that nobody waits for.
 *
 * An invalidation waits for a page or folder whose holder may wait for a reply of ours; closing the
 * last descriptor of a large unlinked file frees its blocks first. Either would stall every reader if
 * the thread that writes replies did it. The queue is bounded: a descriptor that finds its part of it full
 * is closed on the spot. A notification finds room, or what it takes back would stay: a worker marks how far
 * it is (NOTIFY_MARK) and waits until that is said to be reached, every 512 at least. */
#ifndef MIRROR_SLOW_H
#define MIRROR_SLOW_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHORE_MAX 320 /* out header, fuse_notify_inval_entry_out and a name of 255 bytes */
#define CHORES 4096
#define CLOSINGS 1024 /* closings find no room behind so much: the rest is for what several workers notify */

enum chore_kind {
    CHORE_CLOSE,
    CHORE_NOTIFY, /* bytes for the kernel */
    CHORE_SAY,    /* bytes for a socket */
};

struct chore {
    enum chore_kind kind;
    int fd; /* to close, or the socket */
    size_t length;
    unsigned char bytes[CHORE_MAX];
};

struct slow {
    pthread_mutex_t lock;
    pthread_cond_t more;
    pthread_t thread;
    bool running;
    bool ending;
    int fuse_fd;
    struct chore *ring;
    size_t first;
    size_t count;
    atomic_uint_fast64_t sent;
};

/* Returns 0 or an errno. */
int slow_init(struct slow *slow, int fuse_fd);
int slow_start(struct slow *slow);

/* Queue a notification for the kernel; false: it is too long, or more wait than may. */
bool slow_notify(struct slow *slow, const void *message, size_t length);

/* Send a short message to a socket once the kernel has got all notifications before it; as slow_notify(). */
bool slow_say(struct slow *slow, int socket, const void *message, size_t length);

/* Close a descriptor soon, whatever it is; -1 is ignored. */
void slow_close(struct slow *slow, int fd);

/* Close a descriptor of an object that was accepted; -1 is ignored. At once, while the object has its
 * name: that is quick, and a lock that came with the descriptor is gone for whoever wants to remove the
 * object next. One without a name nobody will lock any more, and freeing its blocks may take long: soon. */
void slow_let_go(struct slow *slow, int fd);

/* Drop what is queued, let the thread end, wait for it. */
void slow_stop(struct slow *slow);
void slow_destroy(struct slow *slow);

#endif
