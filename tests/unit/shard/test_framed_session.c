#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/request/request.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue. */
#define CONF                                                                                       \
    "limits: {body: 1KiB}\n"                                                                       \
    "listeners:\n"                                                                                 \
    "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"                      \
    "  - {name: frames, address: 127.0.0.1:8082, protocol: frame, pool: app}\n"                    \
    "  - {name: raw, address: 127.0.0.1:8083, protocol: line, pool: app, messages: raw}\n"         \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"

#define BODY_MAX  1024
#define CALL      "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"
#define ANSWER    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}"
#define FRAME(n)  "\0\0\0" n
#define HEARTBEAT FRAME("\0")
#define BIG_FRAME "\0\0\x04\x01" /* one byte more than limits.body */

static struct shardlet shard;

static void set_up(void)
{
    shardlet_init(&shard, CONF, 0);
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++)
        expect_answered(&shard.ctx.expect, kind, 100); /* so that calls start at once */
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(framed_session, .init = set_up, .fini = tear_down);

static struct talk begin(const char *listener)
{
    return talk_open(&shard, listener);
}

/* Whether what was answered since the last look is just this; forgets it. */
static bool answered(struct talk *talk, struct span bytes)
{
    bool same = talk->n == bytes.n && memcmp(talk->out, bytes.p, bytes.n) == 0;
    talk->n = 0;
    return same;
}

/* Whether the connection has been ended. */
static bool ended(const struct talk *talk)
{
    char byte;
    return recv(talk->peer, &byte, 1, 0) == 0;
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
}

static struct call *only_call(const struct client *client)
{
    struct request *request = list_first(&client->requests, struct request, node);
    cr_assert(!list_empty(&client->requests) && !list_empty(&request->calls));
    return list_first(&request->calls, struct call, node);
}

Test(framed_session, heartbeat)
{
    struct talk frames = begin("frames");
    say(&frames, SPAN(HEARTBEAT HEARTBEAT));
    cr_expect(answered(&frames, SPAN(HEARTBEAT HEARTBEAT)));
    end(&frames);
    struct talk lines = begin("lines");
    say(&lines, SPAN("\n\r\n"));
    cr_expect(answered(&lines, SPAN("")), "an empty line says nothing");
    end(&lines);
}

/* It is echoed ahead of a message that may not be started yet, and taken out behind that. */
Test(framed_session, heartbeat_is_echoed_ahead)
{
    struct talk talk = begin("frames");
    shard.ctx.requests_paused = true;
    say(&talk, SPAN(FRAME("\x25") CALL FRAME("\x25") CALL HEARTBEAT FRAME("\x25")));
    cr_expect(answered(&talk, SPAN(HEARTBEAT)));
    cr_expect(talk.client->calls == 1 && talk.client->paused);
    cr_expect_eq(buf_len(&talk.client->pending->bytes), sizeof(FRAME("\x25") CALL) - 1 + 4);
    say(&talk, SPAN(CALL HEARTBEAT)); /* read on, though no message may be started */
    cr_expect(answered(&talk, SPAN(HEARTBEAT)));
    shard.ctx.requests_paused = false;
    client_touch(talk.client);
    say(&talk, SPAN(HEARTBEAT));
    cr_expect_eq(talk.client->calls, 3u, "%u calls", talk.client->calls);
    cr_expect(answered(&talk, SPAN(HEARTBEAT)) && talk.client->pending == NULL);
    end(&talk);
}

Test(framed_session, too_big)
{
    static char line[BODY_MAX + 2];
    memset(line, 'x', sizeof(line));
    line[BODY_MAX] = '\n';
    struct talk fits = begin("lines");
    say(&fits, (struct span){line, BODY_MAX + 1});
    cr_expect(has(&fits, "-32700") && !ended(&fits), "a line of limits.body is read");
    end(&fits);

    line[BODY_MAX] = 'x';
    const struct {
        const char *listener;
        struct span bytes;
    } rows[] = {
        {"frames", SPAN(BIG_FRAME)}, /* its head is enough */
        {"lines", {line, BODY_MAX + 2}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk talk = begin(rows[i].listener);
        say(&talk, rows[i].bytes);
        cr_expect(has(&talk, "-32005"), "%s: %.*s", rows[i].listener, (int)talk.n, talk.out);
        cr_expect(ended(&talk));
        end(&talk);
    }
}

/* The end of the client's side ends a line, and cuts a frame. */
Test(framed_session, last_message_without_end)
{
    const struct {
        const char *listener;
        struct span bytes;
        const char *contains; /* of the answer; NULL: there is none */
    } rows[] = {
        {"lines", SPAN("{}"), "-32600"},
        {"lines", SPAN("{}\n{"), "-32700"},
        {"lines", SPAN(""), NULL},
        {"frames", SPAN(FRAME("\2") "{"), "-32700"},
        {"frames", SPAN("\0\0"), "-32700"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk talk = begin(rows[i].listener);
        say(&talk, rows[i].bytes);
        cr_assert_eq(shutdown(talk.peer, SHUT_WR), 0);
        say(&talk, SPAN(""));
        cr_expect(rows[i].contains == NULL ? talk.n == 0 : has(&talk, rows[i].contains),
            "row %zu: %.*s", i, (int)talk.n, talk.out);
        cr_expect(ended(&talk), "row %zu", i);
        end(&talk);
    }
}

/* A page can make a browser send HTTP to a listener of lines: no line of it becomes a call. */
Test(framed_session, foreign_first_line)
{
    const struct span rows[] = {
        SPAN("POST / HTTP/1.1\r\nHost: h\r\n\r\n" CALL "\n"),
        SPAN("GET / HTTP/1.0\n" CALL "\n"),
        SPAN("\x16\x03\x01\x02\n" CALL "\n"),
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk talk = begin("lines");
        say(&talk, rows[i]);
        cr_expect(has(&talk, "-32700"), "row %zu: %.*s", i, (int)talk.n, talk.out);
        cr_expect(ended(&talk) && shard.pools[0].queue.count == 0);
        end(&talk);
    }
    struct talk raw = begin("raw");
    say(&raw, SPAN("GET / HTTP/1.0\nx\n"));
    cr_expect(!ended(&raw), "what lines of a raw route are is the worker's business");
    cr_expect_eq(shard.pools[0].queue.count, 2);
    close(raw.peer);
    shardlet_turn(&shard);
}

/* A client that has shut its side has its answer, and then its connection ends. */
Test(framed_session, half_closed)
{
    const struct {
        const char *listener;
        struct span call;
        struct span answer;
    } rows[] = {
        {"lines", SPAN(CALL), SPAN(ANSWER "\n")}, /* its end is the line's, too */
        {"lines", SPAN(CALL "\n"), SPAN(ANSWER "\n")},
        {"frames", SPAN(FRAME("\x25") CALL), SPAN(FRAME("\x26") ANSWER)},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct talk talk = begin(rows[i].listener);
        say(&talk, rows[i].call);
        cr_assert_eq(shutdown(talk.peer, SHUT_WR), 0);
        say(&talk, SPAN(""));
        cr_assert_eq(talk.client->state, CLIENT_HALF_CLOSED, "row %zu", i);
        cr_expect(!ended(&talk) && talk.client->calls == 1);
        shardlet_answer(only_call(talk.client), SPAN(ANSWER), SPAN(""));
        say(&talk, SPAN(""));
        cr_expect(answered(&talk, rows[i].answer), "row %zu: %.*s", i, (int)talk.n, talk.out);
        cr_expect(ended(&talk));
        end(&talk);
    }
}
