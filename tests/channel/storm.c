/* A storm: readers, registrations, yielding, names that change and dying workers at once, under the sanitizers.
 *
 * The stand-in for the kernel checks on every answer what the real one would punish with EIO: that the
 * open handles of a node are of one mode, and all of one backing id. It knows each byte of each file, and that
 * a name which was taken back from it does not mean again what it meant before. Like the kernel it sends again,
 * on demand, what was not answered. At the end every request must have been answered once.
 */
#include <stdatomic.h>

#include "bench.h"

#define NODES 16
#define ROUNDS 6000
#define DEATHS 12
#define SOURCE_SIZE 50000

/* struct fuse_notify_inval_entry_out, whose last field has had several names; ours is a version's number. */
struct taken_back {
    uint64_t parent;
    uint32_t namelen;
    uint32_t version;
};

struct pending {
    uint64_t unique;
    uint64_t node;
    uint32_t opcode;
    uint32_t version; /* LOOKUP: that the name has at least */
};

struct kernel {
    struct bench *bench;
    struct pending pending[64];
    size_t count;
    struct {
        int cached;
        int passthrough;
        int32_t backing_id;
        uint32_t version; /* of the name in this folder, the last one that was taken back being less */
    } nodes[NODES];
    uint64_t next_unique;
    int passthrough_opens;
    int cached_opens;
    int reads;
    int lookups;
    int taken_back;
};

static atomic_int deaths_left = DEATHS;
static atomic_int yielded;

static void send_pending(struct kernel *kernel, const struct pending *pending)
{
    if (pending->opcode == FUSE_OPEN)
        ask_open(kernel->bench->kernel, pending->unique, pending->node);
    else if (pending->opcode == FUSE_RELEASE)
        ask_release(kernel->bench->kernel, pending->unique, pending->node);
    else if (pending->opcode == FUSE_READ)
        ask_read(kernel->bench->kernel, pending->unique, pending->node);
    else if (pending->opcode == FUSE_LOOKUP)
        ask(kernel->bench->kernel, FUSE_LOOKUP, pending->unique, pending->node, "name", 5);
    else
        ask(kernel->bench->kernel, pending->opcode, pending->unique, pending->node, NULL, 0);
}

static void resend(struct kernel *kernel)
{
    for (size_t i = 0; i < kernel->count; i++) {
        kernel->pending[i].unique |= UNIQUE_RESENT;
        send_pending(kernel, &kernel->pending[i]);
    }
}

static void opened(struct kernel *kernel, uint64_t node, const struct message *message)
{
    struct open_out out = open_of(message);
    if (out.open_flags & FOPEN_PASSTHROUGH) {
        CHECK(kernel->nodes[node].cached == 0);
        CHECK(kernel->nodes[node].passthrough == 0 || kernel->nodes[node].backing_id == out.backing_id);
        kernel->nodes[node].passthrough++;
        kernel->nodes[node].backing_id = out.backing_id;
        kernel->passthrough_opens++;
    } else {
        CHECK(kernel->nodes[node].passthrough == 0);
        kernel->nodes[node].cached++;
        kernel->cached_opens++;
    }
}

/* What a READ asks for, told by its number, so that it is the same when it comes again. */
static uint64_t read_offset(uint64_t unique)
{
    return (unique & ~UNIQUE_RESENT) * 131 % (SOURCE_SIZE - 4000);
}

static uint32_t read_size(uint64_t unique)
{
    return 1 + (uint32_t)(unique & ~UNIQUE_RESENT) % 4000;
}

static void check_read(struct kernel *kernel, const struct pending *pending, const struct message *message)
{
    CHECK(message->length == sizeof message->out + read_size(pending->unique));
    for (uint32_t i = 0; i < read_size(pending->unique); i++)
        CHECK(message->bytes[sizeof message->out + i] ==
              byte_of(pending->node, read_offset(pending->unique) + i));
    kernel->reads++;
}

static void check_lookup(struct kernel *kernel, const struct pending *pending, const struct message *message)
{
    struct fuse_entry_out entry;
    CHECK(message->length == sizeof message->out + sizeof entry);
    memcpy(&entry, message->bytes + sizeof message->out, sizeof entry);
    CHECK(entry.attr.ino == pending->node && entry.nodeid > pending->version);
    kernel->lookups++;
}

/* A name means another version now, whose number the notification has for our sake. */
static void take_back(struct kernel *kernel, const struct message *message)
{
    struct taken_back entry;
    memcpy(&entry, message->bytes + sizeof message->out, sizeof entry);
    CHECK(entry.parent < NODES && entry.namelen == 4);
    kernel->nodes[entry.parent].version = entry.version;
    kernel->taken_back++;
}

