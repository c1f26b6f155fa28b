#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/ipc/shm_beats.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/turn.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

enum { SEAT = 4, OTHER = 7 };

/* Bounds of mesh.c and of docs/configuration.md. */
enum {
    MIB = 1024 * 1024,
    SIBLING_BUSY = 8 * MIB,
    SIBLING_MAX = 32 * MIB,
    SIBLING_MOST = 40 * MIB,
    SIBLINGS_MAX = 128 * MIB,
};

/* Of shards to which there is no socket: whether anything of them can still come. */
Test(mesh, waits_for_shards_that_came_later_and_not_for_those_that_had_ended_before)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    const uint64_t mine = shardlet.ctx.identity.incarnation;
    const struct {
        unsigned seat;
        struct position wanted;
        bool heard;
    } table[] = {
        {OTHER, {0, 0}, true},
        {OTHER, {mine - 1, 0}, true},
        {OTHER, {mine - 1, 1000}, true},
        {OTHER, {mine + 1, 0}, false},
        {OTHER, {mine + 1, 1}, false},
        {SEAT, {mine, 0}, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        struct positions wanted = {0};
        wanted.of[table[i].seat] = table[i].wanted;
        cr_expect_eq(mesh_has_heard(&shardlet.parts.mesh, &wanted), table[i].heard, "row %zu", i);
    }
    shardlet_deinit(&shardlet);
}

static void flush_streams(struct shardlet *shardlet)
{
    while (!list_empty(&shardlet->ctx.dirty_streams))
        stream_end_turn(list_first(&shardlet->ctx.dirty_streams, struct stream, dirty));
}

/* The other end of a socket to a sibling. */
static int sibling(struct shardlet *shardlet, unsigned seat)
{
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(mesh_add(&shardlet->parts.mesh, seat, fds[0]), 0);
    return fds[1];
}

static void say_of(
    struct shardlet *shardlet, int fd, enum frame_type type, uint64_t number, uint64_t incarnation)
{
    const struct frame_head head = {.type = (uint8_t)type, .call = number, .conn = incarnation};
    uint8_t bytes[FRAME_HEAD_SIZE];
    frame_head_write(&head, bytes);
    cr_assert_eq(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
    shardlet_turn(shardlet);
}

static void say(struct shardlet *shardlet, int fd, enum frame_type type, uint64_t number)
{
    say_of(shardlet, fd, type, number, 0);
}

/* The type of the next frame that has come; its number must be this one. 0: none has. */
static int heard(struct shardlet *shardlet, int fd, uint64_t number)
{
    char bytes[FRAME_HEAD_SIZE];
    struct frame frame;
    size_t used;
    flush_streams(shardlet);
    if (read(fd, bytes, sizeof(bytes)) != (ssize_t)sizeof(bytes))
        return 0;
    cr_assert_eq(frame_read(bytes, sizeof(bytes), 0, &frame, &used), 0);
    cr_expect_eq(frame.head.call, number);
    return frame.head.type;
}

Test(mesh, those_that_are_there_are_asked_what_they_have_heard)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    cr_expect(
        mesh_answered(&shardlet.parts.mesh, mesh_ask(&shardlet.parts.mesh)), "there is nobody");
    int one = sibling(&shardlet, OTHER);
    int two = sibling(&shardlet, OTHER + 1);
    cr_expect_eq(heard(&shardlet, one, 0), FRAME_HELLO);

    uint64_t first = mesh_ask(&shardlet.parts.mesh);
    uint64_t second = mesh_ask(&shardlet.parts.mesh);
    int late = sibling(&shardlet, OTHER + 2);
    cr_expect_eq(heard(&shardlet, one, first), FRAME_PING);
    cr_expect_eq(heard(&shardlet, one, second), FRAME_PING);
    say(&shardlet, one, FRAME_PONG, first);
    cr_expect(!mesh_answered(&shardlet.parts.mesh, first), "the other one has not answered");
    say(&shardlet, two, FRAME_PONG, first);
    cr_expect(mesh_answered(&shardlet.parts.mesh, first));
    cr_expect(!mesh_answered(&shardlet.parts.mesh, second));
    say(&shardlet, two, FRAME_PONG, second);
    cr_expect(!mesh_answered(&shardlet.parts.mesh, second));
    close(one);
    shardlet_turn(&shardlet);
    cr_expect(mesh_answered(&shardlet.parts.mesh, second), "who has ended is not waited for");

