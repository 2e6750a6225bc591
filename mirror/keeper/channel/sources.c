/* Files that reads may refer to; see sources.h. A few hundred at most, so looking at all of them costs
 * far less than the read that follows. */
#include "sources.h"

/* Take a source out of the table; returns its descriptor. */
static int pull(struct sources *sources, size_t at)
{
    int fd = sources->slots[at].fd;
    sources->leaving -= sources->slots[at].leaving;
    sources->slots[at] = sources->slots[--sources->count];
    return fd;
}

static void drop(struct sources *sources, size_t at)
{
    slow_let_go(sources->slow, pull(sources, at));
}

/* Of those that are leaving, or of those that are not, the one used longest ago. */
static size_t oldest(const struct sources *sources, bool leaving)
{
    size_t found = sources->count;
    for (size_t i = 0; i < sources->count; i++)
        if (sources->slots[i].leaving == leaving &&
            (found == sources->count || sources->slots[i].used_at < sources->slots[found].used_at))
            found = i;
    return found;
}

static void leave(struct sources *sources, size_t at)
{
    if (sources->leaving == SOURCES_LEAVING) {
        /* The last slot may move into the freed one. */
        size_t victim = oldest(sources, true);
        if (at == sources->count - 1)
            at = victim;
        drop(sources, victim);
    }
    sources->slots[at].leaving = true;
    sources->leaving++;
}

void sources_forget(struct sources *sources, uint64_t node)
{
    for (size_t i = 0; i < sources->count; i++) {
        if (sources->slots[i].node == node && !sources->slots[i].leaving) {
            leave(sources, i);
            return;
        }
    }
}

void sources_offer(struct sources *sources, uint64_t node, uint32_t number, int fd)
{
    sources_forget(sources, node);
    if (sources->count - sources->leaving == SOURCES_MAX)
        leave(sources, oldest(sources, false));
    sources->slots[sources->count++] =
        (struct source){.node = node, .used_at = ++sources->clock, .number = number, .fd = fd};
}

int sources_find(struct sources *sources, uint64_t node, uint32_t number)
{
    for (size_t i = 0; i < sources->count; i++) {
        struct source *source = &sources->slots[i];
        if (source->node == node && source->number == number) {
            source->used_at = ++sources->clock;
            return source->fd;
        }
    }
    return -1;
}

bool sources_offers(const struct sources *sources, uint64_t node)
{
    for (size_t i = 0; i < sources->count; i++)
        if (sources->slots[i].node == node && !sources->slots[i].leaving)
            return true;
    return false;
}

int sources_pull(struct sources *sources, uint64_t node)
{
    for (size_t i = 0; i < sources->count; i++)
        if (sources->slots[i].node == node && sources->slots[i].leaving)
            return pull(sources, i);
    return -1;
}

void sources_settle(struct sources *sources)
{
    for (size_t i = sources->count; sources->leaving > 0 && i-- > 0;)
        if (sources->slots[i].leaving)
            drop(sources, i);
}

void sources_clear(struct sources *sources)
{
    while (sources->count > 0)
        drop(sources, sources->count - 1);
}
