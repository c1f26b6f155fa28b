#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/handover/message.h"
#include "frontd/shard/handover/sender.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/push/fanout.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/turn.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

/* Members of a topic, messages that siblings pass on, and turns one at a time. */
enum { SEAT = 4, ONE = 7, TWO = 8, MEMBERS = 100, TURNS_MAX = 1000, TEXT_MAX = 1 << 20 };

static struct shardlet shardlet;
static struct client *clients[MEMBERS];
static int peers[MEMBERS];
static char text[TEXT_MAX];
static int siblings[2];
static uint64_t numbers[2];

static void step(void)
{
    shardlet_step(&shardlet);
}

static void go_on_to_the_end(void)
{
    int i = 0;
    step();
    step();
    while (turn_unfinished(&shardlet.ctx)) {
        cr_assert_lt(i++, (int)TURNS_MAX);
        step();
    }
    step();
    step();
}

static int sibling(unsigned seat)
{
    int fds[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    cr_assert_eq(mesh_add(&shardlet.parts.mesh, seat, fds[0]), 0);
    return fds[1];
}

static void set_up(void)
{
    shardlet_init(&shardlet, MOVE_CONF, SEAT);
    for (unsigned i = 0; i < MEMBERS; i++) {
        clients[i] = shardlet_client(&shardlet, "lines", &peers[i]);
        cr_assert_eq(topics_join(&shardlet.parts.topics, clients[i],
                         &clients[i]->duplex->subscriptions, 0, SPAN("t"), 9),
            0);
    }
    siblings[0] = sibling(ONE);
    siblings[1] = sibling(TWO);
    numbers[0] = numbers[1] = 0;
    go_on_to_the_end();
}

static void tear_down(void)
{
    mesh_shut(&shardlet.parts.mesh);
    for (unsigned i = 0; i < MEMBERS; i++)
        close(peers[i]);
    close(siblings[0]);
    close(siblings[1]);
    go_on_to_the_end();
    cr_expect(list_empty(&shardlet.ctx.fanouts) && list_empty(&shardlet.ctx.busy_streams));
    shardlet_deinit(&shardlet);
}

TestSuite(fanout, .init = set_up, .fini = tear_down, .timeout = 60);

static size_t put(char *out, enum frame_type type, uint64_t number, uint64_t conn, const char *meta,
    const char *body)
{
    const struct frame_head head = {
        .type = (uint8_t)type,
        .call = number,
        .conn = conn,
        .length = (uint32_t)(strlen(meta) + strlen(body)),
        .meta_len = (uint32_t)strlen(meta),
    };
    frame_head_write(&head, (uint8_t *)out);
    memcpy(out + FRAME_HEAD_SIZE, meta, strlen(meta));
    memcpy(out + FRAME_HEAD_SIZE + strlen(meta), body, strlen(body));
    return FRAME_HEAD_SIZE + head.length;
}

/* So many messages from a sibling, "A1", "A2", … or "B1", …, in one write. */
static void publish(unsigned from, const char *topic, unsigned count)
{
    static char bytes[1 << 20];
    char meta[64];
    size_t n = 0;
    snprintf(meta, sizeof(meta), "{\"topic\":\"%s\"}", topic);
    for (unsigned i = 0; i < count; i++) {
        char body[32];
        uint64_t number = ++numbers[from];
        snprintf(body, sizeof(body), "%c%llu", "AB"[from], (unsigned long long)number);
        n += put(bytes + n, FRAME_PUBLISH, number, 0, meta, body);
    }
    cr_assert_eq(write(siblings[from], bytes, n), (ssize_t)n);
}

static void say(unsigned from, enum frame_type type, uint64_t conn, const char *body)
{
    char bytes[256];
    const char *meta = type == FRAME_PUSH ? "" : "{\"topic\":\"t\"}";
    size_t n = put(bytes, type, ++numbers[from], conn, meta, body);
    cr_assert_eq(write(siblings[from], bytes, n), (ssize_t)n);
}

/* What a member has been sent since this was last asked. */
static const char *sent_to(unsigned i)
{
    size_t n = 0;
    shardlet_read(peers[i], text, sizeof(text) - 1, &n);
    text[n] = '\0';
    return text;
}

static unsigned how_many_have(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MEMBERS; i++) {
        char byte;
        n += recv(peers[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
    }
    return n;
}

/* "A1\nA2\n…" */
static const char *lines(char letter, unsigned from, unsigned to)
{
    static char all[TEXT_MAX];
    size_t n = 0;
    all[0] = '\0';
    for (unsigned i = from; i <= to; i++)
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%c%u\n", letter, i);
    return all;
}

Test(fanout, goes_on_over_several_turns)
{
    unsigned before = 0;
    unsigned turns = 0;
    publish(0, "t", 1);
    for (unsigned now = 0; now < MEMBERS; turns++) {
        step();
        now = how_many_have();
        cr_assert_leq(now - before, (unsigned)WORK_TURN / WORK_WRITE + 1, "turn %u", turns);
        cr_assert_lt(turns, 100u);
        before = now;
    }
    cr_expect_gt(turns, 3u);
    go_on_to_the_end();
    for (unsigned i = 0; i < MEMBERS; i++)
        cr_expect_str_eq(sent_to(i), "A1\n");
}

/* So is what is pushed to very many, each by a frame of its own. */
Test(fanout, pushes_to_many)
{
    static char bytes[64 * 1024];
    size_t n = 0;
    unsigned before = 0;
    for (unsigned i = 0; i < MEMBERS; i++)
        n += put(bytes + n, FRAME_PUSH, ++numbers[0], clients[i]->conn.id, "", "one");
    for (unsigned i = 0; i < MEMBERS; i++)
        n += put(bytes + n, FRAME_PUSH, ++numbers[0], clients[i]->conn.id, "", "two");
    cr_assert_eq(write(siblings[0], bytes, n), (ssize_t)n);
    for (unsigned now = 0, turns = 0; now < MEMBERS; turns++) {
        step();
        now = how_many_have();
        cr_assert_leq(now - before, (unsigned)(WORK_STREAM + WORK_TURN) / WORK_WRITE + 2);
        cr_assert_lt(turns, 100u);
        before = now;
    }
    go_on_to_the_end();
    for (unsigned i = 0; i < MEMBERS; i++)
        cr_expect_str_eq(sent_to(i), "one\ntwo\n");
}

/* So are those written to that had full sockets and have room again, all at the same time. */
Test(fanout, sockets_that_were_full)
{
    enum { LENGTH = 40000, ROOM = 2048 };
    static char body[LENGTH + 1];
    static char bytes[LENGTH + 100];
    static char expected[LENGTH + 2];
    static size_t got[MEMBERS];
    const int room = ROOM;
    memset(body, 'x', LENGTH);
    snprintf(expected, sizeof(expected), "%s\n", body);
    for (unsigned i = 0; i < MEMBERS; i++)
        cr_assert_eq(setsockopt(clients[i]->fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)), 0);
    size_t n = put(bytes, FRAME_PUBLISH, ++numbers[0], 0, "{\"topic\":\"t\"}", body);
    cr_assert_eq(write(siblings[0], bytes, n), (ssize_t)n);
    go_on_to_the_end();
    unsigned left = MEMBERS;
    for (unsigned turns = 0; left > 0; turns++) {
        left = 0;
        for (unsigned i = 0; i < MEMBERS; i++) {
            size_t more = 0;
            cr_assert(turns > 0 || client_blocked(clients[i]));
            shardlet_read(peers[i], text, sizeof(text), &more);
            cr_assert(memcmp(text, expected + got[i], more) == 0);
            got[i] += more;
            left += got[i] < LENGTH + 1;
        }
        step();
        cr_assert_leq(how_many_have(), (unsigned)WORK_TURN / WORK_WRITE + POLLER_FEW);
        cr_assert_lt(turns, 10000u);
    }
    for (unsigned i = 0; i < MEMBERS; i++)
        cr_assert_not(client_blocked(clients[i]));
}

/* What has no receiver is read in parts, too. */
Test(fanout, messages_to_nobody)
{
    publish(0, "nobody", 3000);
    step();
    struct positions positions;
    mesh_positions(&shardlet.parts.mesh, &positions);
    cr_expect_leq(positions.of[ONE].seq, (uint64_t)WORK_STREAM + WORK_TURN + 2);
    cr_expect(turn_unfinished(&shardlet.ctx));
    go_on_to_the_end();
    mesh_positions(&shardlet.parts.mesh, &positions);
    cr_expect_eq(positions.of[ONE].seq, 3000u);
}

/* Those that lie there go together, so that a member's come in one write; and in order. */
Test(fanout, many_messages)
{
    const unsigned counts[] = {1, 2, FANOUT_MESSAGES - 1, FANOUT_MESSAGES, FANOUT_MESSAGES + 1,
        3 * FANOUT_MESSAGES + 5, 1000};
    unsigned at = 0;
    for (size_t k = 0; k < ARRAY_LEN(counts); k++) {
        publish(0, "t", counts[k]);
        go_on_to_the_end();
        for (unsigned i = 0; i < MEMBERS; i++)
            cr_assert_str_eq(sent_to(i), lines('A', at + 1, at + counts[k]), "member %u", i);
        at += counts[k];
    }
}

/* What comes after them on the same stream takes effect after them; another stream goes on. */
Test(fanout, frames_behind_it_wait_and_other_streams_do_not)
{
    publish(0, "t", 1);
    say(0, FRAME_PUSH, clients[0]->conn.id, "after");
    say(0, FRAME_UNSUBSCRIBE, clients[1]->conn.id, "");
    publish(0, "t", 1);
    step();
    cr_assert_lt(how_many_have(), (unsigned)MEMBERS);
    say(1, FRAME_PUSH, clients[2]->conn.id, "other");
    step();
    step();
    cr_assert_lt(how_many_have(), (unsigned)MEMBERS, "the first is still under way");
    cr_expect(strstr(sent_to(2), "other\n") != NULL);
    go_on_to_the_end();
    cr_expect_str_eq(sent_to(0), "A1\nafter\nA4\n");
    cr_expect_str_eq(sent_to(1), "A1\n");
    cr_expect_str_eq(sent_to(3), "A1\nA4\n");
}

/* Of two streams at once; each keeps its order. */
Test(fanout, two_streams_to_one_topic)
{
    publish(0, "t", 150);
    publish(1, "t", 150);
    go_on_to_the_end();
    for (unsigned i = 0; i < MEMBERS; i++) {
        unsigned at[2] = {0, 0};
        const char *p = sent_to(i);
        for (; *p != '\0'; p = strchr(p, '\n') + 1)
            cr_assert_eq((unsigned)atoi(p + 1), ++at[*p == 'B']);
        cr_assert(at[0] == 150 && at[1] == 150);
    }
}

Test(fanout, who_joins_and_leaves_meanwhile)
{
    for (unsigned i = 0; i < 20; i++)
        topics_leave(&shardlet.parts.topics, &clients[i]->duplex->subscriptions, 0, SPAN("t"));
    publish(0, "t", 70);
    step();
    unsigned some = how_many_have();
    cr_assert(some > 0 && some < 80);
    bool had[MEMBERS];
    for (unsigned i = 0; i < MEMBERS; i++) {
        char byte;
        had[i] = recv(peers[i], &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
    }
    for (unsigned i = 0; i < 20; i++)
        topics_join(&shardlet.parts.topics, clients[i], &clients[i]->duplex->subscriptions, 0,
            SPAN("t"), 9);
    for (unsigned i = 20; i < MEMBERS; i += 3)
        topics_leave(&shardlet.parts.topics, &clients[i]->duplex->subscriptions, 0, SPAN("t"));
    go_on_to_the_end();
    for (unsigned i = 0; i < MEMBERS; i++) {
        bool left = i >= 20 && (i - 20) % 3 == 0;
        const char *first = i < 20 ? "" : lines('A', 1, FANOUT_MESSAGES);
        const char *got = sent_to(i);
        if (left && !had[i])
            cr_expect_str_eq(got, "", "member %u", i);
        else if (left)
            cr_expect_str_eq(got, first, "member %u", i);
        else if (i < 20) /* those behind the first part came when they were there */
            cr_expect_str_eq(got, lines('A', FANOUT_MESSAGES + 1, 70), "member %u", i);
        else
            cr_expect_str_eq(got, lines('A', 1, 70), "member %u", i);
    }
}

/* The sibling is gone, right after what it said. */
Test(fanout, a_stream_that_ends_is_carried_out)
{
    publish(0, "t", 300);
    say(0, FRAME_PUSH, clients[0]->conn.id, "last");
    shutdown(siblings[0], SHUT_RDWR);
    go_on_to_the_end();
    for (unsigned i = 1; i < MEMBERS; i++)
        cr_assert_str_eq(sent_to(i), lines('A', 1, 300), "member %u", i);
    cr_expect(strstr(sent_to(0), "A300\nlast\n") != NULL);
}

/* It is closed by us in the middle: what has begun goes on. */
Test(fanout, a_stream_that_is_closed)
{
    publish(0, "t", 3);
    step();
    cr_assert_lt(how_many_have(), (unsigned)MEMBERS);
    mesh_shut(&shardlet.parts.mesh);
    go_on_to_the_end();
    for (unsigned i = 0; i < MEMBERS; i++)
        cr_assert_str_eq(sent_to(i), "A1\nA2\nA3\n", "member %u", i);
}

Test(fanout, everybody_leaves)
{
    publish(0, "t", 3);
    publish(0, "u", 1);
    say(0, FRAME_PUSH, clients[0]->conn.id, "after");
    step();
    for (unsigned i = 0; i < MEMBERS; i++)
        topics_leave(
            &shardlet.parts.topics, &clients[i]->duplex->subscriptions, 0, (struct span){0});
    go_on_to_the_end();
    cr_expect(strstr(sent_to(0), "after\n") != NULL);
}

/* A message for which there is no memory to wait is delivered at once, but not before those ahead
 * of it. */
Test(fanout, keeps_the_order_without_memory)
{
    enum { ALLOCATIONS = 12 };
    for (long n = 0; n < ALLOCATIONS; n++) {
        uint64_t first = numbers[0] + 1;
        publish(0, "t", 3);
        mem_fail_after(n);
        step();
        mem_fail_after(-1);
        go_on_to_the_end();
        for (unsigned i = 0; i < MEMBERS; i++) {
            const char *got = sent_to(i);
            uint64_t last = first - 1; /* one may be missing, for which there was no memory */
            for (const char *p = got; *p != '\0'; p = strchr(p, '\n') + 1) {
                uint64_t number = strtoull(p + 1, NULL, 10);
                cr_assert_gt(number, last, "%ld: member %u: %s", n, i, got);
                last = number;
            }
        }
    }
}

/* Nothing that counts as heard is still to come when connections are frozen. */
Test(fanout, ends_before_connections_are_sent)
{
    struct positions positions;
    publish(0, "t", 1);
    step();
    cr_assert_lt(how_many_have(), (unsigned)MEMBERS);
    mesh_positions(&shardlet.parts.mesh, &positions);
    cr_assert_eq(positions.of[ONE].seq, 1u);
    sender_start(shardlet.ctx.sender, &shardlet.clients, 3600 * 1000, true);
    int pair[2];
    struct handover_message message = {0};
    int fds[FDPASS_FDS_MAX];
    size_t nfds;
    cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair), 0);
    cr_assert_eq(sender_add(shardlet.ctx.sender, 20, pair[0]), 0);
    cr_assert_eq(handover_send(pair[1], HANDOVER_HELLO, &message, NULL, 0), 0);
    bool sent = false;
    for (int i = 0; !sent && i < 100; i++) {
        uv_run(&shardlet.ctx.loop, UV_RUN_NOWAIT);
        turn_begin(&shardlet.ctx);
        sender_prepare(shardlet.ctx.sender);
        turn_flush(&shardlet.ctx);
        sender_turn(shardlet.ctx.sender);
        turn_flush(&shardlet.ctx);
        turn_go_on(&shardlet.ctx, WORK_TURN);
        turn_flush(&shardlet.ctx);
        sent = handover_receive(pair[1], &message, fds, &nfds) == 0 &&
               message.type == HANDOVER_BATCH;
        if (i < 50) /* without an end */
            publish(0, "t", 1);
        cr_assert(!sent || message.count > 0);
    }
    cr_assert(sent, "it gets its turn under load");
    /* Those in the batch have had exactly what the position says. */
    uint64_t heard = message.heard.of[ONE].seq;
    unsigned frozen = 0;
    for (unsigned i = 0; i < MEMBERS; i++) {
        if (!clients[i]->moving)
            continue;
        frozen++;
        cr_assert_str_eq(sent_to(i), lines('A', 1, (unsigned)heard), "member %u", i);
    }
    cr_assert_eq(frozen, message.count);
    /* They are not taken: they are given the rest, once. */
    publish(0, "t", 2);
    step();
    fdpass_close(fds, nfds);
    close(pair[1]);
    go_on_to_the_end();
    for (unsigned i = 0; i < MEMBERS; i++) {
        char last[32];
        const char *got = sent_to(i);
        snprintf(last, sizeof(last), "A%llu\n", (unsigned long long)numbers[0]);
        cr_assert(
            strlen(got) >= strlen(last) && strcmp(got + strlen(got) - strlen(last), last) == 0,
            "member %u: %s", i, got);
        unsigned expected = (unsigned)atoi(got + 1);
        for (const char *p = got; *p != '\0'; p = strchr(p, '\n') + 1)
            cr_assert_eq((unsigned)atoi(p + 1), expected++, "member %u: %s", i, got);
    }
    sender_shut(shardlet.ctx.sender);
    go_on_to_the_end();
}
