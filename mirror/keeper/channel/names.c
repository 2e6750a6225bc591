/* Names that are expected; see names.h. */
#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define CHAINS 1024 /* a power of 2 */
#define NONE UINT32_MAX

static uint32_t chain_of(uint64_t folder, const char *text, size_t length)
{
    uint64_t hash = 0xcbf29ce484222325u ^ folder; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    return (uint32_t)(hash >> 32) % CHAINS;
}

/* Where a chain says which slot the name has, or where it ends. */
static uint32_t *find(struct names *names, uint64_t folder, const char *text, size_t length)
{
    uint32_t *at = &names->chains[chain_of(folder, text, length)];
    while (*at != NONE) {
        struct name *name = &names->slots[*at];
        if (name->folder == folder && name->length == length && memcmp(name->text, text, length) == 0)
            break;
        at = &name->next;
    }
    return at;
}

static void release(struct names *names, uint32_t *at)
{
    struct name *name = &names->slots[*at];
    *at = name->next;
    name->length = 0;
}

static void clear(struct names *names)
{
    for (size_t i = 0; i < CHAINS; i++)
        names->chains[i] = NONE;
    for (size_t i = 0; i < NAMES_MAX; i++)
        names->slots[i].length = 0;
}

int names_init(struct names *names)
{
    *names = (struct names){.oldest = 0};
    names->slots = malloc(NAMES_MAX * sizeof *names->slots);
    names->chains = malloc(CHAINS * sizeof *names->chains);
    if (names->slots == NULL || names->chains == NULL) {
        free(names->slots);
        free(names->chains);
        return ENOMEM;
    }
    clear(names);
    pthread_mutex_init(&names->lock, NULL);
    return 0;
}

void names_destroy(struct names *names)
{
    pthread_mutex_destroy(&names->lock);
    free(names->slots);
    free(names->chains);
}

void names_offer(struct names *names, uint64_t folder, const char *text, size_t length,
                 const struct fuse_entry_out *entry)
{
    if (length == 0 || length > NAME_LENGTH)
        return;
    pthread_mutex_lock(&names->lock);
    uint32_t *at = find(names, folder, text, length);
    if (*at == NONE) {
        uint32_t slot = names->oldest;
        names->oldest = (slot + 1) % NAMES_MAX;
        struct name *name = &names->slots[slot];
        if (name->length > 0)
            release(names, find(names, name->folder, name->text, name->length));
        name->folder = folder;
        name->length = (uint8_t)length;
        memcpy(name->text, text, length);
        uint32_t *chain = &names->chains[chain_of(folder, text, length)];
        name->next = *chain;
        *chain = slot;
        at = chain;
    }
    names->slots[*at].entry = *entry;
    pthread_mutex_unlock(&names->lock);
}

bool names_take(struct names *names, uint64_t folder, const char *text, size_t length,
                struct fuse_entry_out *entry)
{
    pthread_mutex_lock(&names->lock);
    uint32_t *at = find(names, folder, text, length);
    bool found = *at != NONE;
    if (found) {
        *entry = names->slots[*at].entry;
        release(names, at);
        names->answered++;
    }
    pthread_mutex_unlock(&names->lock);
    return found;
}

void names_forget(struct names *names, uint64_t folder, const char *text, size_t length)
{
    pthread_mutex_lock(&names->lock);
    uint32_t *at = find(names, folder, text, length);
    if (*at != NONE)
        release(names, at);
    pthread_mutex_unlock(&names->lock);
}

void names_clear(struct names *names)
{
    pthread_mutex_lock(&names->lock);
    clear(names);
    pthread_mutex_unlock(&names->lock);
}

uint64_t names_answered(struct names *names)
{
    pthread_mutex_lock(&names->lock);
    uint64_t answered = names->answered;
    pthread_mutex_unlock(&names->lock);
    return answered;
}
