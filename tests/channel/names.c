/* Expected names: what the keeper answers look-ups with, and when it must not. */
#include "bench.h"

struct packet {
    unsigned char bytes[CONTROL_MAX + 1];
    size_t length;
};

static struct fuse_entry_out entry_of(uint64_t node)
{
    struct fuse_entry_out entry = {.nodeid = node, .entry_valid = 3600, .attr = {.ino = node, .size = node * 7}};
    return entry;
}

static void begin(struct packet *packet, uint64_t folder)
{
    struct control_message message = {.op = CONTROL_NAMES, .node = folder};
    memcpy(packet->bytes, &message, sizeof message);
    packet->length = sizeof message;
}

static void add(struct packet *packet, const char *text, size_t length, uint64_t node)
{
    struct control_name name = {.entry = entry_of(node), .length = (uint8_t)length};
    memcpy(packet->bytes + packet->length, &name, sizeof name);
    memcpy(packet->bytes + packet->length + sizeof name, text, length);
    packet->length += sizeof name + length;
}

static void pass(struct bench *bench, const struct packet *packet)
{
    CHECK(send(bench->control, packet->bytes, packet->length, MSG_NOSIGNAL) == (ssize_t)packet->length);
}

static void offer_one(struct bench *bench, uint64_t folder, const char *text, uint64_t node)
{
    static _Thread_local struct packet packet;
    begin(&packet, folder);
    add(&packet, text, strlen(text), node);
    pass(bench, &packet);
}

/* The control socket is empty: a question was answered that was asked last. */
static void settle(struct bench *bench)
{
    tell(bench->control, CONTROL_YIELD, 4711, NULL, 0);
    struct control_message answer;
    CHECK(receive(bench->control, &answer, sizeof answer) == sizeof answer);
}

static void look_up(struct bench *bench, uint64_t unique, uint64_t folder, const char *text)
{
    ask(bench->kernel, FUSE_LOOKUP, unique, folder, text, strlen(text) + 1);
}

static void expect_entry(struct bench *bench, uint64_t unique, uint64_t node)
{
    struct fuse_entry_out entry, expected = entry_of(node);
    struct message message = expect_answer(bench, unique, 0);
    CHECK(message.length == sizeof message.out + sizeof entry);
    memcpy(&entry, message.bytes + sizeof message.out, sizeof entry);
    CHECK(memcmp(&entry, &expected, sizeof entry) == 0);
}

static void expect_question(struct bench *bench, uint64_t unique)
{
    expect_request(bench, FUSE_LOOKUP, unique);
    say(bench->worker, unique, ENOENT, NULL, 0);
    expect_answer(bench, unique, ENOENT);
}

