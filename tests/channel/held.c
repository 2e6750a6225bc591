/* Held files, yielding and notes of opens, driven message by message. */
#include "bench.h"

#include <sys/file.h>

static void path_of(struct bench *bench, uint64_t node, char path[96])
{
    snprintf(path, 96, "%s/%llu", bench->folder, (unsigned long long)node);
}

/* As a worker registers an object: it has its name, and the descriptor carries a lock. */
static void tell_locked(struct bench *bench, uint32_t op, uint64_t node, uint32_t number)
{
    char path[96];
    path_of(bench, node, path);
    int fd = open(path, O_RDONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK(fd >= 0 && flock(fd, LOCK_SH | LOCK_NB) == 0);
    tell_numbered(bench->control, op, node, number, &fd, 1);
    close(fd);
}

/* Open a node through the worker, which registers it in time with a lock. */
static struct open_out open_locking(struct bench *bench, uint64_t node)
{
    uint64_t id = unique();
    ask_open(bench->kernel, id, node);
    expect_request(bench, FUSE_OPEN, id);
    tell_locked(bench, CONTROL_REGISTER, node, 0);
    say_open(bench->worker, id, node, 0);
    struct message answer = expect_answer(bench, id, 0);
    return open_of(&answer);
}

static bool is_locked(struct bench *bench, uint64_t node)
{
    char path[96];
    path_of(bench, node, path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    bool locked = flock(fd, LOCK_EX | LOCK_NB) != 0;
    close(fd);
    return locked;
}

/* What was said on the control socket is heard a moment later. */
static void wait_until_unlocked(struct bench *bench, uint64_t node)
{
    for (int i = 0; is_locked(bench, node); i++) {
        CHECK(i < 20000);
        usleep(1000);
    }
}

static void close_with_files(struct bench *bench, uint64_t first, uint64_t last)
{
    char path[96];
    for (uint64_t node = first; node <= last; node++) {
        path_of(bench, node, path);
        unlink(path);
    }
    bench_close(bench);
    bench_kill_worker(bench);
}

/* The only held node, as it is now. */
static struct node held_node(struct bench *bench)
{
    struct node_counters counters;
    size_t count;
    struct node *nodes = nodes_snapshot(&bench->channel.nodes, &count, &counters);
    CHECK(nodes != NULL && count == 1);
    struct node node = nodes[0];
    free(nodes);
    return node;
}

static struct node_counters counters_of(struct bench *bench)
{
    struct node_counters counters;
    size_t count;
    free(nodes_snapshot(&bench->channel.nodes, &count, &counters));
    return counters;
}

static bool nothing_is_held(struct bench *bench)
{
    struct node_counters counters;
    size_t count;
    free(nodes_snapshot(&bench->channel.nodes, &count, &counters));
    return count == 0;
}

static void a_file_is_held_where_the_kernel_does_not_take_it(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, FUSE_PASSTHROUGH);
    for (int i = 0; i < 2; i++) /* registered again with every open: the later file takes the place */
        CHECK((open_locking(&bench, 7).open_flags & FOPEN_PASSTHROUGH) == 0);
    struct node node = held_node(&bench);
    CHECK(node.id == 7 && node.backing_id == 0 && node.fd != NO_FD && node.cached == 2);
    CHECK(live_backings(&bench) == 0 && is_locked(&bench, 7));
    release_by_worker(&bench, 7);
    tell(bench.control, CONTROL_RETIRE, 7, NULL, 0);
    CHECK(!yields(&bench, 7)); /* the control socket was drained: it is retiring */
    CHECK(held_node(&bench).retiring && is_locked(&bench, 7));
    release_by_worker(&bench, 7); /* of a page-cached handle, and the last one */
    wait_until_unlocked(&bench, 7);
    /* Idle, it stays held until it is retired. */
    CHECK((open_locking(&bench, 7).open_flags & FOPEN_PASSTHROUGH) == 0);
    release_by_worker(&bench, 7);
    CHECK(held_node(&bench).cached == 0 && is_locked(&bench, 7));
    tell(bench.control, CONTROL_RETIRE, 7, NULL, 0);
    wait_until_unlocked(&bench, 7);
    CHECK(nothing_is_held(&bench));
    close_with_files(&bench, 7, 7);
}

static void the_budget_spares_what_is_open(void)
{
    struct bench bench;
    bench_open(&bench, 1, 0);
    bench_init(&bench, FUSE_PASSTHROUGH);
    open_locking(&bench, 7);
    open_locking(&bench, 8);
    CHECK(held_node(&bench).id == 7 && is_locked(&bench, 7)); /* 8 found no room */
    release_by_worker(&bench, 8);
    release_by_worker(&bench, 7);
    open_locking(&bench, 8);
    CHECK(held_node(&bench).id == 8 && is_locked(&bench, 8));
    wait_until_unlocked(&bench, 7);
    CHECK(counters_of(&bench).over_budget == 1 && counters_of(&bench).budget_retired == 1);
    close_with_files(&bench, 7, 8);
    /* The same with a kernel that takes them, and a page-cached handle from before. */
    bench_open(&bench, 1, 0);
    bench_init(&bench, 0);
    open_by_worker(&bench, 7, 0);
    tell_locked(&bench, CONTROL_REGISTER, 7, 0);
    CHECK((open_locking(&bench, 8).open_flags & FOPEN_PASSTHROUGH) == 0);
    CHECK(held_node(&bench).id == 7 && live_backings(&bench) == 1);
    release_by_worker(&bench, 7);
    CHECK(open_by_keeper(&bench, 7).backing_id == 1);
    close_with_files(&bench, 7, 8);
}

static void a_held_file_can_still_be_registered(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    set_failure(&bench, ELOOP);
    CHECK((open_locking(&bench, 7).open_flags & FOPEN_PASSTHROUGH) == 0);
    CHECK(held_node(&bench).backing_id == 0 && nodes_last_error(&bench.channel.nodes) == ELOOP);
    tell(bench.control, CONTROL_RETIRE, 7, NULL, 0);
    CHECK(!yields(&bench, 7));
    set_failure(&bench, 0);
    CHECK((open_locking(&bench, 7).open_flags & FOPEN_PASSTHROUGH) == 0); /* a cached handle is open */
    struct node node = held_node(&bench);
    CHECK(node.backing_id == 1 && node.cached == 2 && !node.retiring); /* the retired file was replaced */
    release_by_worker(&bench, 7);
    release_by_worker(&bench, 7);
    CHECK(open_by_keeper(&bench, 7).backing_id == 1);
    release_by_keeper(&bench, 7);
    CHECK(is_locked(&bench, 7) && yields(&bench, 7) && live_backings(&bench) == 0);
    close_with_files(&bench, 7, 7);
}

static void a_node_yields_when_nobody_has_it_open(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    CHECK(yields(&bench, 7)); /* never heard of */
    CHECK(open_locking(&bench, 7).backing_id == 1);
    CHECK(!yields(&bench, 7));
    CHECK(open_by_keeper(&bench, 7).backing_id == 1); /* as if nothing had been asked */
    release_by_keeper(&bench, 7);
    CHECK(!yields(&bench, 7) && is_locked(&bench, 7));
    release_by_keeper(&bench, 7);
    CHECK(yields(&bench, 7));
    CHECK(!is_locked(&bench, 7)); /* closed before the answer */
    CHECK(live_backings(&bench) == 0 && counters_of(&bench).yielded == 1);
    open_by_worker(&bench, 7, 0); /* page-cached, and no file is held */
    CHECK(!yields(&bench, 7));
    release_by_worker(&bench, 7);
    CHECK(yields(&bench, 7));
    /* A file without a name may be closed later. */
    char path[96];
    path_of(&bench, 7, path);
    open_locking(&bench, 7);
    release_by_keeper(&bench, 7);
    unlink(path);
    CHECK(yields(&bench, 7) && nothing_is_held(&bench));
    /* Questions may be numbered. */
    tell_numbered(bench.control, CONTROL_YIELD, 7, 4, NULL, 0);
    CHECK(hear_yield(bench.control, 7, 4));
    CHECK(atomic_load(&bench.channel.control.busy) == 3 && atomic_load(&bench.channel.control.refused) == 0);
    close_with_files(&bench, 7, 7);
}

static void an_open_on_its_way_is_busy(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    ask_open(bench.kernel, 10, 7);
    while (flight_count(&bench.channel.flight) < 1)
        usleep(1000);
    CHECK(!yields(&bench, 7) && yields(&bench, 8)); /* whether the worker has read it or not */
    expect_request(&bench, FUSE_OPEN, 10);
    CHECK(!yields(&bench, 7));
    say(bench.worker, 10, ENOENT, NULL, 0);
    expect_answer(&bench, 10, ENOENT);
    CHECK(yields(&bench, 7));
    /* Answered, and not passed on yet: whatever is looked at first. */
    for (int i = 0; i < 500; i++) {
        uint64_t id = unique();
        ask_open(bench.kernel, id, 7);
        expect_request(&bench, FUSE_OPEN, id);
        tell(bench.control, CONTROL_YIELD, 7, NULL, 0);
        say_open(bench.worker, id, 7, 0);
        CHECK(!hear_yield(bench.control, 7, 0));
        expect_answer(&bench, id, 0);
        release_by_worker(&bench, 7);
    }
    /* Out of the table, and not counted yet. */
    int control[2];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) == 0);
    channel_stop(&bench.channel);
    bench.channel.control.opening = 7;
    for (uint64_t node = 7; node <= 8; node++) {
        tell(control[1], CONTROL_YIELD, node, NULL, 0);
        CHECK(control_drain(&bench.channel.control, control[0]) == 0);
        CHECK(hear_yield(control[1], node, 0) == (node == 8));
    }
    close(control[0]);
    close(control[1]);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void a_source_is_forgotten_before_its_node_yields(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    tell_locked(&bench, CONTROL_SOURCE, 7, 1);
    tell_locked(&bench, CONTROL_SOURCE, 7, 2); /* the first one is leaving */
    CHECK(!yields(&bench, 7) && is_locked(&bench, 7));
    tell(bench.control, CONTROL_FORGET_SOURCE, 7, NULL, 0);
    CHECK(yields(&bench, 7)); /* without waiting until the FUSE socket was seen empty */
    CHECK(!is_locked(&bench, 7));
    /* With a handle replies may still refer to what is leaving. */
    open_by_worker(&bench, 7, 0);
    ask_read(bench.kernel, 20, 7);
    expect_request(&bench, FUSE_READ, 20);
    offer(&bench, 7, 3, 1000);
    refer(&bench, 20, 3, 0, 1000);
    tell(bench.control, CONTROL_FORGET_SOURCE, 7, NULL, 0);
    CHECK(!yields(&bench, 7));
    expect_answer(&bench, 20, 0);
    release_by_worker(&bench, 7);
    CHECK(yields(&bench, 7));
    close_with_files(&bench, 7, 7);
}

