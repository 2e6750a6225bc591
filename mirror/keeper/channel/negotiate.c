/* INIT; see negotiate.h. */
#include "negotiate.h"

#include <string.h>

#include "protocol.h"

#define HEADER_IN sizeof(struct fuse_in_header)
#define HEADER_OUT sizeof(struct fuse_out_header)

/* Readahead arrives as background requests, RELEASE too: the kernel's default of 12 lets a few
 * stalled reads hold up everything that runs ahead. */
#define MAX_BACKGROUND 64
#define CONGESTION 48

_Static_assert(HEADER_IN + sizeof(struct fuse_init_in) == INIT_REQUEST_MAX, "fuse_init_in has 64 bytes");
_Static_assert(HEADER_OUT + sizeof(struct init_out) == INIT_REPLY_MAX, "init_out has 64 bytes");

static struct fuse_init_in parse(const unsigned char *request, size_t length)
{
    struct fuse_init_in init = {0};
    size_t body = length > HEADER_IN ? length - HEADER_IN : 0;
    memcpy(&init, request + HEADER_IN, body < sizeof init ? body : sizeof init);
    return init;
}

static uint64_t offered(const struct fuse_init_in *init)
{
    uint64_t flags = init->flags;
    if (flags & FUSE_INIT_EXT)
        flags |= (uint64_t)init->flags2 << 32;
    return flags;
}

bool init_offers_resend(const unsigned char *request, size_t length)
{
    struct fuse_init_in init = parse(request, length);
    return (offered(&init) & FUSE_HAS_RESEND) != 0;
}

void init_for_worker(unsigned char *request, size_t length)
{
    struct fuse_init_in init = parse(request, length);
    /* Writeback cache switches passthrough off. Without OPEN messages (NO_OPEN) there is no passthrough.
     * Splicing is for pipes and /dev/fuse, not for the worker's socket; io_uring would pass us by. */
    init.flags &= ~(uint32_t)(FUSE_WRITEBACK_CACHE | FUSE_NO_OPEN_SUPPORT | FUSE_SPLICE_WRITE |
                              FUSE_SPLICE_MOVE | FUSE_SPLICE_READ);
    init.flags2 &= ~(uint32_t)((FUSE_OVER_IO_URING | FUSE_PASSTHROUGH | FUSE_HAS_RESEND) >> 32);
    size_t body = length > HEADER_IN ? length - HEADER_IN : 0;
    memcpy(request + HEADER_IN, &init, body < sizeof init ? body : sizeof init);
}

bool init_reply_is_sane(const unsigned char *reply, size_t length)
{
    struct fuse_out_header header;
    uint32_t major;
    if (length < HEADER_OUT + sizeof major)
        return false;
    memcpy(&header, reply, sizeof header);
    memcpy(&major, reply + HEADER_OUT, sizeof major);
    return header.error == 0 && major == FUSE_KERNEL_VERSION;
}

size_t init_for_kernel(const unsigned char *request, size_t request_length, const unsigned char *reply,
                       size_t reply_length, const struct wishes *wishes, unsigned char *out,
                       struct agreement *agreement)
{
    struct fuse_init_in init = parse(request, request_length);
    uint64_t can = offered(&init);
    struct fuse_out_header header;
    struct init_out answer = {0};
    memcpy(&header, reply, sizeof header);
    size_t body = reply_length - HEADER_OUT;
    memcpy(&answer, reply + HEADER_OUT, body < sizeof answer ? body : sizeof answer);

    *agreement = (struct agreement){0};
    uint64_t flags = answer.flags;
    if (flags & FUSE_INIT_EXT)
        flags |= (uint64_t)answer.flags2 << 32;
    flags &= ~(uint64_t)(FUSE_WRITEBACK_CACHE | FUSE_PASSTHROUGH | FUSE_OVER_IO_URING);
    if (can & FUSE_INIT_EXT) {
        flags |= FUSE_INIT_EXT;
        if (can & FUSE_HAS_RESEND) {
            flags |= FUSE_HAS_RESEND;
            agreement->resend = true;
        }
        if (wishes->passthrough && (can & FUSE_PASSTHROUGH)) {
            flags |= FUSE_PASSTHROUGH | (can & FUSE_DIRECT_IO_ALLOW_MMAP);
            answer.max_stack_depth = wishes->max_stack_depth;
            agreement->passthrough = true;
        }
    }
    if ((flags & FUSE_MAX_PAGES) == 0 && (can & FUSE_MAX_PAGES)) {
        flags |= FUSE_MAX_PAGES;
        answer.max_pages = wishes->max_pages;
    }
    if (answer.max_pages > wishes->max_pages)
        answer.max_pages = wishes->max_pages;
    if (answer.max_background == 0) {
        answer.max_background = MAX_BACKGROUND;
        answer.congestion_threshold = CONGESTION;
    }
    answer.flags = (uint32_t)flags;
    answer.flags2 = (uint32_t)(flags >> 32);

    header.len = INIT_REPLY_MAX;
    memcpy(out, &header, sizeof header);
    memcpy(out + sizeof header, &answer, sizeof answer);
    return INIT_REPLY_MAX;
}