static void a_name_is_answered_once(void)
{
    static struct packet packet;
    struct bench bench;
    char longest[256], name[8];
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    memset(longest, 'n', 255);
    longest[255] = 0;
    begin(&packet, 5);
    for (uint64_t i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%03u", (unsigned int)i);
        add(&packet, name, 3, 100 + i);
    }
    add(&packet, longest, 255, 7);
    pass(&bench, &packet);
    settle(&bench);
    look_up(&bench, 10, 6, "000"); /* in another folder */
    expect_question(&bench, 10);
    look_up(&bench, 12, 5, "00");
    expect_question(&bench, 12);
    for (uint64_t i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%03u", (unsigned int)i);
        look_up(&bench, 1000 + 2 * i, 5, name);
        expect_entry(&bench, 1000 + 2 * i, 100 + i);
    }
    look_up(&bench, 14, 5, longest);
    expect_entry(&bench, 14, 7);
    look_up(&bench, 16, 5, "000"); /* now the kernel knows it */
    expect_question(&bench, 16);
    offer_one(&bench, 5, "again", 8);
    offer_one(&bench, 5, "again", 9);
    settle(&bench);
    look_up(&bench, 18, 5, "again");
    expect_entry(&bench, 18, 9);
    look_up(&bench, 20, 5, "again");
    expect_question(&bench, 20);
    CHECK(names_answered(&bench.channel.names) == 102);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

/* Whichever socket the keeper looks at first. */
static void what_is_taken_back_is_not_answered(void)
{
    struct bench bench;
    struct fuse_notify_inval_entry_out gone = {.parent = 5, .namelen = 4};
    struct message message;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    for (uint64_t unique = 10; unique < 1000; unique += 2) {
        offer_one(&bench, 5, "name", 7);
        message.out = (struct fuse_out_header){.len = sizeof message.out + sizeof gone + 5,
                                               .error = FUSE_NOTIFY_INVAL_ENTRY};
        memcpy(message.bytes + sizeof message.out, &gone, sizeof gone);
        memcpy(message.bytes + sizeof message.out + sizeof gone, "name", 5);
        CHECK(send(bench.worker, message.bytes, message.out.len, MSG_NOSIGNAL) > 0);
        CHECK(hear(bench.kernel).out.error == FUSE_NOTIFY_INVAL_ENTRY);
        look_up(&bench, unique, 5, "name");
        expect_question(&bench, unique);
    }
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void names_go_with_their_worker(void)
{
    struct bench bench;
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    offer_one(&bench, 5, "name", 7);
    bench_kill_worker(&bench);
    bench_attach(&bench);
    expect_request(&bench, FUSE_INIT, 2);
    say_init(&bench, 2);
    CHECK(hear(bench.kernel).out.error == NOTIFY_RESEND);
    look_up(&bench, 10, 5, "name");
    expect_question(&bench, 10);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

static void what_is_no_name_is_refused(void)
{
    static struct packet packet;
    struct bench bench;
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    bench_open(&bench, 10, 0);
    bench_init(&bench, 0);
    for (int i = 0; i < 6; i++) {
        begin(&packet, 5);
        add(&packet, "good", 4, 7);
        if (i == 0)
            add(&packet, "", 0, 8);
        else if (i == 1)
            add(&packet, "absent", 6, 0);
        else if (i == 2) {
            add(&packet, "cut", 3, 9);
            packet.length--;
        } else if (i == 3)
            packet.length += 50;
        else if (i == 4)
            packet.length = CONTROL_MAX + 1; /* all of it is dropped */
        if (i == 5)
            tell_numbered(bench.control, CONTROL_NAMES, 5, 0, &fd, 1);
        else
            pass(&bench, &packet);
        settle(&bench);
        CHECK(atomic_load(&bench.channel.control.refused) == (uint64_t)i + 1);
        look_up(&bench, 10 + 4 * (uint64_t)i, 5, "good");
        if (i < 4)
            expect_entry(&bench, 10 + 4 * (uint64_t)i, 7);
        else
            expect_question(&bench, 10 + 4 * (uint64_t)i);
        look_up(&bench, 12 + 4 * (uint64_t)i, 5, i == 1 ? "absent" : "cut");
        expect_question(&bench, 12 + 4 * (uint64_t)i);
    }
    close(fd);
    bench_close(&bench);
    bench_kill_worker(&bench);
}

/* Names at random against what is remembered of each. */
static void the_oldest_make_room(void)
{
    enum { MANY = 3 * NAMES_MAX };
    static uint64_t value[MANY], offered_at[MANY];
    struct names names;
    struct fuse_entry_out entry;
    unsigned int seed = 11;
    uint64_t offers = 0, found = 0, evicted = 0;
    CHECK(names_init(&names) == 0);
    for (uint64_t step = 1; step < 200000; step++) {
        size_t which = (size_t)rand_r(&seed) % (step % 50000 < 25000 ? MANY : NAMES_MAX / 2);
        char text[16];
        size_t length = (size_t)snprintf(text, sizeof text, "%zx", which / 3);
        uint64_t folder = which % 3;
        int dice = rand_r(&seed) % 8;
        if (dice < 5) {
            entry = entry_of(step);
            names_offer(&names, folder, text, length, &entry);
            if (value[which] == 0 || offers - offered_at[which] > NAMES_MAX)
                offered_at[which] = offers++;
            value[which] = step;
        } else if (dice < 7) {
            bool there = names_take(&names, folder, text, length, &entry);
            bool room = value[which] != 0 && offers - offered_at[which] <= NAMES_MAX;
            CHECK(there == room);
            CHECK(!there || entry.nodeid == value[which]);
            found += there;
            evicted += value[which] != 0 && !there;
            value[which] = 0;
        } else {
            names_forget(&names, folder, text, length);
            value[which] = 0;
        }
    }
    CHECK(found > 10000 && evicted > 1000 && names_answered(&names) == found);
    names_clear(&names);
    CHECK(!names_take(&names, 0, "0", 1, &entry));
    names_destroy(&names);
}

int main(void)
{
    a_name_is_answered_once();
    what_is_taken_back_is_not_answered();
    names_go_with_their_worker();
    what_is_no_name_is_refused();
    the_oldest_make_room();
    return 0;
}