static void a_worker_that_hears_no_answers_holds_nothing_up(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    while (atomic_load(&bench.channel.control.unanswered) == 0)
        tell(bench.control, CONTROL_YIELD, 7, NULL, 0);
    CHECK(open_registering(&bench, 7, 0).backing_id == 1);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void opens_by_the_keeper_are_noted_once(void)
{
    struct bench bench;
    const struct opened *opened;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    for (uint64_t node = 7; node <= 8; node++)
        CHECK(open_registering(&bench, node, 0).backing_id > 0); /* the worker saw these */
    CHECK(nodes_take_opens(&bench.channel.nodes, &opened) == 0);
    for (int i = 0; i < 3; i++)
        for (uint64_t node = 7; node <= 8; node++)
            CHECK(open_by_keeper(&bench, node).backing_id > 0);
    CHECK(nodes_take_opens(&bench.channel.nodes, &opened) == 2);
    CHECK(opened[0].node == 7 && opened[1].node == 8 && opened[0].at > 0);
    CHECK(nodes_take_opens(&bench.channel.nodes, &opened) == 0);
    open_by_keeper(&bench, 8);
    for (int i = 0; i < 5; i++)
        release_by_keeper(&bench, 8);
    CHECK(yields(&bench, 8)); /* a note outlives the held file */
    CHECK(nodes_take_opens(&bench.channel.nodes, &opened) == 1 && opened[0].node == 8);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void notes_beyond_the_room_are_counted(void)
{
    struct fake_backing backing = {.next_id = 0};
    struct nodes nodes;
    const struct opened *opened;
    int32_t backing_id;
    int to_close[2];
    const int no_file = 1 << 30; /* a number that is no descriptor */
    pthread_mutex_init(&backing.lock, NULL);
    CHECK(nodes_init(&nodes, (struct backing_ops){fake_open, fake_close, &backing}, 10) == 0);
    nodes_enable(&nodes, true);
    for (uint64_t node = 1; node <= OPENED_MAX + 5; node++) {
        CHECK(nodes_register(&nodes, node, no_file, to_close) == 0);
        CHECK(nodes_open(&nodes, node, OPENER_KEEPER, &backing_id) == OPEN_PASSTHROUGH);
        CHECK(nodes_release(&nodes, node, to_close));
        CHECK(nodes_yield(&nodes, node, to_close) && to_close[0] == no_file);
    }
    CHECK(nodes.counters.opens_dropped == 5);
    CHECK(nodes_take_opens(&nodes, &opened) == OPENED_MAX && opened[OPENED_MAX - 1].node == OPENED_MAX);
    nodes_destroy(&nodes);
    pthread_mutex_destroy(&backing.lock);
}

int main(void)
{
    int before = open_files();
    a_file_is_held_where_the_kernel_does_not_take_it();
    the_budget_spares_what_is_open();
    a_held_file_can_still_be_registered();
    a_node_yields_when_nobody_has_it_open();
    an_open_on_its_way_is_busy();
    a_source_is_forgotten_before_its_node_yields();
    a_worker_that_hears_no_answers_holds_nothing_up();
    opens_by_the_keeper_are_noted_once();
    notes_beyond_the_room_are_counted();
    CHECK(open_files() == before);
    puts("files are held");
    return 0;
}