/* Take one answer; a stale one, for a request that was sent again, is ENOENT to a real keeper. */
static void take_answer(struct kernel *kernel)
{
    struct message message = hear(kernel->bench->kernel);
    if (message.out.unique == 0 && message.out.error == FUSE_NOTIFY_INVAL_ENTRY) {
        take_back(kernel, &message);
        return;
    }
    if (message.out.unique == 0) {
        CHECK(message.out.error == NOTIFY_RESEND);
        resend(kernel);
        return;
    }
    for (size_t i = 0; i < kernel->count; i++) {
        struct pending pending = kernel->pending[i];
        if (pending.unique != message.out.unique)
            continue;
        kernel->pending[i] = kernel->pending[--kernel->count];
        CHECK(message.out.error == 0);
        if (pending.opcode == FUSE_OPEN)
            opened(kernel, pending.node, &message);
        if (pending.opcode == FUSE_READ)
            check_read(kernel, &pending, &message);
        if (pending.opcode == FUSE_LOOKUP)
            check_lookup(kernel, &pending, &message);
        return;
    }
}

/* As the kernel: a READ has a handle, and a handle is released once its READs have ended. */
static bool is_read(const struct kernel *kernel, uint64_t node)
{
    for (size_t i = 0; i < kernel->count; i++)
        if (kernel->pending[i].node == node && kernel->pending[i].opcode == FUSE_READ)
            return true;
    return false;
}

static void ask_something(struct kernel *kernel, unsigned int *seed)
{
    uint64_t node = 1 + (uint64_t)rand_r(seed) % (NODES - 1);
    struct pending pending = {.unique = kernel->next_unique += 2, .node = node, .opcode = FUSE_GETATTR};
    int open = kernel->nodes[node].cached + kernel->nodes[node].passthrough;
    int dice = rand_r(seed) % 12;
    if (dice >= 8) {
        pending.opcode = FUSE_LOOKUP;
        pending.version = kernel->nodes[node].version;
    } else if (open > 0 && (dice < 3 || open > 3) && !is_read(kernel, node)) {
        pending.opcode = FUSE_RELEASE; /* as the kernel: the mode goes before the message */
        if (kernel->nodes[node].cached > 0)
            kernel->nodes[node].cached--;
        else
            kernel->nodes[node].passthrough--;
    } else if (dice < 6) {
        pending.opcode = FUSE_OPEN;
    } else if (dice < 7 && open > 0) {
        pending.opcode = FUSE_READ;
    }
    kernel->pending[kernel->count++] = pending;
    send_pending(kernel, &pending);
}

/* Answer a READ by reference, with the sources coming and going. */
static void answer_read(struct bench *bench, const struct message *message, uint32_t *numbers, unsigned int *seed)
{
    static uint32_t last_number;
    uint64_t node = message->in.nodeid, unique = message->in.unique;
    if (numbers[node] == 0 || rand_r(seed) % 4 == 0) {
        numbers[node] = ++last_number;
        offer(bench, node, numbers[node], SOURCE_SIZE);
    }
    refer(bench, unique, numbers[node], read_offset(unique), read_size(unique));
    if (rand_r(seed) % 4 == 0) {
        tell(bench->control, CONTROL_FORGET_SOURCE, node, NULL, 0);
        numbers[node] = 0;
    }
}

static struct fuse_entry_out entry_of(uint64_t folder, uint32_t version)
{
    return (struct fuse_entry_out){.nodeid = version + 1, .attr = {.ino = folder}};
}

/* Say what stands at the name in a folder. */
static void expect_name(struct bench *bench, uint64_t folder, uint32_t version)
{
    struct {
        struct control_message message;
        struct control_name name;
        char text[4];
    } __attribute__((packed)) packet = {.message = {.op = CONTROL_NAMES, .node = folder},
                                        .name = {.entry = entry_of(folder, version), .length = 4},
                                        .text = {'n', 'a', 'm', 'e'}};
    CHECK(send(bench->control, &packet, sizeof packet, MSG_NOSIGNAL) >= 0 || errno == EPIPE);
}

static void take_name_back(struct bench *bench, uint64_t folder, uint32_t version)
{
    struct {
        struct taken_back entry;
        char text[5];
    } __attribute__((packed)) body = {{.parent = folder, .namelen = 4, .version = version}, "name"};
    say(bench->worker, 0, -FUSE_NOTIFY_INVAL_ENTRY, &body, sizeof body);
}

