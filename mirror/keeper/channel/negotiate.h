/* What kernel and worker agree on in INIT, and what the keeper makes of it.
 *
 * The worker's library neither knows passthrough nor that its messages go through a socket: so the
 * worker is offered less than the kernel offers, and the kernel is answered more than the worker
 * answered. Pure functions over message bytes.
 */
#ifndef MIRROR_NEGOTIATE_H
#define MIRROR_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* header + fuse_init_in; older kernels send a shorter one */
#define INIT_REQUEST_MAX 104
/* header + init_out */
#define INIT_REPLY_MAX 80

struct wishes {
    bool passthrough;
    uint32_t max_stack_depth; /* 1, or 2 for backing files on overlayfs */
    uint16_t max_pages;       /* what a message through the socket can hold */
};

struct agreement {
    bool passthrough;
    bool resend;
};

/* What the kernel offers to send again after a worker's death; known before any reply. */
bool init_offers_resend(const unsigned char *request, size_t length);

/* Take from the request in place what the worker must not accept. */
void init_for_worker(unsigned char *request, size_t length);

/* Whether a reply is one that a connection can live with. */
bool init_reply_is_sane(const unsigned char *reply, size_t length);

/* Build the reply for the kernel from the worker's. `out` has INIT_REPLY_MAX bytes. Returns its length. */
size_t init_for_kernel(const unsigned char *request, size_t request_length, const unsigned char *reply,
                       size_t reply_length, const struct wishes *wishes, unsigned char *out,
                       struct agreement *agreement);

#endif
