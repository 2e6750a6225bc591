/* Whether a task has been told to end; see signals.h. */
#include "signals.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BIT(signal) (1ULL << ((signal)-1))

static uint64_t mask_after(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 16);
}

bool status_should_end(const char *status)
{
    const uint64_t ending = BIT(SIGKILL) | BIT(SIGINT) | BIT(SIGTERM) | BIT(SIGQUIT) | BIT(SIGHUP);
    uint64_t pending = mask_after(status, "\nSigPnd:") | mask_after(status, "\nShdPnd:");
    return (pending & ~mask_after(status, "\nSigBlk:") & ending) != 0;
}

bool task_should_end(uint32_t task)
{
    char path[32];
    char status[4096]; /* the signal lines stand within the first 2 KiB */
    if (task == 0)
        return false;
    snprintf(path, sizeof path, "/proc/%u/status", task);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, status, sizeof status - 1);
    close(fd);
    if (length <= 0)
        return false;
    status[length] = '\0';
    return status_should_end(status);
}
