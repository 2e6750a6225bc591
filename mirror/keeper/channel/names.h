/* Names that the worker expects to be looked up next, with the answers.
 *
 * Whoever walks a folder looks up one name after the other, and each look-up would wait for the worker. So
 * the worker says beforehand what stands at the names to come, and the down thread answers. An answer is
 * given once: from then on the kernel knows the name itself.
 *
 * It is the worker's promise as any answer of its own: what it takes back from the kernel
 * (FUSE_NOTIFY_INVAL_ENTRY) is taken out here first, and the kernel holds the folder while it looks up a
 * name, so what was answered in that moment is taken back from it after that. The table is one worker's and
 * goes with it; whoever was offered longest ago makes room.
 */
#ifndef MIRROR_NAMES_H
#define MIRROR_NAMES_H

#include <linux/fuse.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NAMES_MAX 1024
#define NAME_LENGTH 255

struct name {
    uint64_t folder;
    uint32_t next;  /* slot of the next one in the chain */
    uint8_t length; /* 0: the slot is free */
    char text[NAME_LENGTH];
    struct fuse_entry_out entry;
};

struct names {
    pthread_mutex_t lock;
    struct name *slots;
    uint32_t *chains;
    uint32_t oldest; /* the slot that is used next */
    uint64_t answered;
};

/* Returns 0 or ENOMEM. */
int names_init(struct names *names);
void names_destroy(struct names *names);

/* Offer the answer for a name of 1 to NAME_LENGTH bytes, in place of the one it has. */
void names_offer(struct names *names, uint64_t folder, const char *text, size_t length,
                 const struct fuse_entry_out *entry);

/* The answer for a name, once; false: there is none. */
bool names_take(struct names *names, uint64_t folder, const char *text, size_t length,
                struct fuse_entry_out *entry);

/* Take a name out, if it is there. */
void names_forget(struct names *names, uint64_t folder, const char *text, size_t length);

/* Take all out: their worker is gone. */
void names_clear(struct names *names);

uint64_t names_answered(struct names *names);

#endif
