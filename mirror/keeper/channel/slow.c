/* The thread for what may wait; see slow.h. */
#include "slow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

/* One chore; notifications are not written any more once the end has begun. */
static void perform(struct slow *slow, const struct chore *chore, bool ending)
{
    switch (chore->kind) {
    case CHORE_CLOSE:
        close(chore->fd);
        break;
    case CHORE_NOTIFY:
        /* A refused one names something the kernel does not know (ENOENT): as good as done. */
        if (!ending && write(slow->fuse_fd, chore->bytes, chore->length) == (ssize_t)chore->length)
            atomic_fetch_add_explicit(&slow->sent, 1, memory_order_relaxed);
        break;
    case CHORE_SAY:
        /* Whoever waits for it reads it; whoever is gone does not need it. */
        (void)!send(chore->fd, chore->bytes, chore->length, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    }
}

static void *slow_main(void *argument)
{
    struct slow *slow = argument;
    pthread_mutex_lock(&slow->lock);
    for (;;) {
        while (slow->count == 0 && !slow->ending)
            pthread_cond_wait(&slow->more, &slow->lock);
        if (slow->count == 0)
            break;
        struct chore chore = slow->ring[slow->first];
        bool ending = slow->ending;
        slow->first = (slow->first + 1) % CHORES;
        slow->count--;
        pthread_mutex_unlock(&slow->lock);
        perform(slow, &chore, ending);
        pthread_mutex_lock(&slow->lock);
    }
    pthread_mutex_unlock(&slow->lock);
    return NULL;
}

int slow_init(struct slow *slow, int fuse_fd)
{
    *slow = (struct slow){.fuse_fd = fuse_fd};
    slow->ring = malloc(CHORES * sizeof *slow->ring);
    if (slow->ring == NULL)
        return ENOMEM;
    pthread_mutex_init(&slow->lock, NULL);
    pthread_cond_init(&slow->more, NULL);
    return 0;
}

int slow_start(struct slow *slow)
{
    int error = pthread_create(&slow->thread, NULL, slow_main, slow);
    slow->running = error == 0;
    return error;
}

static bool push(struct slow *slow, enum chore_kind kind, int fd, const void *message, size_t length)
{
    pthread_mutex_lock(&slow->lock);
    size_t most = kind == CHORE_CLOSE ? CLOSINGS : CHORES;
    bool room = length <= CHORE_MAX && slow->running && slow->count < most && !slow->ending;
    if (room) {
        struct chore *chore = &slow->ring[(slow->first + slow->count) % CHORES];
        chore->kind = kind;
        chore->fd = fd;
        chore->length = length;
        if (length > 0)
            memcpy(chore->bytes, message, length);
        slow->count++;
        pthread_cond_signal(&slow->more);
    }
    pthread_mutex_unlock(&slow->lock);
    return room;
}

bool slow_notify(struct slow *slow, const void *message, size_t length)
{
    return push(slow, CHORE_NOTIFY, -1, message, length);
}

bool slow_say(struct slow *slow, int socket, const void *message, size_t length)
{
    return push(slow, CHORE_SAY, socket, message, length);
}

void slow_close(struct slow *slow, int fd)
{
    if (fd >= 0 && !push(slow, CHORE_CLOSE, fd, NULL, 0))
        close(fd);
}

void slow_let_go(struct slow *slow, int fd)
{
    struct stat status;
    if (fd >= 0 && fstat(fd, &status) == 0 && status.st_nlink > 0)
        close(fd);
    else
        slow_close(slow, fd);
}

void slow_stop(struct slow *slow)
{
    pthread_mutex_lock(&slow->lock);
    bool running = slow->running;
    slow->running = false;
    slow->ending = true;
    pthread_cond_signal(&slow->more);
    pthread_mutex_unlock(&slow->lock);
    if (running)
        pthread_join(slow->thread, NULL);
}

void slow_destroy(struct slow *slow)
{
    pthread_cond_destroy(&slow->more);
    pthread_mutex_destroy(&slow->lock);
    free(slow->ring);
}