    cr_expect_eq(heard(&shardlet, late, 0), FRAME_HELLO);
    say(&shardlet, late, FRAME_PING, 77);
    cr_expect_eq(heard(&shardlet, late, 77), FRAME_PONG);
    mesh_shut(&shardlet.parts.mesh);
    close(two);
    close(late);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

static struct position position_of(struct shardlet *shardlet, unsigned seat)
{
    struct positions positions;
    mesh_positions(&shardlet->parts.mesh, &positions);
    return positions.of[seat];
}

/* A connection that is sent now has got what the one before has said. */
Test(mesh, what_was_heard_counts_until_the_next_on_that_seat_says_where_it_stands)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    for (int round = 0; round < 2; round++) {
        uint64_t incarnation = 10 + 2 * (uint64_t)round;
        int before = sibling(&shardlet, OTHER);
        say_of(&shardlet, before, FRAME_HELLO, 5, incarnation);
        cr_assert(mesh_complete(&shardlet.parts.mesh));
        if (round > 0) { /* its end is seen first */
            close(before);
            shardlet_turn(&shardlet);
        }
        int after = sibling(&shardlet, OTHER);
        for (int i = 0; i < 2; i++) {
            struct position heard = position_of(&shardlet, OTHER);
            cr_expect(heard.incarnation == incarnation && heard.seq == 5, "round %d", round);
            shardlet_turn(&shardlet);
        }
        cr_expect_not(mesh_complete(&shardlet.parts.mesh));
        say_of(&shardlet, after, FRAME_HELLO, 0, incarnation + 1);
        struct position heard = position_of(&shardlet, OTHER);
        cr_expect(heard.incarnation == incarnation + 1 && heard.seq == 0, "round %d", round);
        cr_expect(mesh_complete(&shardlet.parts.mesh));
        close(after);
        if (round == 0)
            close(before);
        shardlet_turn(&shardlet);
    }
    mesh_shut(&shardlet.parts.mesh);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

/* What is passed on: a frame of that type, of `n` bytes in all. */
static void forward(struct shardlet *shardlet, enum frame_type type, size_t n)
{
    static char bytes[FRAME_HEAD_SIZE + FRAME_MAX_DEFAULT];
    struct frame frame;
    size_t used;
    const struct frame_head head = {
        .type = (uint8_t)type, .conn = 99, .length = (uint32_t)(n - FRAME_HEAD_SIZE)};
    frame_head_write(&head, (uint8_t *)bytes);
    cr_assert_eq(frame_read(bytes, n, FRAME_MAX_DEFAULT, &frame, &used), 0);
    mesh_forward(&shardlet->parts.mesh, 0, &frame);
}

/* Fills what waits for all siblings up to `size` bytes for each, HELLO included. */
static void fill(struct shardlet *shardlet, size_t size)
{
    size -= FRAME_HEAD_SIZE;
    for (; size > 2 * MIB; size -= MIB)
        forward(shardlet, FRAME_PUSH, MIB);
    forward(shardlet, FRAME_PUSH, size);
}

/* The heads of all frames that come from now on, until `n` have. */
static size_t read_heads(struct shardlet *shardlet, int fd, struct frame_head *heads, size_t n)
{
    static char bytes[MIB];
    struct buf in = {0};
    size_t found = 0;
    for (int idle = 0; found < n && idle < 100;) {
        flush_streams(shardlet);
        shardlet_turn(shardlet);
        ssize_t got = read(fd, bytes, sizeof(bytes));
        idle = got > 0 ? 0 : idle + 1;
        if (got > 0)
            cr_assert_eq(buf_append(&in, bytes, (size_t)got), 0);
        struct frame frame;
        size_t used;
        while (found < n && buf_len(&in) > 0 &&
               frame_read(buf_data(&in), buf_len(&in), FRAME_MAX_DEFAULT, &frame, &used) == 0) {
            heads[found++] = frame.head;
            buf_consume(&in, used);
        }
    }
    cr_expect_eq(buf_len(&in), 0u);
    buf_deinit(&in);
    return found;
}

/* How many of `n` bytes come. */
static size_t read_bytes(struct shardlet *shardlet, int fd, size_t n)
{
    static char bytes[MIB];
    size_t found = 0;
    for (int idle = 0; found < n && idle < 100;) {
        flush_streams(shardlet);
        shardlet_turn(shardlet);
        ssize_t got = read(fd, bytes, MIN(n - found, sizeof(bytes)));
        idle = got > 0 ? 0 : idle + 1;
        found += got > 0 ? (size_t)got : 0;
    }
    return found;
}

static uint64_t unheard(const struct shardlet *shardlet)
{
    return *shardlet->ctx.count->unheard;
}

/* A sibling that does not read: up to the last byte that fits, and one more. */
Test(mesh, what_waits_for_one_sibling_is_bounded)
{
    for (size_t over = 0; over < 2; over++) {
        struct shardlet shardlet;
        struct frame_head heads[64];
        shardlet_init(&shardlet, MOVE_CONF, SEAT);
        uint64_t before = unheard(&shardlet);
        int fd = sibling(&shardlet, OTHER);
        fill(&shardlet, SIBLING_MAX - 100);
        uint64_t passed = position_of(&shardlet, SEAT).seq;
        forward(&shardlet, FRAME_PUBLISH, 100 + over);
        cr_expect_eq(unheard(&shardlet), before + over);
        if (over > 0) { /* what is small goes on, behind a word of what is missing */
            forward(&shardlet, FRAME_PUSH, 40);
            forward(&shardlet, FRAME_SUBSCRIBE, 40);
            cr_expect_eq(unheard(&shardlet), before + 1, "this one fits again");
            forward(&shardlet, FRAME_PUSH, 100);
            forward(&shardlet, FRAME_PUSH, 100);
            forward(&shardlet, FRAME_DISCONNECT, 40);
            cr_expect_eq(unheard(&shardlet), before + 3);
        }
        size_t n = read_heads(&shardlet, fd, heads, ARRAY_LEN(heads));
        uint64_t last = passed;
        cr_assert_geq(n, passed + 2);
        cr_expect_eq(heads[0].type, FRAME_HELLO);
        for (size_t i = 1; i < n; i++) {
            bool skip = heads[i].type == FRAME_EXTENSION;
            if (i <= passed)
                cr_expect_eq(heads[i].call, i);
            else if (!skip)
                cr_expect_eq(heads[i].call, last + 1, "%zu: %llu after %llu", i,
                    (unsigned long long)heads[i].call, (unsigned long long)last);
            last = heads[i].call;
        }
        cr_expect_eq(last, position_of(&shardlet, SEAT).seq, "it knows how far we are");
        cr_expect_eq(n, 1 + passed + (over ? 5 : 1), "%zu", n);
        mesh_shut(&shardlet.parts.mesh);
        close(fd);
        shardlet_turn(&shardlet);
        shardlet_deinit(&shardlet);
    }
}

Test(mesh, small_frames_have_a_bound_too)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    int fd = sibling(&shardlet, OTHER);
    uint64_t before = unheard(&shardlet);
    size_t size = FRAME_HEAD_SIZE;
    for (; size + MIB <= SIBLING_MOST; size += MIB)
        forward(&shardlet, FRAME_SUBSCRIBE, MIB);
    forward(&shardlet, FRAME_UNSUBSCRIBE, SIBLING_MOST - size);
    cr_expect_eq(unheard(&shardlet), before);
    forward(&shardlet, FRAME_SUBSCRIBE, 40);
    forward(&shardlet, FRAME_UNSUBSCRIBE, 40);
    forward(&shardlet, FRAME_DISCONNECT, 40);
    cr_expect_eq(unheard(&shardlet), before + 3);
    mesh_shut(&shardlet.parts.mesh);
    close(fd);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

/* Five that do not read; a sixth that does loses nothing for their sake. */
Test(mesh, what_waits_for_all_siblings_together_is_bounded)
{
    struct shardlet shardlet;
    enum { STUCK = 5 };
    int fds[STUCK];
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    for (unsigned i = 0; i < STUCK; i++)
        fds[i] = sibling(&shardlet, OTHER + i);
    uint64_t before = unheard(&shardlet);
    size_t each = SIBLINGS_MAX / STUCK / MIB;
    for (size_t i = 0; i < each; i++)
        forward(&shardlet, FRAME_PUSH, MIB);
    cr_expect_eq(unheard(&shardlet), before, "four times what one may have");
    forward(&shardlet, FRAME_PUSH, MIB);
    uint64_t now = unheard(&shardlet);
    cr_expect(now > before && now < before + STUCK, "some of them have no room: %llu",
        (unsigned long long)(now - before));
    for (int i = 0; i < 10; i++)
        forward(&shardlet, FRAME_PUSH, MIB);
    now = unheard(&shardlet);
    int fd = sibling(&shardlet, OTHER + STUCK);
    for (int i = 0; i < 100; i++) {
        forward(&shardlet, FRAME_PUSH, MIB / 2);
        size_t wanted = MIB / 2 + (i == 0 ? FRAME_HEAD_SIZE : 0);
        cr_assert_eq(read_bytes(&shardlet, fd, wanted), wanted, "message %d", i);
        cr_assert_leq(unheard(&shardlet) - now, (uint64_t)STUCK * (unsigned)(i + 1));
    }
    mesh_shut(&shardlet.parts.mesh);
    for (unsigned i = 0; i < STUCK; i++)
        close(fds[i]);
    close(fd);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

/* A sibling that is told that something was left out has heard it, as far as positions go. */
Test(mesh, what_was_left_out_counts_as_heard)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    int fd = sibling(&shardlet, OTHER);
    say_of(&shardlet, fd, FRAME_HELLO, 5, 77);
    struct positions wanted = {0};
    wanted.of[OTHER] = (struct position){77, 1000};
    cr_expect_not(mesh_has_heard(&shardlet.parts.mesh, &wanted));
    say(&shardlet, fd, FRAME_EXTENSION, 999);
    cr_expect_not(mesh_has_heard(&shardlet.parts.mesh, &wanted));
    say(&shardlet, fd, FRAME_EXTENSION, 1000);
    cr_expect(mesh_has_heard(&shardlet.parts.mesh, &wanted));
    say(&shardlet, fd, FRAME_EXTENSION, 3); /* never back */
    cr_expect(mesh_has_heard(&shardlet.parts.mesh, &wanted));
    say(&shardlet, fd, FRAME_PUSH, 1001);
    cr_expect_eq(position_of(&shardlet, OTHER).seq, 1001u);
    mesh_shut(&shardlet.parts.mesh);
    close(fd);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

/* A sibling is waited for while it takes bytes, and not when it has taken none for a second. */
Test(mesh, who_does_not_move_is_not_waited_for)
{
    struct shardlet shardlet;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    int fd = sibling(&shardlet, OTHER);
    cr_expect_not(mesh_congested(&shardlet.parts.mesh));
    fill(&shardlet, SIBLING_BUSY);
    cr_expect_not(mesh_congested(&shardlet.parts.mesh), "so much is little");
    forward(&shardlet, FRAME_PUSH, 40);
    cr_expect(mesh_congested(&shardlet.parts.mesh), "it has just come");
    for (int i = 0; i < 4; i++) /* more than the socket's buffer takes */
        forward(&shardlet, FRAME_PUSH, MIB);
    bool congested = true;
    for (int i = 0; congested && i < 500; i++) {
        usleep(20 * 1000);
        shardlet_turn(&shardlet);
        congested = mesh_congested(&shardlet.parts.mesh);
    }
    cr_expect_not(congested);
    share_beat(shardlet.ctx.share, OTHER);
    cr_expect(mesh_congested(&shardlet.parts.mesh), "it lives, and is busy");
    mesh_shut(&shardlet.parts.mesh);
    close(fd);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

/*
 * What a sibling has sent by now, wherever it lies: it may have ended without saying it to any
 * other shard.
 */
Test(mesh, what_has_come_until_a_mark)
{
    struct shardlet shardlet;
    char bytes[1000 * FRAME_HEAD_SIZE];
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    mesh_mark(&shardlet.parts.mesh);
    cr_expect(mesh_past_mark(&shardlet.parts.mesh), "there is nobody");
    int fd = sibling(&shardlet, OTHER);
    say_of(&shardlet, fd, FRAME_HELLO, 0, 77);
    mesh_mark(&shardlet.parts.mesh);
    cr_expect(mesh_past_mark(&shardlet.parts.mesh));
    for (size_t i = 0; i < 1000; i++) {
        const struct frame_head head = {.type = FRAME_PUSH, .call = i + 1, .conn = 99};
        frame_head_write(&head, (uint8_t *)bytes + i * FRAME_HEAD_SIZE);
    }
    cr_assert_eq(write(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
    close(fd);
    mesh_mark(&shardlet.parts.mesh);
    cr_expect_not(mesh_past_mark(&shardlet.parts.mesh), "it is in the socket");
    uv_run(&shardlet.ctx.loop, UV_RUN_NOWAIT);
    cr_expect_not(mesh_past_mark(&shardlet.parts.mesh), "a part of it is carried out");
    mesh_mark(&shardlet.parts.mesh);
    int turns = 0;
    for (; !mesh_past_mark(&shardlet.parts.mesh) && turns < 100; turns++) {
        uv_run(&shardlet.ctx.loop, UV_RUN_NOWAIT);
        turn_flush(&shardlet.ctx);
        turn_go_on(&shardlet.ctx, WORK_TURN);
    }
    cr_expect(turns > 0 && turns < 100);
    cr_expect_eq(position_of(&shardlet, OTHER).seq, 1000u);
    mesh_shut(&shardlet.parts.mesh);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

/* Realms */

#define RED_CONF                                                                                   \
    "listeners: [{name: lines, address: \"127.0.0.1:8081\", protocol: line, pool: app}]\n"         \
    "pools:\n  - {name: app, realm: red, workers: [\"unix:/nonexistent/app.sock\"]}\n"             \
    "  - {name: blue, realm: blue, workers: [\"unix:/nonexistent/blue.sock\"]}\n"

enum { REALM_SIZE = 8, EXTENDED = FRAME_EXTENSION };

/* Whether the other side has closed it. */
static bool is_over(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno != EAGAIN);
}

static void send_all(struct shardlet *shardlet, int fd, const void *bytes, size_t n)
{
    for (size_t at = 0; at < n;) {
        ssize_t written = write(fd, (const char *)bytes + at, n - at);
        if (written < 0) /* it is full, or the other side has closed it */
            shardlet_turn(shardlet);
        if (written < 0 && is_over(fd))
            return;
        at += written < 0 ? 0 : (size_t)written;
    }
    shardlet_turn(shardlet);
}

/*
 * A sibling passes a push on: its body, and before that the realm where the type is extended.
 */
static void pass(
    struct shardlet *shardlet, int fd, struct frame_head head, uint64_t realm, struct span body)
{
    static char bytes[FRAME_HEAD_SIZE + REALM_SIZE + FRAME_MAX_DEFAULT + 1];
    size_t n = FRAME_HEAD_SIZE;
    if (head.type >= EXTENDED) {
        for (unsigned i = 0; i < REALM_SIZE; i++)
            bytes[n++] = (char)(realm >> (56 - 8 * i));
        head.meta_len += REALM_SIZE;
    }
    memcpy(bytes + n, body.p, body.n);
    n += body.n;
    head.length = (uint32_t)(n - FRAME_HEAD_SIZE);
    frame_head_write(&head, (uint8_t *)bytes);
    send_all(shardlet, fd, bytes, n);
}

/* A sibling that has said HELLO in that version, and passes on from number 1. */
static int greeted(struct shardlet *shardlet, uint8_t version)
{
    const struct frame_head head = {.type = FRAME_HELLO, .flags = version, .conn = 9};
    uint8_t bytes[FRAME_HEAD_SIZE];
    struct frame hello;
    size_t used;
    int fd = sibling(shardlet, OTHER);
    flush_streams(shardlet);
    cr_assert_eq(read(fd, bytes, sizeof(bytes)), (ssize_t)sizeof(bytes));
    cr_assert_eq(frame_read((char *)bytes, sizeof(bytes), 0, &hello, &used), 0);
    cr_assert(hello.head.type == FRAME_HELLO && hello.head.flags == 1, "the version of this one");
    frame_head_write(&head, bytes);
    send_all(shardlet, fd, bytes, sizeof(bytes));
    return fd;
}

static void end(struct shardlet *shardlet, int fd)
{
    mesh_shut(&shardlet->parts.mesh);
    close(fd);
    shardlet_turn(shardlet);
    shardlet_deinit(shardlet);
}

#define META "{\"topic\":\"t\"}"
#define BODY "\"body\""

static void forward_of(struct shardlet *shardlet, uint64_t realm)
{
    static const char payload[] = META BODY;
    const size_t meta = sizeof(META) - 1, body = sizeof(BODY) - 1;
    const struct frame frame = {.head = {.type = FRAME_PUBLISH,
                                    .flags = FRAME_F_BINARY,
                                    .length = (uint32_t)(meta + body),
                                    .meta_len = (uint32_t)meta},
        .meta = {payload, meta},
        .body = {payload + meta, body}};
    mesh_forward(&shardlet->parts.mesh, realm, &frame);
    flush_streams(shardlet);
}

/* What goes to a sibling: byte for byte what it was before there were realms, where none is
 * named; else an extension, with the realm in front. */
Test(mesh, what_is_passed_on_has_its_realm)
{
    static const char realm[] = "\x01\x23\x45\x67\x89\xab\xcd\xef";
    static const struct {
        uint8_t version; /* of the sibling */
        uint64_t realm;
        const char *payload;
        uint8_t type;
        uint32_t meta_len;
    } rows[] = {
        {1, 0, META BODY, FRAME_PUBLISH, sizeof(META) - 1},
        {1, 0x0123456789abcdef, META BODY, EXTENDED + FRAME_PUBLISH, sizeof(META) - 1 + REALM_SIZE},
        {0, 0, META BODY, FRAME_PUBLISH, sizeof(META) - 1},
        {0, 0x0123456789abcdef, "", EXTENDED + FRAME_PUBLISH, REALM_SIZE}, /* it only counts it */
        {2, 0x0123456789abcdef, META BODY, EXTENDED + FRAME_PUBLISH, sizeof(META) - 1 + REALM_SIZE},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct shardlet shardlet;
        shardlet_init(&shardlet, RED_CONF, SEAT);
        char bytes[256];
        struct frame frame;
        size_t used;
        int fd = greeted(&shardlet, rows[i].version);
        for (uint64_t number = 1; number <= 2; number++) {
            forward_of(&shardlet, rows[i].realm);
            ssize_t n = read(fd, bytes, sizeof(bytes));
            cr_assert(
                n > 0 && frame_read(bytes, (size_t)n, 1000, &frame, &used) == 0, "row %zu", i);
            cr_assert_eq(used, (size_t)n);
            cr_expect_eq(frame.head.type, rows[i].type);
            cr_expect_eq(frame.head.flags, FRAME_F_BINARY);
            cr_expect_eq(frame.head.call, number);
            cr_expect_eq(frame.head.meta_len, rows[i].meta_len, "row %zu", i);
            const char *payload = frame.meta.p;
            size_t rest = frame.head.length;
            if (rows[i].realm != 0) {
                cr_expect_eq(memcmp(payload, realm, REALM_SIZE), 0);
                payload += REALM_SIZE;
                rest -= REALM_SIZE;
            }
            cr_expect(
                rest == strlen(rows[i].payload) && memcmp(payload, rows[i].payload, rest) == 0);
        }
        end(&shardlet, fd);
    }
}

static uint64_t heard_so_far(struct shardlet *shardlet)
{
    return position_of(shardlet, OTHER).seq;
}

Test(mesh, what_comes_reaches_its_realm)
{
    struct shardlet shardlet;
    char out[256];
    size_t n = 0;
    int peer;
    shardlet_init(&shardlet, RED_CONF, SEAT);
    const uint64_t red = shardlet.conf->pools[0].realm_id, blue = shardlet.conf->pools[1].realm_id;
    uint64_t conn = shardlet_client(&shardlet, "lines", &peer)->conn.id;
    int fd = greeted(&shardlet, 1);
    const struct {
        uint8_t type;
        uint64_t realm;
        struct span body;
    } rows[] = {
        {EXTENDED + FRAME_PUSH, red, SPAN("1")},
        {EXTENDED + FRAME_PUSH, blue, SPAN("a stranger's")},
        {FRAME_PUSH, 0, SPAN("of no realm")},
        {EXTENDED + FRAME_PUSH, 0, SPAN("of no realm")},
        {EXTENDED + FRAME_PUSH, red, SPAN("2")},
        {EXTENDED + 100, red, SPAN("of no type that is known")},
        {EXTENDED + FRAME_HELLO, red, SPAN("HELLO is no push")},
        {EXTENDED + FRAME_DISCONNECT, blue, SPAN("")},
        {EXTENDED + FRAME_PUSH, red, SPAN("3")},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const struct frame_head head = {.type = rows[i].type, .call = i + 1, .conn = conn};
        pass(&shardlet, fd, head, rows[i].realm, rows[i].body);
        cr_expect_eq(heard_so_far(&shardlet), i + 1, "row %zu", i);
    }
    /* Too short to have a realm. */
    say_of(&shardlet, fd, (enum frame_type)(EXTENDED + FRAME_PUSH), ARRAY_LEN(rows) + 1, conn);
    cr_expect_eq(heard_so_far(&shardlet), ARRAY_LEN(rows) + 1);
    shardlet_read(peer, out, sizeof(out), &n);
    cr_expect(n == 6 && memcmp(out, "1\n2\n3\n", 6) == 0, "%.*s", (int)n, out);
    close(peer);
    end(&shardlet, fd);
}

/* That one cannot be understood, but how far it is heard counts for connections that move. */
Test(mesh, what_a_later_version_passes_on_is_counted_only)
{
    struct shardlet shardlet;
    char out[64];
    size_t n = 0;
    int peer;
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    uint64_t conn = shardlet_client(&shardlet, "lines", &peer)->conn.id;
    int fd = greeted(&shardlet, 2);
    for (uint64_t number = 1; number <= 2; number++) {
        const struct frame_head head = {.type = FRAME_PUSH, .call = number, .conn = conn};
        pass(&shardlet, fd, head, 0, SPAN("in another way"));
        cr_expect_eq(heard_so_far(&shardlet), number);
    }
    say(&shardlet, fd, FRAME_PING, 5);
    shardlet_read(peer, out, sizeof(out), &n);
    cr_expect_eq(n, 0);
    cr_expect_eq(heard(&shardlet, fd, 5), FRAME_PONG, "it is answered what it asks");
    close(peer);
    end(&shardlet, fd);
}

/* A worker's largest frame fits with its realm, and no larger one. */
Test(mesh, frames_at_their_limit)
{
    static const char body[FRAME_MAX_DEFAULT + 1];
    for (size_t over = 0; over < 2; over++) {
        struct shardlet shardlet;
        shardlet_init(&shardlet, RED_CONF, SEAT);
        int fd = greeted(&shardlet, 1);
        const struct frame_head head = {.type = EXTENDED + FRAME_PUSH, .call = 1, .conn = 77};
        pass(&shardlet, fd, head, shardlet.conf->pools[0].realm_id,
            (struct span){body, FRAME_MAX_DEFAULT + over});
        cr_expect_eq(is_over(fd), over > 0);
        cr_expect_eq(heard_so_far(&shardlet), 1 - over);
        end(&shardlet, fd);
    }
}
