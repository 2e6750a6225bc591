/* A long, lossy link between two network namespaces: forwards packets between a TUN device in each.
 *
 *   farlink NAMESPACE NAMESPACE MICROSECONDS BITS_PER_SECOND LOSS_PER_MILLION
 *
 * Each direction has a thread of its own. A packet that came at t leaves at max(t, end of the one before it) +
 * its time on the wire + the delay; one that would wait for more than QUEUE of wire time is dropped, as a router
 * does, and so is one in so many by chance (a fixed sequence). TCP sees a true round trip of twice the delay.
 * Prints a line when both devices are there, and ends with its standard input. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { PACKETS = 1 << 17, LARGEST = 1600 };
static const int64_t QUEUE = 100 * 1000 * 1000; /* ns */

struct packet {
    int64_t due;
    int size;
    char data[LARGEST];
};

struct way {
    int from, to;
    int64_t delay, bits, loss;
    uint64_t luck;
    struct packet *ring;
};

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int device(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "/run/netns/%s", name);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET))
        die(path);
    close(space);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    strcpy(request.ifr_name, "far");
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request))
        die("/dev/net/tun");
    return fd;
}

static void *forward(void *argument)
{
    struct way *way = argument;
    uint64_t head = 0, tail = 0; /* of what is on its way: tail goes first */
    int64_t free_at = 0;         /* when the wire is free again */
    for (;;) {
        int64_t at = now();
        while (tail != head && way->ring[tail % PACKETS].due <= at) {
            struct packet *packet = &way->ring[tail++ % PACKETS];
            if (write(way->to, packet->data, (size_t)packet->size) < 0) {
                /* the device's queue is full: lost, as anywhere */
            }
        }
        for (int taken = 0; taken < 64 && head - tail < PACKETS; taken++) {
            struct packet *packet = &way->ring[head % PACKETS];
            ssize_t size = read(way->from, packet->data, LARGEST);
            if (size <= 0)
                break;
            way->luck = way->luck * 6364136223846793005u + 1442695040888963407u;
            if ((int64_t)((way->luck >> 33) % 1000000) < way->loss)
                continue;
            int64_t begins = free_at > at ? free_at : at;
            if (begins - at > QUEUE)
                continue;
            free_at = begins + (int64_t)size * 8 * 1000000000 / way->bits;
            packet->due = free_at + way->delay;
            packet->size = (int)size;
            head++;
        }
        at = now();
        int64_t wait = tail == head ? 1000000000 : way->ring[tail % PACKETS].due - at;
        if (wait > 0) {
            struct timespec pause = {wait / 1000000000, wait % 1000000000};
            struct pollfd input = {way->from, POLLIN, 0};
            ppoll(&input, 1, &pause, NULL);
        }
    }
    return NULL;
}

int main(int count, char **words)
{
    if (count != 6) {
        fprintf(stderr, "usage: farlink NAMESPACE NAMESPACE MICROSECONDS BITS_PER_SECOND LOSS_PER_MILLION\n");
        return 2;
    }
    int ends[2] = {device(words[1]), device(words[2])};
    static struct way ways[2];
    for (int i = 0; i < 2; i++) {
        pthread_t thread;
        ways[i] = (struct way){ends[i], ends[!i], atoll(words[3]) * 1000, atoll(words[4]), atoll(words[5]), 88 + (uint64_t)i, NULL};
        ways[i].ring = malloc(sizeof(struct packet) * PACKETS);
        if (!ways[i].ring)
            die("memory");
        if (pthread_create(&thread, NULL, forward, &ways[i]))
            die("thread");
    }
    puts("ready");
    fflush(stdout);
    char byte;
    while (read(0, &byte, 1) > 0) {
    }
    return 0;
}