/* Names are looked up, expected, and change. */
static void change_names(struct bench *bench, uint64_t folder, uint32_t *version, unsigned int *seed)
{
    if (rand_r(seed) % 2 == 0)
        expect_name(bench, folder, *version);
    if (rand_r(seed) % 4 == 0)
        take_name_back(bench, folder, ++*version);
    if (rand_r(seed) % 4 == 0)
        expect_name(bench, folder, *version);
}

/* One worker after another: registers, retires, answers, and dies in the middle of it. */
static void *worker_main(void *argument)
{
    struct bench *bench = argument;
    unsigned int seed = 7;
    int until_death = 200;
    uint32_t numbers[NODES] = {0}; /* of the sources offered now, by node */
    uint32_t versions[NODES] = {0};
    for (;;) {
        struct message message;
        message.length = receive(bench->worker, message.bytes, sizeof message.bytes);
        if (message.length == 0)
            return NULL;
        uint64_t node = message.in.nodeid;
        if (message.in.opcode == FUSE_INIT) {
            say_init(bench, message.in.unique);
            continue;
        }
        if (--until_death == 0 && atomic_fetch_sub(&deaths_left, 1) > 0) {
            until_death = 100 + rand_r(&seed) % 200;
            bench_kill_worker(bench);
            bench_attach(bench);
            memset(numbers, 0, sizeof numbers);
            continue;
        }
        change_names(bench, node, &versions[node], &seed);
        if (message.in.opcode == FUSE_READ) {
            answer_read(bench, &message, numbers, &seed);
            continue;
        }
        if (message.in.opcode == FUSE_OPEN && node % 4 != 0) {
            set_failure(bench, rand_r(&seed) % 4 == 0 ? EMFILE : 0); /* then it is only held */
            tell_register(bench, node);
        }
        if (rand_r(&seed) % 4 == 0)
            tell(bench->control, CONTROL_RETIRE, node, NULL, 0);
        bool ask_to_yield = rand_r(&seed) % 4 == 0;
        if (ask_to_yield)
            tell(bench->control, CONTROL_YIELD, node, NULL, 0);
        if (message.in.opcode == FUSE_OPEN)
            say_open(bench->worker, message.in.unique, node, FOPEN_KEEP_CACHE);
        else if (message.in.opcode == FUSE_LOOKUP) {
            struct fuse_entry_out entry = entry_of(node, versions[node]);
            say(bench->worker, message.in.unique, 0, &entry, sizeof entry);
        } else
            say(bench->worker, message.in.unique, 0, NULL, 0);
        /* Of an OPEN that is not answered the keeper must know, wherever it is on its way. */
        if (ask_to_yield && hear_yield(bench->control, node, 0)) {
            CHECK(message.in.opcode != FUSE_OPEN);
            atomic_fetch_add(&yielded, 1);
        }
    }
}

int main(void)
{
    static struct bench bench;
    static struct kernel kernel;
    pthread_t worker;
    unsigned int seed = 3;
    bench_open(&bench, NODES / 2, 20);
    kernel = (struct kernel){.bench = &bench, .next_unique = 100};
    bench_init(&bench, 0);
    CHECK(pthread_create(&worker, NULL, worker_main, &bench) == 0);
    for (int round = 0; round < ROUNDS; round++) {
        while (kernel.count < 4 + (size_t)rand_r(&seed) % 8)
            ask_something(&kernel, &seed);
        take_answer(&kernel);
    }
    while (kernel.count > 0)
        take_answer(&kernel);
    CHECK(atomic_load(&yielded) > 0);
    CHECK(kernel.passthrough_opens > 0 && kernel.cached_opens > 0 && kernel.reads > 0);
    CHECK(kernel.taken_back > 0 && names_answered(&bench.channel.names) > 100);
    CHECK(kernel.lookups > (int)names_answered(&bench.channel.names));
    CHECK(atomic_load(&bench.channel.reads.failed) == 0);
    CHECK(atomic_load(&bench.channel.counters.takeovers) > 0);
    CHECK(atomic_load(&bench.channel.counters.bad_messages) == 0);
    CHECK(live_backings(&bench) <= NODES / 2);
    channel_stop(&bench.channel);
    shutdown(bench.worker, SHUT_RD);
    shutdown(bench.control, SHUT_RD);
    pthread_join(worker, NULL);
    bench_close(&bench);
    bench_kill_worker(&bench);
    printf("%d passthrough, %d page-cached opens\n", kernel.passthrough_opens, kernel.cached_opens);
    return 0;
}
