/* The channel's rules, one function each, driven message by message. */
#include "bench.h"
#include "signals.h"

static void init_is_negotiated(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    ask_init(&bench, 2, 0);
    struct message offer = hear(bench.worker);
    struct fuse_init_in init;
    memcpy(&init, offer.bytes + sizeof offer.in, sizeof init);
    CHECK((init.flags & (FUSE_WRITEBACK_CACHE | FUSE_SPLICE_READ | FUSE_NO_OPEN_SUPPORT)) == 0);
    CHECK((init.flags & FUSE_MAX_PAGES) != 0);
    say_init(&bench, 2);
    struct message answer = expect_answer(&bench, 2, 0);
    struct init_out out;
    memcpy(&out, answer.bytes + sizeof answer.out, sizeof out);
    uint64_t flags = out.flags | (uint64_t)out.flags2 << 32;
    CHECK((flags & FUSE_WRITEBACK_CACHE) == 0);
    CHECK((flags & FUSE_PASSTHROUGH) && (flags & FUSE_DIRECT_IO_ALLOW_MMAP) && (flags & FUSE_HAS_RESEND));
    CHECK(out.max_stack_depth == 1 && out.max_pages == 256 && out.max_background > 12);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void an_old_kernel_gets_no_passthrough(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    struct init_out out = bench_init(&bench, FUSE_PASSTHROUGH | FUSE_HAS_RESEND | FUSE_INIT_EXT);
    CHECK(out.flags2 == 0 && out.max_stack_depth == 0);
    tell_register(&bench, 7);
    CHECK((open_by_worker(&bench, 7, 0).open_flags & FOPEN_PASSTHROUGH) == 0);
    CHECK(live_backings(&bench) == 0);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void a_registered_node_is_opened_by_the_keeper(void)
{
    struct bench bench;
    bench_open(&bench, 10, 50);
    bench_init(&bench, 0);
    struct open_out out = open_registering(&bench, 7, FOPEN_KEEP_CACHE | FOPEN_DIRECT_IO);
    CHECK(out.open_flags == (FOPEN_PASSTHROUGH | FOPEN_NOFLUSH) && out.backing_id == 1);
    out = open_by_keeper(&bench, 7);
    CHECK(out.open_flags == (FOPEN_PASSTHROUGH | FOPEN_NOFLUSH) && out.backing_id == 1 && out.fh == 7);
    release_by_keeper(&bench, 7);
    release_by_keeper(&bench, 7);
    CHECK(live_backings(&bench) == 1);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void modes_never_mix(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    struct open_out out = open_by_worker(&bench, 7, FOPEN_KEEP_CACHE | FOPEN_PASSTHROUGH);
    CHECK(out.open_flags == (FOPEN_KEEP_CACHE | FOPEN_NOFLUSH) && out.backing_id == 0);
    tell_register(&bench, 7);
    out = open_by_worker(&bench, 7, FOPEN_KEEP_CACHE); /* registered, but a cached handle is open */
    CHECK((out.open_flags & FOPEN_PASSTHROUGH) == 0);
    release_by_worker(&bench, 7);
    CHECK((open_by_worker(&bench, 7, 0).open_flags & FOPEN_PASSTHROUGH) == 0);
    release_by_worker(&bench, 7);
    release_by_worker(&bench, 7);
    CHECK(open_by_keeper(&bench, 7).backing_id == 1); /* the last cached handle is gone */
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void a_retiring_id_lives_until_its_last_release(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    CHECK(open_registering(&bench, 7, 0).backing_id == 1);
    tell(bench.control, CONTROL_RETIRE, 7, NULL, 0);
    CHECK(open_registering(&bench, 8, 0).backing_id == 2); /* control was drained: 7 is retiring */
    CHECK(open_by_keeper(&bench, 7).backing_id == 1);
    release_by_keeper(&bench, 7);
    CHECK(live_backings(&bench) == 2);
    release_by_keeper(&bench, 7);
    CHECK(live_backings(&bench) == 1);
    CHECK((open_by_worker(&bench, 7, 0).open_flags & FOPEN_PASSTHROUGH) == 0);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void the_budget_retires_the_idlest(void)
{
    struct bench bench;
    bench_open(&bench, 2, 0);
    bench_init(&bench, 0);
    for (uint64_t node = 7; node <= 8; node++)
        CHECK(open_registering(&bench, node, 0).backing_id > 0);
    /* Both are open: refused, and the open stays page-cached. */
    CHECK((open_registering(&bench, 9, 0).open_flags & FOPEN_PASSTHROUGH) == 0);
    release_by_worker(&bench, 9);
    release_by_keeper(&bench, 8); /* idle first */
    release_by_keeper(&bench, 7);
    CHECK(open_registering(&bench, 9, 0).backing_id == 3);
    CHECK(open_by_keeper(&bench, 7).backing_id == 1); /* 8 went, 7 stayed */
    CHECK(live_backings(&bench) == 2);
    struct node_counters counters;
    size_t count;
    free(nodes_snapshot(&bench.channel.nodes, &count, &counters));
    CHECK(count == 2 && counters.over_budget == 1 && counters.budget_retired == 1);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void bad_descriptors_are_refused(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    int fds[2] = {backing_file(&bench, O_RDWR), open("/dev/null", O_RDONLY | O_CLOEXEC)};
    tell(bench.control, CONTROL_REGISTER, 7, fds, 1);      /* opened for writing */
    tell(bench.control, CONTROL_REGISTER, 7, fds + 1, 1);  /* a device */
    tell(bench.control, CONTROL_REGISTER, 7, NULL, 0);     /* none at all */
    tell(bench.control, CONTROL_REGISTER, 7, fds, 2);
    tell(bench.control, 99, 7, fds, 1);                    /* no such operation */
    CHECK(send(bench.control, "short", 5, MSG_NOSIGNAL) == 5);
    int elsewhere = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    tell(bench.control, CONTROL_REGISTER, 7, &elsewhere, 1); /* another file system */
    int folder = open(bench.folder, O_RDONLY | O_CLOEXEC);
    tell(bench.control, CONTROL_REGISTER, 7, &folder, 1);
    CHECK((open_by_worker(&bench, 7, 0).open_flags & FOPEN_PASSTHROUGH) == 0);
    CHECK(atomic_load(&bench.channel.control.refused) == 8);
    CHECK(live_backings(&bench) == 0);
    set_failure(&bench, ELOOP);
    tell_register(&bench, 8);
    CHECK((open_by_worker(&bench, 8, 0).open_flags & FOPEN_PASSTHROUGH) == 0);
    CHECK(nodes_last_error(&bench.channel.nodes) == ELOOP);
    for (int i = 0; i < 2; i++)
        close(fds[i]);
    close(elsewhere);
    close(folder);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void what_the_keeper_answers_itself(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    struct fuse_flush_in flush = {.fh = 7};
    ask(bench.kernel, FUSE_FLUSH, 10, 7, &flush, sizeof flush);
    expect_answer(&bench, 10, ENOSYS);
    struct fuse_ioctl_in ioctl = {.fh = 7, .cmd = 0x5401};
    ask(bench.kernel, FUSE_IOCTL, 11, 7, &ioctl, sizeof ioctl);
    expect_answer(&bench, 11, ENOTTY);
    struct fuse_forget_in forget = {.nlookup = 1};
    ask(bench.kernel, FUSE_FORGET, 12, 7, &forget, sizeof forget); /* swallowed */
    struct fuse_open_in writing = {.flags = O_RDWR};
    ask(bench.kernel, FUSE_OPEN, 14, 7, &writing, sizeof writing);
    expect_answer(&bench, 14, EROFS);
    ask_open(bench.kernel, 16, 7); /* ENOSYS would switch opens off for good */
    expect_request(&bench, FUSE_OPEN, 16);
    say(bench.worker, 16, ENOSYS, NULL, 0);
    expect_answer(&bench, 16, EIO);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void malformed_messages_of_a_worker_are_dropped(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    ask(bench.kernel, FUSE_GETATTR, 10, 1, NULL, 0);
    expect_request(&bench, FUSE_GETATTR, 10);
    CHECK(send(bench.worker, "x", 1, MSG_NOSIGNAL) == 1);
    struct fuse_out_header lying = {.len = 400, .unique = 10};
    CHECK(send(bench.worker, &lying, sizeof lying, MSG_NOSIGNAL) == sizeof lying);
    say(bench.worker, 4444, 0, NULL, 0);                     /* nobody asked */
    struct fuse_out_header notification = {.len = sizeof notification, .error = NOTIFY_RESEND};
    CHECK(send(bench.worker, &notification, sizeof notification, MSG_NOSIGNAL) > 0); /* not a worker's to say */
    char *huge = calloc(1, MESSAGE_MAX + 1);
    CHECK(send(bench.worker, huge, MESSAGE_MAX + 1, MSG_NOSIGNAL) > 0);
    free(huge);
    struct fuse_notify_inval_inode_out inode = {.ino = 7};
    struct message message;
    message.out = (struct fuse_out_header){.len = sizeof message.out + sizeof inode, .error = FUSE_NOTIFY_INVAL_INODE};
    memcpy(message.bytes + sizeof message.out, &inode, sizeof inode);
    CHECK(send(bench.worker, message.bytes, message.out.len, MSG_NOSIGNAL) > 0);
    struct message heard = hear(bench.kernel); /* the invalidation is the only one that passes */
    CHECK(heard.out.unique == 0 && heard.out.error == FUSE_NOTIFY_INVAL_INODE);
    say(bench.worker, 10, 0, "attributes", 10);
    expect_answer(&bench, 10, 0);
    CHECK(atomic_load(&bench.channel.counters.bad_messages) == 4);
    CHECK(atomic_load(&bench.channel.counters.stale_replies) == 1);
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

/* A notification of the worker about a name of so many bytes. */
static void invalidate(struct bench *bench, size_t length)
{
    struct message message;
    struct fuse_notify_inval_entry_out entry = {.parent = 7, .namelen = (uint32_t)length};
    memset(&message, 'n', sizeof message);
    message.out = (struct fuse_out_header){.len = (uint32_t)(sizeof message.out + sizeof entry + length + 1),
                                           .error = FUSE_NOTIFY_INVAL_ENTRY};
    memcpy(message.bytes + sizeof message.out, &entry, sizeof entry);
    message.bytes[message.out.len - 1] = 0;
    CHECK(send(bench->worker, message.bytes, message.out.len, MSG_NOSIGNAL) > 0);
}

static void mark(struct bench *bench, uint64_t number)
{
    struct notify_mark mark = {.number = number};
    say(bench->worker, 0, -NOTIFY_MARK, &mark, sizeof mark);
}

static void a_worker_hears_that_the_kernel_was_told(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    for (uint64_t number = 1; number < 100; number++) {
        for (size_t length = 1; length < 255; length += 9)
            invalidate(&bench, length);
        mark(&bench, number << 40);
        struct control_message told;
        CHECK(receive(bench.control, &told, sizeof told) == sizeof told);
        CHECK(told.op == CONTROL_TOLD && told.number == 0 && told.node == number << 40);
        for (size_t length = 1; length < 255; length += 9) /* all of it is there, and not only on its way */
            CHECK(recv(bench.kernel, &told, sizeof told, MSG_DONTWAIT) > 0);
    }
    CHECK(atomic_load(&bench.channel.counters.bad_messages) == 0);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void a_worker_whose_notification_cannot_be_kept_is_cut_off(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    for (int i = 0; i < 2; i++) {
        if (i == 0)
            invalidate(&bench, 4000);
        else
            say(bench.worker, 0, -NOTIFY_MARK, "mark", 4);
        wait_for_loss(&bench);
        CHECK(atomic_load(&bench.channel.counters.bad_messages) == (uint64_t)i + 1);
        bench_kill_worker(&bench);
        bench_attach(&bench);
        expect_request(&bench, FUSE_INIT, 2);
        say_init(&bench, 2);
        CHECK(hear(bench.kernel).out.error == NOTIFY_RESEND);
    }
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void what_waits_in_the_kernel_is_kept(void)
{
    struct slow slow;
    int fuse[2], control[2], size = 4096;
    char notice[64] = "notification", heard[64];
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fuse) == 0);
    CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) == 0);
    setsockopt(fuse[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    CHECK(slow_init(&slow, fuse[0]) == 0 && slow_start(&slow) == 0);
    for (int i = 0; i < 1000; i++)
        CHECK(slow_notify(&slow, notice, sizeof notice));
    CHECK(slow_say(&slow, control[0], "told", 4));
    int closed = open("/dev/null", O_RDONLY | O_CLOEXEC);
    size_t more = 0;
    while (slow_notify(&slow, notice, sizeof notice))
        more++;
    CHECK(more > CHORES - 1100 && !slow_say(&slow, control[0], "full", 4));
    slow_close(&slow, closed); /* never waits for the kernel where it finds no room */
    CHECK(fcntl(closed, F_GETFD) < 0 && errno == EBADF);
    CHECK(recv(control[1], heard, sizeof heard, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    for (int i = 0; i < 1000; i++)
        CHECK(receive(fuse[1], heard, sizeof heard) == sizeof notice);
    CHECK(receive(control[1], heard, sizeof heard) == 4 && memcmp(heard, "told", 4) == 0);
    while (more-- > 0)
        CHECK(receive(fuse[1], heard, sizeof heard) == sizeof notice);
    CHECK(slow_say(&slow, control[0], "last", 4));
    CHECK(receive(control[1], heard, sizeof heard) == 4 && memcmp(heard, "last", 4) == 0);
    slow_stop(&slow);
    slow_destroy(&slow);
    for (int i = 0; i < 2; i++)
        CHECK(close(fuse[i]) == 0 && close(control[i]) == 0);
}

static void a_successor_takes_over(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    CHECK(open_registering(&bench, 7, 0).backing_id == 1);
    ask(bench.kernel, FUSE_GETATTR, 10, 1, NULL, 0);
    ask(bench.kernel, FUSE_GETATTR, 12, 1, NULL, 0);
    expect_request(&bench, FUSE_GETATTR, 10); /* 12 stays unread: the socket ends with a reset */
    say(bench.worker, 10, 0, "last words", 10);
    bench_kill_worker(&bench);
    expect_answer(&bench, 10, 0); /* what was written before the death is delivered */
    wait_for_loss(&bench);
    CHECK(open_by_keeper(&bench, 7).backing_id == 1); /* opens of complete files do not notice */
    ask(bench.kernel, FUSE_GETATTR, 14, 1, NULL, 0);  /* held, once it was read: 12 waits there too */
    while (flight_count(&bench.channel.flight) < 2)
        usleep(1000);
    bench_attach(&bench);
    expect_request(&bench, FUSE_INIT, 2);
    say(bench.worker, 12, 0, NULL, 0); /* before its INIT a worker has nothing to say */
    say_init(&bench, 2);
    struct message resend = hear(bench.kernel);
    CHECK(resend.out.unique == 0 && resend.out.error == NOTIFY_RESEND);
    for (uint64_t id = 12; id <= 14; id += 2) {
        ask(bench.kernel, FUSE_GETATTR, id | UNIQUE_RESENT, 1, NULL, 0);
        expect_request(&bench, FUSE_GETATTR, id | UNIQUE_RESENT);
        say(bench.worker, id | UNIQUE_RESENT, 0, NULL, 0);
        expect_answer(&bench, id | UNIQUE_RESENT, 0);
    }
    uint64_t id = unique() | UNIQUE_RESENT; /* a RELEASE that comes again does not count twice */
    ask_release(bench.kernel, id, 7);
    expect_request(&bench, FUSE_RELEASE, id);
    release_by_keeper(&bench, 7);
    release_by_keeper(&bench, 7);
    CHECK(atomic_load(&bench.channel.counters.takeovers) == 1);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void a_worker_that_dies_over_init_is_replaced(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    ask_init(&bench, 2, 0);
    expect_request(&bench, FUSE_INIT, 2);
    bench_kill_worker(&bench);
    wait_for_loss(&bench);
    bench_attach(&bench);
    expect_request(&bench, FUSE_INIT, 2);
    struct init_out nonsense = {.major = 3};
    say(bench.worker, 2, 0, &nonsense, sizeof nonsense); /* cut off */
    wait_for_loss(&bench);
    bench_kill_worker(&bench);
    bench_attach(&bench);
    expect_request(&bench, FUSE_INIT, 2);
    say_init(&bench, 2);
    expect_answer(&bench, 2, 0);
    ask(bench.kernel, FUSE_GETATTR, 10, 1, NULL, 0);
    expect_request(&bench, FUSE_GETATTR, 10);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void without_resend_nobody_waits_for_ever(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, FUSE_HAS_RESEND);
    ask(bench.kernel, FUSE_GETATTR, 10, 1, NULL, 0);
    expect_request(&bench, FUSE_GETATTR, 10);
    bench_kill_worker(&bench);
    expect_answer(&bench, 10, EIO);
    wait_for_loss(&bench);
    ask(bench.kernel, FUSE_GETATTR, 12, 1, NULL, 0); /* stays in the kernel's queue, or is refused */
    bench_attach(&bench);
    expect_request(&bench, FUSE_INIT, 2);
    say_init(&bench, 2);
    struct pollfd ready[2] = {{.fd = bench.worker, .events = POLLIN}, {.fd = bench.kernel, .events = POLLIN}};
    CHECK(poll(ready, 2, 20000) > 0);
    if (ready[0].revents)
        expect_request(&bench, FUSE_GETATTR, 12);
    else
        expect_answer(&bench, 12, EIO);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void the_end_answers_everyone(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    for (uint64_t id = 10; id < 30; id += 2) {
        ask(bench.kernel, FUSE_GETATTR, id, 1, NULL, 0);
        expect_request(&bench, FUSE_GETATTR, id);
    }
    channel_stop(&bench.channel);
    for (int i = 0; i < 10; i++) {
        struct message message = hear(bench.kernel);
        CHECK(message.out.error == -ENOTCONN);
    }
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void an_interrupt_is_judged_by_the_signals(void)
{
    CHECK(status_should_end("Name:\tx\nSigPnd:\t0000000000000100\nShdPnd:\t0\nSigBlk:\t0\n"));  /* KILL */
    CHECK(status_should_end("Name:\tx\nSigPnd:\t0\nShdPnd:\t0000000000004002\nSigBlk:\t0000000000004000\n"));
    CHECK(!status_should_end("Name:\tx\nSigPnd:\t0\nShdPnd:\t0000000000004000\nSigBlk:\t0000000000004000\n"));
    CHECK(!status_should_end("Name:\tx\nSigPnd:\t0000000004000000\nShdPnd:\t0000000000002000\nSigBlk:\t0\n"));
    CHECK(!status_should_end("") && !task_should_end(0) && !task_should_end(0x7fffffff));
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    ask(bench.kernel, FUSE_GETATTR, 10, 1, NULL, 0); /* asked by this process, which nobody tells to end */
    expect_request(&bench, FUSE_GETATTR, 10);
    struct fuse_interrupt_in interrupt = {.unique = 10};
    ask(bench.kernel, FUSE_INTERRUPT, 11, 0, &interrupt, sizeof interrupt);
    say(bench.worker, 10, 0, NULL, 0);
    expect_answer(&bench, 10, 0);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void many_nodes_and_requests_fit(void)
{
    struct bench bench;
    bench_open(&bench, 100000, 0);
    bench_init(&bench, 0);
    for (uint64_t i = 0; i < 5000; i++) {
        ask(bench.kernel, FUSE_GETATTR, 1000 + 2 * i, 1, NULL, 0);
        expect_request(&bench, FUSE_GETATTR, 1000 + 2 * i);
    }
    for (uint64_t i = 5000; i-- > 0;) {
        say(bench.worker, 1000 + 2 * i, 0, NULL, 0);
        expect_answer(&bench, 1000 + 2 * i, 0);
    }
    CHECK(flight_count(&bench.channel.flight) == 0);
    for (uint64_t node = 1; node <= 3000; node++)
        open_by_worker(&bench, node, 0);
    for (uint64_t node = 1; node <= 3000; node++)
        release_by_worker(&bench, node);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

int main(void)
{
    init_is_negotiated();
    an_old_kernel_gets_no_passthrough();
    a_registered_node_is_opened_by_the_keeper();
    modes_never_mix();
    a_retiring_id_lives_until_its_last_release();
    the_budget_retires_the_idlest();
    bad_descriptors_are_refused();
    what_the_keeper_answers_itself();
    malformed_messages_of_a_worker_are_dropped();
    a_worker_hears_that_the_kernel_was_told();
    a_worker_whose_notification_cannot_be_kept_is_cut_off();
    what_waits_in_the_kernel_is_kept();
    a_successor_takes_over();
    a_worker_that_dies_over_init_is_replaced();
    without_resend_nobody_waits_for_ever();
    the_end_answers_everyone();
    an_interrupt_is_judged_by_the_signals();
    many_nodes_and_requests_fit();
    puts("rules hold");
    return 0;
}
