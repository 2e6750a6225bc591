/* A stand-in for the kernel and one for the worker, at the two ends of a channel.
 *
 * Both are socketpairs, so everything that the channel does with /dev/fuse can be driven without a
 * mount, under the sanitizers, and with faults that a real kernel or worker rarely shows.
 */
#ifndef BENCH_H
#define BENCH_H

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "channel.h"
#include "protocol.h"

#define CHECK(condition)                                                             \
    do {                                                                             \
        if (!(condition)) {                                                          \
            fprintf(stderr, "%s:%d: %s: not true: %s\n", __FILE__, __LINE__, __func__, #condition); \
            abort();                                                                 \
        }                                                                            \
    } while (0)

/* The kernel's table of backing files. */
struct fake_backing {
    pthread_mutex_t lock;
    int next_id;
    int live;
    int fail_with; /* errno of the next registrations, 0: none */
};

struct bench {
    struct channel channel;
    struct fake_backing backing;
    int kernel;  /* what would be the kernel's side of /dev/fuse */
    int worker;  /* the worker's ends */
    int control;
    unsigned int workers; /* attached so far */
    char folder[64];
};

static inline int fake_open(void *context, int fd)
{
    struct fake_backing *backing = context;
    (void)fd;
    pthread_mutex_lock(&backing->lock);
    int result = backing->fail_with != 0 ? -backing->fail_with : ++backing->next_id;
    backing->live += result > 0;
    pthread_mutex_unlock(&backing->lock);
    return result;
}

static inline int fake_close(void *context, int32_t id)
{
    struct fake_backing *backing = context;
    pthread_mutex_lock(&backing->lock);
    CHECK(id > 0 && id <= backing->next_id);
    backing->live--;
    pthread_mutex_unlock(&backing->lock);
    return 0;
}

static inline int live_backings(struct bench *bench)
{
    pthread_mutex_lock(&bench->backing.lock);
    int live = bench->backing.live;
    pthread_mutex_unlock(&bench->backing.lock);
    return live;
}

/* What the kernel says to registrations from now on; 0: it takes them. */
static inline void set_failure(struct bench *bench, int error)
{
    pthread_mutex_lock(&bench->backing.lock);
    bench->backing.fail_with = error;
    pthread_mutex_unlock(&bench->backing.lock);
}

/* What marks the references of the n-th worker. */
static inline const unsigned char *token_of(unsigned int worker)
{
    static _Thread_local unsigned char token[TOKEN_SIZE];
    memset(token, 'A' + (int)(worker % 26), sizeof token);
    return token;
}

static inline void bench_attach(struct bench *bench)
{
    int fuse[2], control[2];
    int size = 4 << 20;
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fuse) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) == 0);
    setsockopt(fuse[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    bench->worker = fuse[1];
    bench->control = control[1];
    CHECK(channel_attach(&bench->channel, fuse[0], control[0], token_of(++bench->workers)) == 0);
}

static inline void bench_kill_worker(struct bench *bench)
{
    close(bench->worker);
    close(bench->control);
}

static inline void bench_open(struct bench *bench, uint32_t limit, uint32_t spin_us)
{
    int fuse[2];
    struct stat status;
    memset(bench, 0, sizeof *bench);
    pthread_mutex_init(&bench->backing.lock, NULL);
    snprintf(bench->folder, sizeof bench->folder, "/tmp/mirror-channel-XXXXXX");
    CHECK(mkdtemp(bench->folder) != NULL);
    CHECK(stat(bench->folder, &status) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fuse) == 0);
    int size = 4 << 20;
    setsockopt(fuse[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fuse[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    bench->kernel = fuse[1];
    struct channel_settings settings = {
        .backing = {fake_open, fake_close, &bench->backing},
        .wishes = {true, 1, 256},
        .backing_limit = limit,
        .spin_us = spin_us,
        .cache_device = status.st_dev,
        .owner = geteuid(),
    };
    CHECK(channel_init(&bench->channel, fuse[0], &settings) == 0);
    bench_attach(bench);
    CHECK(channel_start(&bench->channel) == 0);
}

static inline void bench_close(struct bench *bench)
{
    channel_stop(&bench->channel);
    channel_destroy(&bench->channel);
    close(bench->kernel);
    rmdir(bench->folder);
    pthread_mutex_destroy(&bench->backing.lock);
}

/* Wait for the next packet; the length, 0 at the end. Nothing here waits longer than 20 s. */
static inline size_t receive(int fd, void *buffer, size_t size)
{
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    CHECK(poll(&ready, 1, 20000) == 1);
    ssize_t length = recv(fd, buffer, size, 0);
    if (length < 0 && errno == ECONNRESET)
        length = recv(fd, buffer, size, 0);
    CHECK(length >= 0);
    return (size_t)length;
}

struct message {
    union {
        struct fuse_in_header in;
        struct fuse_out_header out;
        unsigned char bytes[8192];
    };
    size_t length;
};

/* The kernel asks something. */
static inline void ask(int kernel, uint32_t opcode, uint64_t unique, uint64_t node, const void *body, size_t length)
{
    struct message message;
    message.in = (struct fuse_in_header){.len = (uint32_t)(sizeof message.in + length), .opcode = opcode,
                                         .unique = unique, .nodeid = node, .pid = (uint32_t)getpid()};
    if (length > 0)
        memcpy(message.bytes + sizeof message.in, body, length);
    CHECK(send(kernel, message.bytes, message.in.len, MSG_NOSIGNAL) >= 0);
}

static inline void ask_open(int kernel, uint64_t unique, uint64_t node)
{
    struct fuse_open_in open = {.flags = O_RDONLY};
    ask(kernel, FUSE_OPEN, unique, node, &open, sizeof open);
}

static inline void ask_release(int kernel, uint64_t unique, uint64_t node)
{
    struct fuse_release_in release = {.fh = node};
    ask(kernel, FUSE_RELEASE, unique, node, &release, sizeof release);
}

/* The worker, or whoever plays it, says something. */
static inline void say(int worker, uint64_t unique, int error, const void *body, size_t length)
{
    struct message message;
    message.out = (struct fuse_out_header){.len = (uint32_t)(sizeof message.out + length), .error = -error,
                                           .unique = unique};
    if (length > 0)
        memcpy(message.bytes + sizeof message.out, body, length);
    ssize_t sent = send(worker, message.bytes, message.out.len, MSG_NOSIGNAL);
    CHECK(sent >= 0 || errno == EPIPE);
}

static inline void say_open(int worker, uint64_t unique, uint64_t node, uint32_t flags)
{
    struct open_out out = {.fh = node, .open_flags = flags};
    say(worker, unique, 0, &out, sizeof out);
}

static inline struct message hear(int fd)
{
    struct message message;
    message.length = receive(fd, message.bytes, sizeof message.bytes);
    return message;
}

/* The next message at the worker must be this request. */
static inline void expect_request(struct bench *bench, uint32_t opcode, uint64_t unique)
{
    struct message message = hear(bench->worker);
    CHECK(message.length >= sizeof message.in);
    CHECK(message.in.opcode == opcode);
    CHECK(message.in.unique == unique);
}

/* The next message at the kernel must answer this request. */
static inline struct message expect_answer(struct bench *bench, uint64_t unique, int error)
{
    struct message message = hear(bench->kernel);
    CHECK(message.length >= sizeof message.out && message.out.len == message.length);
    CHECK(message.out.unique == unique);
    CHECK(message.out.error == -error);
    return message;
}

static inline struct open_out open_of(const struct message *message)
{
    struct open_out out;
    CHECK(message->length == sizeof message->out + sizeof out);
    memcpy(&out, message->bytes + sizeof message->out, sizeof out);
    return out;
}

/* INIT as Linux 6.18 sends it, less what `without` names. */
static inline void ask_init(struct bench *bench, uint64_t unique, uint64_t without)
{
    uint64_t flags = FUSE_INIT_EXT | FUSE_MAX_PAGES | FUSE_WRITEBACK_CACHE | FUSE_SPLICE_READ |
                     FUSE_NO_OPEN_SUPPORT | FUSE_PASSTHROUGH | FUSE_DIRECT_IO_ALLOW_MMAP | FUSE_HAS_RESEND;
    flags &= ~without;
    struct fuse_init_in init = {.major = 7, .minor = 45, .max_readahead = 131072, .flags = (uint32_t)flags,
                                .flags2 = (uint32_t)(flags >> 32)};
    ask(bench->kernel, FUSE_INIT, unique, 0, &init, sizeof init);
}

static inline void say_init(struct bench *bench, uint64_t unique)
{
    struct init_out out = {.major = 7, .minor = 38, .flags = FUSE_WRITEBACK_CACHE | FUSE_MAX_PAGES,
                           .max_pages = 300, .max_write = 1 << 20};
    say(bench->worker, unique, 0, &out, sizeof out);
}

static inline struct init_out bench_init(struct bench *bench, uint64_t without)
{
    struct init_out out;
    ask_init(bench, 2, without);
    expect_request(bench, FUSE_INIT, 2);
    say_init(bench, 2);
    struct message answer = expect_answer(bench, 2, 0);
    memcpy(&out, answer.bytes + sizeof answer.out, sizeof out);
    return out;
}

static inline int backing_file(struct bench *bench, int flags)
{
    char path[96];
    snprintf(path, sizeof path, "%s/object", bench->folder);
    int fd = open(path, flags | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    unlink(path);
    return fd;
}

static inline void ask_read(int kernel, uint64_t unique, uint64_t node)
{
    struct fuse_read_in read = {.fh = node, .size = 1 << 20};
    ask(kernel, FUSE_READ, unique, node, &read, sizeof read);
}

/* The worker answers a READ by reference. */
static inline void refer(struct bench *bench, uint64_t unique, uint32_t source, uint64_t offset, uint32_t size)
{
    struct reference reference = {.offset = offset, .size = size, .source = source};
    memcpy(reference.token, token_of(bench->workers), TOKEN_SIZE);
    say(bench->worker, unique, 0, &reference, sizeof reference);
}

/* Send a control message about a source, or none (0), with up to 2 descriptors. */
static inline void tell_numbered(int control, uint32_t op, uint64_t node, uint32_t number, const int *fds,
                                 size_t count)
{
    struct control_message message = {.op = op, .number = number, .node = node};
    union {
        char bytes[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } ancillary;
    memset(&ancillary, 0, sizeof ancillary);
    struct iovec body = {&message, sizeof message};
    struct msghdr header = {.msg_iov = &body, .msg_iovlen = 1};
    if (count > 0) {
        header.msg_control = ancillary.bytes;
        header.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *part = CMSG_FIRSTHDR(&header);
        part->cmsg_level = SOL_SOCKET;
        part->cmsg_type = SCM_RIGHTS;
        part->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(part), fds, count * sizeof(int));
    }
    CHECK(sendmsg(control, &header, MSG_NOSIGNAL) >= 0 || errno == EPIPE);
}

static inline void tell(int control, uint32_t op, uint64_t node, const int *fds, size_t count)
{
    tell_numbered(control, op, node, 0, fds, count);
}

static inline void tell_register(struct bench *bench, uint64_t node)
{
    int fd = backing_file(bench, O_RDONLY);
    tell(bench->control, CONTROL_REGISTER, node, &fd, 1);
    close(fd);
}

/* The keeper's answer to a YIELD: whether it let the node go. */
static inline bool hear_yield(int control, uint64_t node, uint32_t number)
{
    struct control_message answer;
    CHECK(receive(control, &answer, sizeof answer) == sizeof answer);
    CHECK(answer.op == CONTROL_YIELD && answer.node == node && answer.number / 2 == number / 2);
    return answer.number == number;
}

static inline bool yields(struct bench *bench, uint64_t node)
{
    tell(bench->control, CONTROL_YIELD, node, NULL, 0);
    return hear_yield(bench->control, node, 0);
}

static uint64_t next_unique = 100;

static inline uint64_t unique(void)
{
    return next_unique += 2;
}

/* Open a node through the worker, which answers with `flags`; returns what the kernel sees. */
static inline struct open_out open_by_worker(struct bench *bench, uint64_t node, uint32_t flags)
{
    uint64_t id = unique();
    ask_open(bench->kernel, id, node);
    expect_request(bench, FUSE_OPEN, id);
    say_open(bench->worker, id, node, flags);
    struct message answer = expect_answer(bench, id, 0);
    return open_of(&answer);
}

/* The same, with the backing file registered in time for this very open. */
static inline struct open_out open_registering(struct bench *bench, uint64_t node, uint32_t flags)
{
    uint64_t id = unique();
    ask_open(bench->kernel, id, node);
    expect_request(bench, FUSE_OPEN, id);
    tell_register(bench, node);
    say_open(bench->worker, id, node, flags);
    struct message answer = expect_answer(bench, id, 0);
    return open_of(&answer);
}

static inline struct open_out open_by_keeper(struct bench *bench, uint64_t node)
{
    uint64_t id = unique();
    ask_open(bench->kernel, id, node);
    struct message answer = expect_answer(bench, id, 0);
    return open_of(&answer);
}

static inline void release_by_worker(struct bench *bench, uint64_t node)
{
    uint64_t id = unique();
    ask_release(bench->kernel, id, node);
    expect_request(bench, FUSE_RELEASE, id);
    say(bench->worker, id, 0, NULL, 0);
    expect_answer(bench, id, 0);
}

static inline void release_by_keeper(struct bench *bench, uint64_t node)
{
    uint64_t id = unique();
    ask_release(bench->kernel, id, node);
    expect_answer(bench, id, 0);
}

/* To see that what was opened was closed. */
static inline int open_files(void)
{
    DIR *folder = opendir("/proc/self/fd");
    CHECK(folder != NULL);
    int count = 0;
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

/* Byte `at` of a file that was made for `node`. */
static inline unsigned char byte_of(uint64_t node, uint64_t at)
{
    return (unsigned char)(at * 7 + at / 251 + node * 31);
}

/* A read-only descriptor of a file of so many of these bytes; `path` has 96 bytes. */
static inline int source_file(struct bench *bench, uint64_t node, size_t size, char *path)
{
    unsigned char *bytes = malloc(size);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < size; i++)
        bytes[i] = byte_of(node, i);
    snprintf(path, 96, "%s/source", bench->folder);
    int writer = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(write(writer, bytes, size) == (ssize_t)size);
    close(writer);
    free(bytes);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

/* Offer such a file as the node's source. */
static inline void offer(struct bench *bench, uint64_t node, uint32_t number, size_t size)
{
    char path[96];
    int fd = source_file(bench, node, size, path);
    tell_numbered(bench->control, CONTROL_SOURCE, node, number, &fd, 1);
    close(fd);
    unlink(path);
}

#endif
