/* Reads by reference, driven message by message, and the table of sources by itself. */
#include "bench.h"

static unsigned char heard[MESSAGE_MAX];

/* The next message at the kernel must answer this READ with these bytes of the node's file. */
static void expect_bytes(struct bench *bench, uint64_t unique, uint64_t node, uint64_t offset, uint32_t size)
{
    struct fuse_out_header header;
    size_t length = receive(bench->kernel, heard, sizeof heard);
    memcpy(&header, heard, sizeof header);
    CHECK(header.unique == unique && header.error == 0);
    CHECK(header.len == length && length == sizeof header + size);
    for (uint32_t i = 0; i < size; i++)
        CHECK(heard[sizeof header + i] == byte_of(node, offset + i));
}

static void asked_to_read(struct bench *bench, uint64_t unique, uint64_t node)
{
    ask_read(bench->kernel, unique, node);
    expect_request(bench, FUSE_READ, unique);
}

static void all_of_it_or_nothing(void)
{
    static const uint32_t sizes[] = {0, 1, 31, 32, 33, 4095, 4096, 4097, 65537, READ_MAX - 1, READ_MAX};
    static const uint64_t offsets[] = {0, 1, 4095, 4096, 123457};
    struct bench bench;
    uint64_t unique = 100;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    offer(&bench, 7, 1, READ_MAX + 200000);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t j = 0; j < sizeof offsets / sizeof offsets[0]; j++) {
            asked_to_read(&bench, unique += 2, 7);
            refer(&bench, unique, 1, offsets[j], sizes[i]);
            expect_bytes(&bench, unique, 7, offsets[j], sizes[i]);
        }
    }
    CHECK(atomic_load(&bench.channel.reads.failed) == 0);
    /* One byte past the end, and all of it past the end. */
    asked_to_read(&bench, unique += 2, 7);
    refer(&bench, unique, 1, READ_MAX + 200000 - 10, 11);
    expect_answer(&bench, unique, EIO);
    asked_to_read(&bench, unique += 2, 7);
    refer(&bench, unique, 1, 1ULL << 40, 1);
    expect_answer(&bench, unique, EIO);
    CHECK(atomic_load(&bench.channel.reads.failed) == 2 && atomic_load(&bench.channel.reads.from_disk) >= 2);
    CHECK(atomic_load(&bench.channel.counters.bad_messages) == 0);
    /* What no reference may say. */
    asked_to_read(&bench, unique += 2, 7);
    refer(&bench, unique, 1, 0, READ_MAX + 1);
    expect_answer(&bench, unique, EIO);
    asked_to_read(&bench, unique += 2, 7);
    refer(&bench, unique, 1, UINT64_MAX, 1);
    expect_answer(&bench, unique, EIO);
    asked_to_read(&bench, unique += 2, 7);
    refer(&bench, unique, 2, 0, 1); /* a number that was never offered */
    expect_answer(&bench, unique, EIO);
    asked_to_read(&bench, unique += 2, 8);
    refer(&bench, unique, 1, 0, 1); /* the source of another node */
    expect_answer(&bench, unique, EIO);
    CHECK(atomic_load(&bench.channel.counters.bad_messages) == 4);
    CHECK(flight_count(&bench.channel.flight) == 0);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void only_the_token_makes_a_reference(void)
{
    struct bench bench;
    struct reference reference = {.size = 5, .source = 1};
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    offer(&bench, 7, 1, 1000);
    memcpy(reference.token, token_of(bench.workers), TOKEN_SIZE);
    reference.token[TOKEN_SIZE - 1] ^= 1;
    asked_to_read(&bench, 10, 7);
    say(bench.worker, 10, 0, &reference, sizeof reference);
    struct message message = expect_answer(&bench, 10, 0);
    CHECK(message.length == sizeof message.out + sizeof reference);
    CHECK(memcmp(message.bytes + sizeof message.out, &reference, sizeof reference) == 0);
    reference.token[TOKEN_SIZE - 1] ^= 1;
    for (size_t size = TOKEN_SIZE; size <= sizeof reference; size += sizeof reference - TOKEN_SIZE - 1) {
        asked_to_read(&bench, 12 + 2 * size, 7); /* too short to be one */
        say(bench.worker, 12 + 2 * size, 0, &reference, size);
        CHECK(expect_answer(&bench, 12 + 2 * size, 0).length == sizeof message.out + size);
    }
    ask(bench.kernel, FUSE_READLINK, 14, 7, NULL, 0); /* not a READ */
    expect_request(&bench, FUSE_READLINK, 14);
    say(bench.worker, 14, 0, &reference, sizeof reference);
    CHECK(expect_answer(&bench, 14, 0).length == sizeof message.out + sizeof reference);
    CHECK(atomic_load(&bench.channel.reads.by_reference) == 0);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

/* However the two sockets race, a reference gets the file it was made for. */
static void references_outlive_what_follows_them(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    uint64_t unique = 100;
    char path[96];
    for (uint32_t number = 1; number < 600; number += 3) {
        int others = source_file(&bench, 9, 100, path); /* with other bytes */
        for (uint64_t i = 0; i < 4; i++)
            asked_to_read(&bench, unique + 2 * i, 7);
        offer(&bench, 7, number, 5000);
        refer(&bench, unique, number, 3, 1000);
        refer(&bench, unique + 2, number, 5, 70);
        tell_numbered(bench.control, CONTROL_SOURCE, 7, number + 1, &others, 1);
        tell(bench.control, CONTROL_FORGET_SOURCE, 7, NULL, 0);
        offer(&bench, 7, number + 2, 300);
        refer(&bench, unique + 4, number + 2, 0, 300);
        refer(&bench, unique + 6, number, 11, 80);
        expect_bytes(&bench, unique, 7, 3, 1000);
        expect_bytes(&bench, unique + 2, 7, 5, 70);
        expect_bytes(&bench, unique + 4, 7, 0, 300);
        /* Made after its source was taken back: the worker's mistake, and never other bytes. */
        struct message message = hear(bench.kernel);
        CHECK(message.out.unique == unique + 6);
        CHECK(message.out.error == -EIO || message.length == sizeof message.out + 80);
        unique += 8;
        close(others);
        unlink(path);
    }
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void wait_for_loss(struct bench *bench)
{
    struct pollfd event = {.fd = bench->channel.event_fd, .events = POLLIN};
    while (atomic_load(&bench->channel.worker_state) != WORKER_ABSENT) {
        CHECK(poll(&event, 1, 20000) == 1);
        quiet(bench->channel.event_fd);
    }
}

static void sources_go_with_their_worker(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    offer(&bench, 7, 1, 1000);
    asked_to_read(&bench, 10, 7);
    asked_to_read(&bench, 12, 7);
    refer(&bench, 10, 1, 10, 20);
    bench_kill_worker(&bench);
    expect_bytes(&bench, 10, 7, 10, 20); /* what it had written is delivered */
    wait_for_loss(&bench);
    bench_attach(&bench);
    expect_request(&bench, FUSE_INIT, 2);
    say_init(&bench, 2);
    CHECK(hear(bench.kernel).out.error == NOTIFY_RESEND);
    asked_to_read(&bench, 12 | UNIQUE_RESENT, 7);
    refer(&bench, 12 | UNIQUE_RESENT, 1, 0, 1); /* not this worker's */
    expect_answer(&bench, 12 | UNIQUE_RESENT, EIO);
    struct reference old = {.size = 1, .source = 1};
    memcpy(old.token, token_of(bench.workers - 1), TOKEN_SIZE);
    asked_to_read(&bench, 14, 7);
    say(bench.worker, 14, 0, &old, sizeof old); /* its predecessor's token means nothing */
    CHECK(expect_answer(&bench, 14, 0).length == sizeof(struct fuse_out_header) + sizeof old);
    offer(&bench, 7, 1, 1000);
    asked_to_read(&bench, 16, 7);
    refer(&bench, 16, 1, 0, 1000);
    expect_bytes(&bench, 16, 7, 0, 1000);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void bad_sources_are_refused(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    int fds[3] = {backing_file(&bench, O_RDWR), open("/dev/zero", O_RDONLY | O_CLOEXEC),
                  open("/proc/self/status", O_RDONLY | O_CLOEXEC)};
    for (size_t i = 0; i < 3; i++)
        tell_numbered(bench.control, CONTROL_SOURCE, 7, 1, fds + i, 1);
    tell_numbered(bench.control, CONTROL_SOURCE, 7, 1, NULL, 0);
    asked_to_read(&bench, 10, 7);
    refer(&bench, 10, 1, 0, 1);
    expect_answer(&bench, 10, EIO);
    CHECK(atomic_load(&bench.channel.control.refused) == 4);
    for (size_t i = 0; i < 3; i++)
        close(fds[i]);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

/* More than the ring holds, none of it in the page cache as far as the file system can tell, and the end
 * in the middle of it: each is answered once. */
static void the_end_answers_who_waits_for_the_disk(void)
{
    struct bench bench;
    char path[96];
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    int fd = source_file(&bench, 7, READ_MAX, path);
    tell_numbered(bench.control, CONTROL_SOURCE, 7, 1, &fd, 1);
    fsync(fd);
    for (uint64_t id = 100; id < 100 + 4 * DISK_READS; id += 2)
        asked_to_read(&bench, id, 7);
    for (uint64_t id = 100; id < 100 + 4 * DISK_READS; id += 2) {
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        refer(&bench, id, 1, 100, id % 4 == 0 ? 2000 : READ_MAX); /* the latter ends too early */
    }
    for (int i = 0; i < 10; i++)
        hear(bench.kernel);
    channel_stop(&bench.channel);
    for (int i = 10; i < 2 * DISK_READS; i++) {
        struct message message = hear(bench.kernel);
        CHECK(message.out.error == 0 || message.out.error == -EIO || message.out.error == -ENOTCONN);
    }
    char byte;
    CHECK(recv(bench.kernel, &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    close(fd);
    unlink(path);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static int null(void)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

static void the_table_forgets_the_one_used_longest_ago(void)
{
    static struct sources sources;
    struct slow slow;
    CHECK(slow_init(&slow, -1) == 0); /* not started: it closes on the spot */
    sources.slow = &slow;
    for (uint32_t i = 1; i <= SOURCES_MAX; i++)
        sources_offer(&sources, i, i, null());
    CHECK(sources_find(&sources, 1, 1) >= 0 && sources_find(&sources, 1, 2) < 0 && sources_find(&sources, 0, 0) < 0);
    sources_offer(&sources, 1000, 1000, null());
    CHECK(sources.count == SOURCES_MAX + 1 && sources.leaving == 1);
    CHECK(sources_find(&sources, 2, 2) >= 0); /* leaving, but replies that wait may still name it */
    sources_settle(&sources);
    CHECK(sources.count == SOURCES_MAX && sources.leaving == 0);
    CHECK(sources_find(&sources, 2, 2) < 0 && sources_find(&sources, 1, 1) >= 0);
    for (uint32_t number = 2001; number <= 2000 + 3 * SOURCES_LEAVING; number++) {
        sources_offer(&sources, 5, number, null()); /* the oldest of those that leave make room */
        CHECK(sources_find(&sources, 5, number) >= 0);
        CHECK(sources.count <= SOURCES_MAX + SOURCES_LEAVING && sources.leaving <= SOURCES_LEAVING);
    }
    CHECK(sources_find(&sources, 5, 2001) < 0 && sources_find(&sources, 5, 1999 + 3 * SOURCES_LEAVING) >= 0);
    sources_forget(&sources, 5);
    sources_forget(&sources, 5);
    sources_forget(&sources, 4444);
    sources_settle(&sources);
    CHECK(sources.count == SOURCES_MAX - 1 && sources_find(&sources, 5, 2000 + 3 * SOURCES_LEAVING) < 0);
    sources_clear(&sources);
    CHECK(sources.count == 0 && sources.leaving == 0);
    slow_destroy(&slow);
}

int main(void)
{
    int before = open_files();
    all_of_it_or_nothing();
    only_the_token_makes_a_reference();
    references_outlive_what_follows_them();
    sources_go_with_their_worker();
    bad_sources_are_refused();
    the_end_answers_who_waits_for_the_disk();
    the_table_forgets_the_one_used_longest_ago();
    CHECK(open_files() == before);
    puts("references hold");
    return 0;
}
