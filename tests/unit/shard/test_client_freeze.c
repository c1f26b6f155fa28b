#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/shard/push/push.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/session/duplex.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

enum { OUT_MAX = 1 << 18 };

static struct shardlet from, to;

static void set_up(void)
{
    shardlet_init(&from, MOVE_CONF, 0);
    shardlet_init(&to, MOVE_CONF, 1);
}

static void tear_down(void)
{
    shardlet_deinit(&from);
    shardlet_deinit(&to);
}

TestSuite(client_move, .init = set_up, .fini = tear_down);

/* A client, what it has been answered, and where it is. */
struct talk {
    struct client *client;
    struct shardlet *at;
    int peer;
    char *out;
    size_t n;
};

static struct talk begin(const char *listener)
{
    struct talk talk = {.at = &from, .out = malloc(OUT_MAX)};
    cr_assert_not_null(talk.out);
    talk.client = shardlet_client(&from, listener, &talk.peer);
    return talk;
}

static void end(struct talk *talk)
{
    close(talk->peer);
    free(talk->out);
    shardlet_turn(talk->at);
    shardlet_turn(talk->at);
}

static void listen_to(struct talk *talk)
{
    shardlet_turn(talk->at);
    shardlet_read(talk->peer, talk->out, OUT_MAX, &talk->n);
}

static void say(struct talk *talk, const char *bytes, size_t n)
{
    if (n > 0)
        cr_assert_eq(write(talk->peer, bytes, n), (ssize_t)n);
    listen_to(talk);
}

#define SAY(talk, literal) say(talk, literal, sizeof(literal) - 1)

/* Whether what was answered since the last look is just this; forgets it. */
static bool answered(struct talk *talk, const char *bytes, size_t n)
{
    bool same = talk->n == n && memcmp(talk->out, bytes, n) == 0;
    talk->n = 0;
    return same;
}

#define ANSWERED(talk, literal) answered(talk, literal, sizeof(literal) - 1)

/* The new side's half of a move: saved, and restored there on a descriptor of its own. */
static struct client *arrive(struct client *client, struct shardlet *there)
{
    struct buf state = {0};
    struct client *restored = NULL;
    int fd = dup(client->fd);
    cr_assert(fd >= 0 && client_save(client, &state) == 0);
    int r = client_restore(&there->ctx, &there->clients, fd,
        (struct span){buf_data(&state), buf_len(&state)}, &restored);
    cr_assert_eq(r, 0, "%d", r);
    buf_deinit(&state);
    return restored;
}

static void move(struct talk *talk)
{
    struct shardlet *there = talk->at == &from ? &to : &from;
    cr_assert(client_can_move(talk->client));
    client_freeze(talk->client);
    struct client *restored = arrive(talk->client, there);
    client_release(talk->client);
    shardlet_turn(talk->at);
    talk->client = restored;
    talk->at = there;
    client_start(restored);
    listen_to(talk);
}

/* Says all of it, and moves after each `step` bytes. */
static void talk_in_parts(struct talk *talk, struct span input, size_t first, size_t step)
{
    say(talk, input.p, first);
    for (size_t at = first; at < input.n; at += step) {
        move(talk);
        say(talk, input.p + at, MIN(step, input.n - at));
    }
}

#define H       "Host: h\r\n"
#define OPTIONS "OPTIONS /rpc HTTP/1.1\r\n" H "\r\n"
#define CALL                                                                                       \
    "POST /rpc HTTP/1.1\r\n" H                                                                     \
    "Content-Length: 39\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}  "

