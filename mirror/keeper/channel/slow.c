/* The thread for what may wait; see slow.h. */
#include "slow.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
        if (chore.fd >= 0)
            close(chore.fd);
        else if (!ending && write(slow->fuse_fd, chore.bytes, chore.length) == chore.length)
            atomic_fetch_add_explicit(&slow->sent, 1, memory_order_relaxed);
        /* A refused notification names something the kernel does not know (ENOENT): as good as done. */
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

static bool push(struct slow *slow, int fd, const void *message, size_t length)
{
    pthread_mutex_lock(&slow->lock);
    bool room = slow->running && slow->count < CHORES && !slow->ending;
    if (room) {
        struct chore *chore = &slow->ring[(slow->first + slow->count) % CHORES];
        chore->fd = fd;
        chore->length = (uint16_t)length;
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
    bool taken = length <= CHORE_MAX && push(slow, -1, message, length);
    if (!taken)
        atomic_fetch_add_explicit(&slow->dropped, 1, memory_order_relaxed);
    return taken;
}

void slow_close(struct slow *slow, int fd)
{
    if (fd >= 0 && !push(slow, fd, NULL, 0))
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
