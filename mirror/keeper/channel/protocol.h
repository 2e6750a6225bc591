/* The part of the kernel's FUSE protocol that the channel reads and writes.
 *
 * <linux/fuse.h> of a long-lived distribution is older than passthrough (7.40) and resend (7.40), so
 * what is newer than 7.38 is spelled here, and the few structures that grew have names of our own:
 * the channel then builds and behaves the same whatever the installed header knows.
 */
#ifndef MIRROR_PROTOCOL_H
#define MIRROR_PROTOCOL_H

#include <linux/fuse.h>
#include <stdint.h>
#include <sys/ioctl.h>

#ifndef FUSE_DIRECT_IO_ALLOW_MMAP
#define FUSE_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#endif
#ifndef FUSE_PASSTHROUGH
#define FUSE_PASSTHROUGH (1ULL << 37)
#endif
#ifndef FUSE_HAS_RESEND
#define FUSE_HAS_RESEND (1ULL << 39)
#endif
#ifndef FUSE_OVER_IO_URING
#define FUSE_OVER_IO_URING (1ULL << 41)
#endif
#ifndef FOPEN_PASSTHROUGH
#define FOPEN_PASSTHROUGH (1 << 7)
#endif

/* An enumerator in newer headers, which the preprocessor cannot ask for. */
#define NOTIFY_RESEND 7

/* Not the kernel's: a worker's mark among its notifications. Far from any code that the kernel may get. */
#define NOTIFY_MARK 0x4d41524b

struct notify_mark {
    uint64_t number;
};

/* Set in `unique` of a request that the kernel sends again after NOTIFY_RESEND. */
#define UNIQUE_RESENT (1ULL << 63)

struct init_out {
    uint32_t major;
    uint32_t minor;
    uint32_t max_readahead;
    uint32_t flags;
    uint16_t max_background;
    uint16_t congestion_threshold;
    uint32_t max_write;
    uint32_t time_gran;
    uint16_t max_pages;
    uint16_t map_alignment;
    uint32_t flags2;
    uint32_t max_stack_depth;
    uint32_t unused[6];
};
_Static_assert(sizeof(struct init_out) == 64, "the kernel's fuse_init_out has 64 bytes");

struct open_out {
    uint64_t fh;
    uint32_t open_flags;
    int32_t backing_id;
};
_Static_assert(sizeof(struct open_out) == 16, "the kernel's fuse_open_out has 16 bytes");

struct backing_map {
    int32_t fd;
    uint32_t flags;
    uint64_t padding;
};

#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

#endif