/* Whatever it is in the middle of, a client that moves there is answered as if it had not moved. */
Test(client_move, at_every_byte)
{
    const struct {
        const char *listener;
        struct span input;
        const char *contains; /* of the answers */
    } rows[] = {
        {"web", SPAN(OPTIONS OPTIONS OPTIONS), "HTTP/1.1 204"},
        {"web", SPAN("POST /rpc HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\n{} {}" OPTIONS), "32700"},
        {"web",
            SPAN("POST /rpc HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"
                 "1;a=b\r\n{\r\n001\r\n}\r\n0\r\nT: t\r\n\r\n" OPTIONS),
            "32600"},
        {"web", SPAN("GET /none HTTP/1.1\r\n" H "\r\n" OPTIONS "x y z\r\n\r\n"), "400 Bad"},
        {"web", SPAN("POST /rpc HTTP/1.1\r\n" H "Content-Length: 99999999\r\n\r\n"), "413"},
        {"web", SPAN("OPTIONS * HTTP/1.1\r\n" H "Connection: close\r\n\r\n" OPTIONS), "close"},
        {"web",
            SPAN(HANDSHAKE("h") WS_FRAME("\x01", "\x81", "{") WS_FRAME("\x89", "\x84", "ping")
                    WS_FRAME("\x00", "\x80", "") WS_FRAME("\x80", "\x81", "}")
                        WS_FRAME("\x89", "\x84", "pong") WS_FRAME("\x81", "\x82", "{}")
                            WS_FRAME("\x88", "\x82", "\x03\xe8")),
            "32600"},
        {"web",
            SPAN(HANDSHAKE("h") WS_FRAME("\x01", "\x83", "\"\xc3\xa4")
                    WS_FRAME("\x80", "\x82", "\xc3\xa4")),
            "101 Switching"},
        {"web", SPAN(HANDSHAKE("h") WS_FRAME("\x82", "\x81", "x")), "JSON-RPC is text"},
        {"lines", SPAN("{}\r\n\n[]\nx\n{}\n"), "32700"},
        {"frames", SPAN("\0\0\0\2{}\0\0\0\0\0\0\0\2[]\0\0\0\0"), "32600"},
        {"frames", SPAN("\0\0\0\2{}\xff\xff\xff\xff"), "too large"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct span input = rows[i].input;
        struct talk whole = begin(rows[i].listener);
        say(&whole, input.p, input.n);
        cr_assert_not_null(memmem(whole.out, whole.n, rows[i].contains, strlen(rows[i].contains)),
            "row %zu: %.*s", i, (int)whole.n, whole.out);
        for (size_t split = 0; split < input.n; split++) {
            /* Split once, and into parts of so many bytes. */
            for (int once = 0; once < 2; once++) {
                if (!once && (split == 0 || split > 3))
                    continue;
                struct talk talk = begin(rows[i].listener);
                talk_in_parts(&talk, input, once ? split : 0, once ? input.n : split);
                cr_assert(talk.n == whole.n && memcmp(talk.out, whole.out, whole.n) == 0,
                    "row %zu split at %zu: %.*s", i, split, (int)talk.n, talk.out);
                end(&talk);
            }
        }
        end(&whole);
    }
}

Test(client_move, waits_for_continue)
{
    struct talk talk = begin("web");
    SAY(&talk, "POST /rpc HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 1\r\n\r\n");
    cr_assert(ANSWERED(&talk, "HTTP/1.1 100 Continue\r\n\r\n"));
    move(&talk);
    SAY(&talk, "x");
    cr_assert_not_null(memmem(talk.out, talk.n, "-32700", 6));
    cr_assert_null(memmem(talk.out, talk.n, "100 Continue", 12), "told once");
    end(&talk);
}

Test(client_move, frozen_until_thawed)
{
    struct talk talk = begin("lines");
    uint64_t id = talk.client->conn.id;
    client_freeze(talk.client);
    cr_assert_not(client_can_move(talk.client));
    cr_assert_null(client_find(&from.ctx, id));
    cr_assert_not(wheel_armed(&talk.client->timer));
    SAY(&talk, "{}\n{");
    client_touch(talk.client);
    listen_to(&talk);
    cr_assert_eq(talk.n, 0);
    cr_assert_eq(talk.client->events, 0, "or its bytes would wake this shard again and again");
    client_thaw(talk.client);
    listen_to(&talk);
    cr_assert_gt(talk.n, 0);
    cr_assert(client_can_move(talk.client) && client_find(&from.ctx, id) == talk.client);
    move(&talk); /* then it does */
    cr_assert(client_find(&from.ctx, id) == NULL && client_find(&to.ctx, id) == talk.client);
    end(&talk);
}

Test(client_move, restored_until_started)
{
    struct talk talk = begin("lines");
    client_freeze(talk.client);
    struct client *restored = arrive(talk.client, &to);
    SAY(&talk, "{}\n");
    shardlet_turn(&to);
    cr_assert(restored->events == 0 && talk.client->events == 0);
    client_release(talk.client);
    client_start(restored);
    talk.at = &to;
    listen_to(&talk);
    cr_assert_not_null(memmem(talk.out, talk.n, "-32600", 6));
    end(&talk);
}

/* Its connection is still open elsewhere: what happens there is not heard of here any more. */
Test(client_move, forgotten_when_released)
{
    struct talk talk = begin("lines");
    move(&talk);
    SAY(&talk, "{}\n");
    cr_assert_gt(talk.n, 0);
    struct epoll_event event;
    SAY(&talk, "{");
    cr_assert_eq(epoll_wait(from.ctx.poller.fd, &event, 1, 0), 0);
    end(&talk);
}

/* What is wanted of it meanwhile is done when it is back. */
Test(client_move, ended_while_frozen)
{
    for (int doom = 0; doom < 2; doom++) {
        struct talk talk = begin("web");
        char byte;
        client_freeze(talk.client);
        if (doom)
            client_doom(talk.client);
        else
            client_drain(talk.client);
        listen_to(&talk);
        cr_assert_eq(recv(talk.peer, &byte, 1, 0), -1, "still open");
        cr_assert_eq(shardlet_connections(), 1);
        client_thaw(talk.client);
        listen_to(&talk);
        cr_assert_eq(recv(talk.peer, &byte, 1, 0), 0, "closed");
        cr_assert_eq(shardlet_connections(), 0);
        end(&talk);
    }
}

Test(client_move, never_again)
{
    struct talk talk = begin("web");
    from.ctx.leaving = true;
    client_freeze(talk.client);
    client_keep(talk.client);
    SAY(&talk, OPTIONS OPTIONS);
    cr_assert_gt(talk.n, 0);
    cr_assert_not(client_can_move(talk.client));
    cr_assert(list_empty(&from.ctx.idle));
    end(&talk);
}

Test(client_move, cannot_with_something_in_progress)
{
    struct talk talk = begin("web");
    cr_assert(client_can_move(talk.client));
    SAY(&talk, "POST /rpc HTTP/1.1\r\n");
    cr_assert(client_can_move(talk.client));
    client_touch(talk.client);
    cr_assert_not(client_can_move(talk.client), "until the end of the turn");
    SAY(&talk, H "Content-Length: 39\r\n\r\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}  ");
    cr_assert_eq(talk.client->calls, 1);
    cr_assert_not(client_can_move(talk.client));
    client_doom(talk.client);
    cr_assert_not(client_can_move(talk.client));
    end(&talk);
}

Test(client_move, counts)
{
    struct talk talk = begin("web");
    cr_assert(shardlet_connections() == 1 && shardlet_peers() == 1);
    client_freeze(talk.client);
    struct client *restored = arrive(talk.client, &to);
    cr_assert(shardlet_connections() == 2 && shardlet_peers() == 2);
    int fd = restored->fd;
    client_discard(restored);
    cr_assert(shardlet_connections() == 1 && shardlet_peers() == 1);
    cr_assert_eq(close(fd), 0, "it was ours");
    shardlet_turn(&to);
    restored = arrive(talk.client, &to);
    client_release(talk.client);
    cr_assert(shardlet_connections() == 1 && shardlet_peers() == 1);
    cr_assert(from.ctx.open == 0 && to.ctx.open == 1);
    const struct listener_words *left = client_counts(restored);
    cr_assert(
        *left->accepted == 0 && *left->closed == 0, "what arrives is counted by the receiver");
    client_start(restored);
    talk.at = &to;
    SAY(&talk, OPTIONS);
    cr_assert_gt(talk.n, 0);
    end(&talk);
    cr_assert(shardlet_connections() == 0 && shardlet_peers() == 0);
}

/* A connection that moves on has not gone: workers hear of its end, once, from where it ends. */
Test(client_move, workers_are_not_told)
{
    struct talk talk = begin("web");
    SAY(&talk, HANDSHAKE("events.test"));
    cr_assert_eq(from.pools[0].queue.count, 1, "frontd.connect");
    client_freeze(talk.client);
    struct client *restored = arrive(talk.client, &to);
    int fd = restored->fd;
    client_discard(restored);
    close(fd);
    shardlet_turn(&to);
    restored = arrive(talk.client, &to);
    client_release(talk.client);
    client_start(restored);
    talk.at = &to;
    shardlet_turn(&from);
    listen_to(&talk);
    cr_assert(from.pools[0].queue.count == 1 && to.pools[0].queue.count == 0);
    end(&talk);
    cr_assert(from.pools[0].queue.count == 1 && to.pools[0].queue.count == 1, "frontd.disconnect");
}

/* Pushes */

static const struct push_from sibling; /* passed it on */

static void handle(struct shardlet *at, enum frame_type type, uint64_t conn, struct span body)
{
    struct frame frame = {.head = {.type = (uint8_t)type, .conn = conn}, .body = body};
    if (type != FRAME_PUSH)
        frame.meta = SPAN("{\"topic\":\"news\"}");
    push_handle(&at->ctx, &sibling, &frame);
}

/* The topics of the test's process are those of both shards: what is published reaches both. */
Test(client_move, pushes_go_to_one_of_them)
{
    struct talk talk = begin("lines");
    uint64_t id = talk.client->conn.id;
    handle(&from, FRAME_SUBSCRIBE, id, (struct span){0});
    client_freeze(talk.client);
    handle(&from, FRAME_PUBLISH, 0, SPAN("lost if nobody else has it"));
    struct client *restored = arrive(talk.client, &to);
    handle(&to, FRAME_PUBLISH, 0, SPAN("1"));
    handle(&from, FRAME_PUSH, id, SPAN("not here"));
    handle(&to, FRAME_PUSH, id, SPAN("2"));
    shardlet_turn(&to);
    listen_to(&talk);
    cr_assert_eq(talk.n, 0, "neither writes yet");
    client_release(talk.client);
    talk.client = restored;
    talk.at = &to;
    client_start(restored);
    listen_to(&talk);
    handle(&to, FRAME_PUBLISH, 0, SPAN("3"));
    listen_to(&talk);
    cr_assert(ANSWERED(&talk, "1\n2\n3\n"), "%.*s", (int)talk.n, talk.out);
    end(&talk);
}

#define RED_POOL                                                                                   \
    "  - {name: app, realm: red, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: "     \
    "1h}\n"

static void handle_of(
    struct shardlet *at, uint64_t realm, enum frame_type type, uint64_t conn, struct span body)
{
    const struct push_from whom = {.realm = realm};
    struct frame frame = {.head = {.type = (uint8_t)type, .conn = conn}, .body = body};
    if (type != FRAME_PUSH && type != FRAME_DISCONNECT)
        frame.meta = SPAN("{\"topic\":\"news\"}");
    push_handle(&at->ctx, &whom, &frame);
}

/* The other process has a config in which the pool of the connection's route is of a realm. */
Test(client_move, to_another_realm)
{
    static const char conf[] = "listeners:\n"
                               "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: "
                               "app}\npools:\n" RED_POOL;
    shardlet_deinit(&to);
    shardlet_init(&to, conf, 1);
    uint64_t red = to.conf->pools[0].realm_id;
    struct talk talk = begin("lines"), stays = begin("lines");
    uint64_t id = talk.client->conn.id;
    handle_of(&from, 0, FRAME_SUBSCRIBE, id, (struct span){0});
    handle_of(&from, 0, FRAME_SUBSCRIBE, stays.client->conn.id, (struct span){0});
    handle_of(&from, red, FRAME_PUSH, id, SPAN("a stranger's"));
    handle_of(&from, red, FRAME_UNSUBSCRIBE, id, (struct span){0});
    handle_of(&from, red, FRAME_PUBLISH, 0, SPAN("a stranger's"));
    handle_of(&from, red, FRAME_DISCONNECT, id, (struct span){0});
    handle_of(&from, 0, FRAME_PUBLISH, 0, SPAN("1"));
    listen_to(&talk);
    move(&talk);
    cr_assert(ANSWERED(&talk, "1\n"), "%.*s", (int)talk.n, talk.out);
    handle_of(&to, 0, FRAME_PUSH, id, SPAN("a stranger's"));
    handle_of(&to, 0, FRAME_UNSUBSCRIBE, id, (struct span){0});
    handle_of(&to, 0, FRAME_DISCONNECT, id, (struct span){0});
    handle_of(&to, 0, FRAME_PUBLISH, 0, SPAN("2")); /* every shard hears it */
    handle_of(&from, 0, FRAME_PUBLISH, 0, SPAN("2"));
    handle_of(&to, red, FRAME_PUSH, id, SPAN("3"));
    handle_of(&to, red, FRAME_PUBLISH, 0, SPAN("4"));
    listen_to(&talk);
    cr_assert(ANSWERED(&talk, "3\n4\n"), "%.*s", (int)talk.n, talk.out);
    listen_to(&stays);
    cr_assert(ANSWERED(&stays, "1\n2\n"), "%.*s", (int)stays.n, stays.out);
    end(&talk);
    end(&stays);
}

/* What passed while it moved is given to it afterwards, but for what strangers have sent. */
Test(client_move, replays_what_its_realm_has_sent)
{
    static const struct frame push = {.head = {.type = FRAME_PUBLISH, .meta_len = 16},
        .meta = {"{\"topic\":\"news\"}", 16},
        .body = {"now", 3}};
    struct talk talk = begin("lines"), other = begin("lines");
    handle(&from, FRAME_SUBSCRIBE, talk.client->conn.id, (struct span){0});
    handle(&from, FRAME_SUBSCRIBE, other.client->conn.id, (struct span){0});
    client_freeze(talk.client);
    struct client *restored = arrive(talk.client, &to);
    client_release(talk.client);
    push_replay(&to.ctx, 7, &push);
    push_replay(&to.ctx, 0, &push);
    struct frame straight = {
        .head = {.type = FRAME_PUSH, .conn = restored->conn.id}, .body = {"straight", 8}};
    push_replay(&to.ctx, 7, &straight);
    push_replay(&to.ctx, 0, &straight);
    talk.client = restored;
    talk.at = &to;
    client_start(restored);
    listen_to(&talk);
    cr_assert(ANSWERED(&talk, "now\nstraight\n"), "%.*s", (int)talk.n, talk.out);
    listen_to(&other);
    cr_assert_eq(other.n, 0, "it did not move");
    end(&talk);
    end(&other);
}

Test(client_move, pushes_to_one_that_is_discarded)
{
    static char large[700000]; /* two of them are over write_buffer */
    struct talk talk = begin("lines");
    handle(&from, FRAME_SUBSCRIBE, talk.client->conn.id, (struct span){0});
    client_freeze(talk.client);
    struct client *restored = arrive(talk.client, &to);
    handle(&to, FRAME_PUBLISH, 0, SPAN("to nobody"));
    for (int i = 0; i < 2; i++)
        handle(&to, FRAME_PUBLISH, 0, (struct span){large, sizeof(large)});
    listen_to(&talk);
    cr_assert_eq(talk.n, 0);
    int fd = restored->fd;
    client_discard(restored);
    close(fd);
    shardlet_turn(&to);
    client_thaw(talk.client);
    handle(&from, FRAME_PUBLISH, 0, SPAN("1"));
    listen_to(&talk);
    cr_assert(ANSWERED(&talk, "1\n"));
    end(&talk);
}

/* What waits for a client that reads slowly moves with it, from the byte on that is next. */
Test(client_move, slow_reader)
{
    enum { MESSAGES = 40, SIZE = 5000, MOVES = 200 };
    static char body[SIZE], expected[MESSAGES * (SIZE + 1)];
    struct talk talk = begin("lines");
    int small = 1;
    cr_assert_eq(setsockopt(talk.client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    for (size_t i = 0; i < MESSAGES; i++) {
        memset(body, 'A' + (int)(i % 26), sizeof(body));
        memcpy(expected + i * (SIZE + 1), body, SIZE);
        expected[i * (SIZE + 1) + SIZE] = '\n';
        handle(&from, FRAME_PUSH, talk.client->conn.id, (struct span){body, SIZE});
    }
    shardlet_turn(&from);
    cr_assert_gt(client_waiting(talk.client), SIZE);
    for (size_t i = 0; i < MOVES && talk.n < sizeof(expected); i++)
        move(&talk);
    cr_assert(answered(&talk, expected, sizeof(expected)));
    end(&talk);
}

/* Leaving */

Test(client_move, who_becomes_quiet)
{
    struct talk talk = begin("web"), busy = begin("web");
    from.ctx.requests_paused = from.ctx.leaving = true;
    SAY(&busy, CALL CALL);
    cr_assert(busy.client->calls == 1 && busy.client->paused, "no second one is started");
    SAY(&talk, OPTIONS OPTIONS OPTIONS);
    cr_assert(list_first(&from.ctx.idle, struct client, node) == talk.client);
    cr_assert(talk.client->node.next == &from.ctx.idle, "and no other");
    cr_assert(list_first(&from.clients, struct client, node) == busy.client);

    /* Its call ends; what it has sent on is for the other process. */
    request_abandon(list_first(&busy.client->requests, struct request, node));
    client_touch(busy.client);
    shardlet_turn(&from);
    cr_assert(busy.client->node.next == &from.ctx.idle && busy.client->calls == 0);
    move(&busy);
    cr_assert_eq(busy.client->calls, 1);
    cr_assert_null(busy.client->pending);
    move(&talk);
    cr_assert(list_empty(&from.ctx.idle) && list_empty(&from.clients));
    SAY(&talk, OPTIONS);
    cr_assert_gt(talk.n, 0);
    end(&talk);
    end(&busy);
}

/* A pause that ends without a move. */
Test(client_move, goes_on_after_a_pause)
{
    struct talk talk = begin("web");
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++)
        expect_answered(&from.ctx.expect, kind, 100); /* so that calls start at once */
    from.ctx.requests_paused = true;
    SAY(&talk, CALL CALL CALL);
    SAY(&talk, CALL);
    cr_assert_eq(talk.client->calls, 1);
    from.ctx.requests_paused = false;
    client_touch(talk.client);
    listen_to(&talk);
    cr_assert_eq(talk.client->calls, 4);
    end(&talk);
}

Test(client_move, to_one_that_drains)
{
    struct talk talk = begin("web");
    char byte;
    to.ctx.draining = true;
    move(&talk);
    cr_assert_eq(recv(talk.peer, &byte, 1, 0), 0);
    end(&talk);
}

Test(client_move, drains_from_any_list)
{
    struct talk talk = begin("web");
    char byte;
    from.ctx.leaving = true;
    SAY(&talk, OPTIONS);
    cr_assert_not(list_empty(&from.ctx.idle));
    client_drain(talk.client);
    from.ctx.leaving = false;
    listen_to(&talk);
    cr_assert_eq(recv(talk.peer, &byte, 1, 0), 0);
    cr_assert(list_empty(&from.ctx.idle));
    end(&talk);
}
