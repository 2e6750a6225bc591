/* Whether a task has been told to end: what an interrupt of one of its requests means. */
#ifndef MIRROR_SIGNALS_H
#define MIRROR_SIGNALS_H

#include <stdbool.h>
#include <stdint.h>

/* True when a signal that ends programs (KILL, INT, TERM, QUIT, HUP) is pending for the thread or its
 * process and not blocked by it. The kernel interrupts a request for any signal, a profiler's timer
 * as well as Ctrl-C; only these should make a read fail with EINTR. False for an unknown thread. */
bool task_should_end(uint32_t task);

/* The same decision on the text of /proc/TID/status. */
bool status_should_end(const char *status);

#endif
