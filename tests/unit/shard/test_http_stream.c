#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "tests/unit/support/http_worker.h"

/* Answers in parts, from the worker's frames to the client's bytes. */

#define GET   "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET10 "GET / HTTP/1.0\r\n\r\n"

enum { WINDOW = 262144, STREAM_TIMEOUT_MS = 5000, TIMEOUT_MS = 30000 };

static struct shardlet shard;
static struct fake_worker worker;
static struct talk talk;

static void set_up_with(const char *hello)
{
    char conf[1024];
    fake_worker_listen(&worker);
    snprintf(conf, sizeof(conf),
        "listeners:\n"
        "  - name: web\n"
        "    address: 127.0.0.1:8080\n"
        "    routes:\n"
        "      - {path: /, kind: http, pool: app, stream_timeout: %dms, timeout: %dms}\n"
        "      - {path: /long, kind: http, pool: app, stream_timeout: 0s, timeout: %dms}\n"
        "pools:\n"
        "  - {name: app, workers: [\"unix:%s\"], idempotent: [\"http.request\"],\n"
        "     worker_timeout: 1h}\n",
        STREAM_TIMEOUT_MS, TIMEOUT_MS, TIMEOUT_MS, worker.path);
    http_worker_begin(&shard, &worker, &talk, conf, hello);
}

static void set_up(void)
{
    set_up_with("{\"protocol\":1,\"concurrency\":8,\"features\":[\"stream\"]}");
}

static void set_up_without(void)
{
    set_up_with("{\"protocol\":1,\"concurrency\":8,\"features\":[\"push\"]}");
}

static void tear_down(void)
{
    http_worker_end(&shard, &worker, &talk);
}

TestSuite(http_stream, .init = set_up, .fini = tear_down);
TestSuite(http_gathered, .init = set_up_without, .fini = tear_down);

/* The next frame for the worker that is no PING: its type, and call. */
static unsigned next(uint64_t *ret_call, struct frame *frame)
{
    unsigned type = http_worker_next(&shard, &worker, frame);
    *ret_call = type == 0 ? 0 : frame->head.call;
    return type;
}

static uint64_t take_request(void)
{
    struct frame frame;
    uint64_t call;
    unsigned type;
    while ((type = next(&call, &frame)) == FRAME_WINDOW) /* of an answer that was broken off */
        ;
    cr_assert_eq(type, FRAME_REQUEST);
    return call;
}

static uint64_t ask(struct span request)
{
    say(&talk, request);
    return take_request();
}

static void expect_cancel(uint64_t call)
{
    struct frame frame;
    uint64_t of;
    unsigned type;
    while ((type = next(&of, &frame)) == FRAME_WINDOW)
        ;
    cr_expect_eq(type, FRAME_CANCEL);
    cr_expect_eq(of, call);
}

static void expect_nothing(void)
{
    struct frame frame;
    uint64_t call;
    cr_expect_eq(next(&call, &frame), 0u);
}

/* headers: as of http_worker_respond(); more is to come. */
static void respond(uint64_t call, const char *headers)
{
    http_worker_respond(&worker, &talk, call, FRAME_F_MORE, headers);
}

static void data(uint64_t call, size_t n, bool more)
{
    fake_worker_send_blob(&worker, FRAME_DATA, more ? FRAME_F_MORE : 0, call, n);
    say(&talk, SPAN(""));
}

/* Whether the client's connection has ended. ret_reset: by a reset. */
static bool ended(bool *ret_reset)
{
    char c;
    shardlet_turn(&shard);
    ssize_t n = recv(talk.peer, &c, 1, MSG_PEEK | MSG_DONTWAIT);
    *ret_reset = n < 0 && errno == ECONNRESET;
    return n == 0 || *ret_reset;
}

static bool ends_with(const char *text)
{
    size_t n = strlen(text);
    return talk.n >= n && memcmp(talk.out + talk.n - n, text, n) == 0;
}

Test(http_stream, chunks_as_they_come)
{
    uint64_t call = ask(SPAN(GET));
    respond(call, ",\"headers\":[[\"x-a\",\"b\"]]");
    cr_expect(has(&talk, "HTTP/1.1 200 OK\r\n") && has(&talk, "x-a: b\r\n") &&
                  has(&talk, "Transfer-Encoding: chunked\r\n") && !has(&talk, "Content-Length"),
        "%.*s", (int)talk.n, talk.out);
    cr_expect(ends_with("\r\n\r\n"));
    data(call, 3, true);
    cr_expect(ends_with("\r\n\r\n3\r\nxxx\r\n"), "%.*s", (int)talk.n, talk.out);
    data(call, 0, true); /* an empty chunk would be the end */
    cr_expect(ends_with("3\r\nxxx\r\n"));
    data(call, 17, false);
    cr_expect(ends_with("11\r\nxxxxxxxxxxxxxxxxx\r\n0\r\n\r\n"), "%.*s", (int)talk.n, talk.out);
    cr_expect_not(talk.client->streams);
    talk.n = 0;
    call = ask(SPAN(GET)); /* the connection goes on */
    respond(call, "");
    data(call, 0, false);
    cr_expect(ends_with("\r\n\r\n0\r\n\r\n"));
}

Test(http_stream, length_of_the_worker)
{
    uint64_t call = ask(SPAN(GET));
    respond(call, ",\"headers\":[[\"content-length\",\"5\"]]");
    cr_expect(has(&talk, "Content-Length: 5\r\n") && !has(&talk, "chunked"));
    data(call, 2, true);
    data(call, 3, false);
    cr_expect(ends_with("\r\n\r\nxxxxx"), "%.*s", (int)talk.n, talk.out);
    talk.n = 0;
    call = ask(SPAN(GET));
    respond(call, "");
    data(call, 0, false);
    cr_expect(has(&talk, "200 OK"));
}

/* A body of another length than its head says ends early: the connection with it. */
Test(http_stream, other_length)
{
    for (int row = 0; row < 3; row++) {
        bool reset;
        uint64_t call = ask(SPAN(GET));
        respond(call, ",\"headers\":[[\"content-length\",\"5\"]]");
        data(call, row == 0 ? 6 : 4, row == 0);
        if (row == 0) {
            expect_cancel(call); /* one too many: nothing of it goes out */
            cr_expect(ends_with("\r\n\r\n"));
            data(call, 0, false); /* dropped */
        }
        cr_expect(ended(&reset) && !has(&talk, "xxxxx"), "row %d", row);
        close(talk.peer);
        shardlet_turn(&shard);
        talk = talk_open(&shard, "web");
    }
}

Test(http_stream, http10_until_the_end)
{
    bool reset;
    uint64_t call = ask(SPAN(GET10));
    respond(call, "");
    cr_expect(has(&talk, "Connection: close\r\n") && !has(&talk, "chunked") &&
              !has(&talk, "Content-Length"));
    data(call, 3, true);
    data(call, 2, false);
    cr_expect(ends_with("\r\n\r\nxxxxx"));
    cr_expect(ended(&reset) && !reset);
}

/* A worker that is lost in the middle, though its calls are idempotent: no other one has it. */
Test(http_stream, worker_lost)
{
    bool reset;
    uint64_t call = ask(SPAN(GET));
    respond(call, "");
    data(call, 3, true);
    fake_worker_hang_up(&worker);
    say(&talk, SPAN(""));
    cr_expect(ends_with("3\r\nxxx\r\n"), "no end of the chunks: %.*s", (int)talk.n, talk.out);
    cr_expect(ended(&reset));
}

/* What is wrong behind the first part ends the answer early. */
Test(http_stream, wrong_parts)
{
    for (int row = 0; row < 2; row++) {
        bool reset;
        uint64_t call = ask(SPAN(GET));
        respond(call, "");
        if (row == 0)
            fake_worker_send(&worker, FRAME_DATA, FRAME_F_MORE, call, "no blob");
        else
            fake_worker_send(&worker, FRAME_RESPONSE, FRAME_F_MORE, call, "{}");
        say(&talk, SPAN(""));
        expect_cancel(call);
        cr_expect(
            ended(&reset) && ends_with("\r\n\r\n") && !has(&talk, "\r\n0\r\n"), "row %d", row);
        data(call, 0, false);
        close(talk.peer);
        shardlet_turn(&shard);
        talk = talk_open(&shard, "web");
    }
}

/* A first part that is no answer of HTTP gets 502, as a whole one does. */
Test(http_stream, wrong_first_part)
{
    uint64_t call = ask(SPAN(GET));
    respond(call, ",\"headers\":[[\"a b\",\"\"]]");
    cr_expect(has(&talk, "502 Bad Gateway"), "%.*s", (int)talk.n, talk.out);
    expect_cancel(call);
}

Test(http_stream, client_gone)
{
    uint64_t call = ask(SPAN(GET));
    respond(call, "");
    data(call, 3, true);
    close(talk.peer);
    talk.peer = -1;
    expect_cancel(call);
    cr_expect_eq(shard.ctx.open, 0u);
}

/* Only time without a part counts, not the whole. */
Test(http_stream, timeouts)
{
    bool reset;
    uint64_t call = ask(SPAN(GET));
    respond(call, "");
    for (int i = 0; i < 2 * TIMEOUT_MS / STREAM_TIMEOUT_MS; i++) {
        fake_clock_advance(STREAM_TIMEOUT_MS - 10);
        data(call, 1, true);
        cr_assert_not(ended(&reset), "after part %d", i);
    }
    fake_clock_advance(STREAM_TIMEOUT_MS + 100);
    expect_cancel(call);
    cr_expect(ended(&reset) && !ends_with("0\r\n\r\n"));
}

Test(http_stream, no_timeout)
{
    bool reset;
    uint64_t call = ask(SPAN("GET /long HTTP/1.1\r\nHost: h\r\n\r\n"));
    respond(call, "");
    fake_clock_advance(24 * 3600 * 1000);
    expect_nothing();
    cr_expect_not(ended(&reset));
}

/* Reads all that has come; returns how much. */
static size_t drink(void)
{
    static char bytes[1024 * 1024];
    size_t all = 0;
    ssize_t n;
    while ((n = recv(talk.peer, bytes, sizeof(bytes), MSG_DONTWAIT)) > 0) {
        all += (size_t)n;
        shardlet_turn(&shard);
    }
    return all;
}

static size_t credit_of(uint64_t call)
{
    struct frame frame;
    uint64_t of;
    size_t all = 0;
    while (next(&of, &frame) == FRAME_WINDOW) {
        cr_expect_eq(of, call);
        all += strtoul(frame.body.p + strlen("{\"bytes\":"), NULL, 10);
    }
    return all;
}

/* The worker has room for more as the client reads, and not before. */
Test(http_stream, credit_as_bytes_leave)
{
    enum { PART = 32 * 1024 };
    uint64_t call = ask(SPAN(GET));
    size_t sent = 0;
    size_t credit = WINDOW;
    int small = 4096;
    setsockopt(talk.client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    respond(call, "");
    for (int i = 0; i < 64 && sent + PART <= credit; i++) {
        fake_worker_send_blob(&worker, FRAME_DATA, FRAME_F_MORE, call, PART);
        sent += PART;
        shardlet_turn(&shard);
        credit += credit_of(call);
    }
    cr_expect_eq(credit - sent < PART, true, "it has to stop: %zu of %zu", sent, credit);
    cr_expect_leq(client_waiting(talk.client), (size_t)WINDOW + 64);
    cr_expect_gt(client_waiting(talk.client), (size_t)WINDOW / 2);
    size_t got = drink();
    credit += credit_of(call);
    cr_expect_geq(got, sent);
    cr_expect_geq(credit, sent + WINDOW - WINDOW / 4, "%zu of %zu", credit, sent);
    cr_expect_leq(credit, sent + WINDOW);
    data(call, 0, false);
}

/* One that goes on all the same has ended its answer. */
Test(http_stream, beyond_the_window)
{
    enum { PART = 64 * 1024 };
    uint64_t call = ask(SPAN(GET));
    int small = 4096;
    setsockopt(talk.client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
    respond(call, "");
    for (int i = 0; i < 8; i++) {
        fake_worker_send_blob(&worker, FRAME_DATA, FRAME_F_MORE, call, PART);
        shardlet_turn(&shard);
    }
    expect_cancel(call);
    drink();
}

/* Behind another request that is not answered, parts wait for their turn, within the window. */
Test(http_stream, behind_another)
{
    uint64_t first = ask(SPAN(GET));
    respond(first, "");
    data(first, 0, false); /* answers are known to be small now */
    talk.n = 0;
    first = ask(SPAN(GET GET));
    uint64_t second = take_request();
    respond(second, "");
    data(second, 3, true);
    cr_expect_eq(talk.n, 0u);
    cr_expect_gt(talk.client->held_back, 0u);
    respond(first, "");
    data(first, 2, false);
    cr_expect(has(&talk, "2\r\nxx\r\n0\r\n\r\nHTTP/1.1 200 OK") && ends_with("\r\n3\r\nxxx\r\n"),
        "%.*s", (int)talk.n, talk.out);
    cr_expect_eq(talk.client->held_back, 0u);
    data(second, 1, true);
    cr_expect(ends_with("3\r\nxxx\r\n1\r\nx\r\n"));
    data(second, 0, false);
    cr_expect(ends_with("\r\nx\r\n0\r\n\r\n"));
}

/* It breaks off behind another one, which is not touched. */
Test(http_stream, behind_another_broken)
{
    bool reset;
    uint64_t first = ask(SPAN(GET));
    respond(first, "");
    data(first, 0, false);
    talk.n = 0;
    first = ask(SPAN(GET GET GET));
    uint64_t second = take_request();
    (void)take_request();
    respond(second, "");
    data(second, 3, true);
    fake_worker_send(&worker, FRAME_RESPONSE, 0, second,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"\"}}");
    say(&talk, SPAN(""));
    cr_expect_not(ended(&reset));
    respond(first, "");
    data(first, 2, false);
    cr_expect(has(&talk, "2\r\nxx\r\n0\r\n\r\nHTTP/1.1 200 OK") && ends_with("\r\n3\r\nxxx\r\n"),
        "%.*s", (int)talk.n, talk.out);
    cr_expect(ended(&reset) && !reset);
}

/* Server-Sent Events end between two in a shard that leaves; the connection is free to move. */
Test(http_stream, events_end_at_a_reload)
{
    uint64_t call = ask(SPAN(GET));
    respond(call, ",\"headers\":[[\"content-type\",\"text/event-stream\"]]");
    fake_worker_send_bytes(&worker, FRAME_DATA, FRAME_F_MORE, call, SPAN("data: 1\n\ndata: 2\n"));
    say(&talk, SPAN(""));
    shard.ctx.parts_ops->leave(talk.client);
    expect_nothing();
    fake_worker_send_bytes(&worker, FRAME_DATA, FRAME_F_MORE, call, SPAN("\ndata: 3\n\n"));
    say(&talk, SPAN(""));
    cr_expect(ends_with("data: 2\n\r\n1\r\n\n\r\n0\r\n\r\n"), "%.*s", (int)talk.n, talk.out);
    expect_cancel(call);
    cr_expect(list_empty(&talk.client->requests) && !talk.client->streams);
    data(call, 0, false);
}

/* A head is all that HEAD gets, at once: the answer may have no end. */
Test(http_stream, head_of_an_endless_answer)
{
    uint64_t call = ask(SPAN("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"));
    respond(call, ",\"headers\":[[\"content-type\",\"text/event-stream\"]]");
    cr_expect(has(&talk, "200 OK") && ends_with("\r\n\r\n"));
    expect_cancel(call);
    data(call, 3, false);
    cr_expect(ends_with("\r\n\r\n"));
}

/* Of a worker that does not say that it heeds the window, the parts are gathered. */
Test(http_gathered, of_a_worker_without_the_feature)
{
    uint64_t call = ask(SPAN(GET));
    respond(call, "");
    data(call, 3, true);
    cr_expect_eq(talk.n, 0u);
    data(call, 1, false);
    cr_expect(has(&talk, "Content-Length: 4\r\n") && ends_with("\r\n\r\nxxxx"), "%.*s", (int)talk.n,
        talk.out);
}

Test(http_stream, head_has_no_body)
{
    uint64_t call = ask(SPAN("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"));
    respond(call, "");
    data(call, 3, false);
    cr_expect(has(&talk, "200 OK") && ends_with("\r\n\r\n") && !has(&talk, "xxx"));
}

/* Of events with a length, a part is no complete answer: they go on. */
Test(http_stream, events_with_a_length)
{
    uint64_t call = ask(SPAN(GET));
    respond(call,
        ",\"headers\":[[\"content-type\",\"text/event-stream\"],[\"content-length\",\"18\"]]");
    fake_worker_send_bytes(&worker, FRAME_DATA, FRAME_F_MORE, call, SPAN("data: 1\n\n"));
    say(&talk, SPAN(""));
    shard.ctx.parts_ops->leave(talk.client);
    expect_nothing();
    fake_worker_send_bytes(&worker, FRAME_DATA, 0, call, SPAN("data: 2\n\n"));
    say(&talk, SPAN(""));
    cr_expect(ends_with("data: 1\n\ndata: 2\n\n"), "%.*s", (int)talk.n, talk.out);
    cr_expect(list_empty(&talk.client->requests) && !talk.client->streams);
}

/* Where memory is out a small answer begins all the same, with what comes beside its head. */
Test(http_stream, begins_where_memory_is_out)
{
    static const char text[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"status\":200}}first";
    const struct frame_head head = {
        .type = FRAME_RESPONSE,
        .flags = FRAME_F_MORE,
        .call = ask(SPAN(GET)),
        .length = sizeof(text) - 1,
        .blob_len = 5,
    };
    uint8_t frame[FRAME_HEAD_SIZE + sizeof(text)];
    frame_head_write(&head, frame);
    memcpy(frame + FRAME_HEAD_SIZE, text, sizeof(text) - 1);
    memory_init(&shard.ctx.memory, 1);
    cr_assert_eq(ctx_memory(&shard.ctx), MEMORY_OUT);
    cr_assert_gt(write(worker.fd, frame, sizeof(frame) - 1), 0);
    say(&talk, SPAN(""));
    cr_expect(ends_with("\r\n\r\n5\r\nfirst\r\n"), "%.*s", (int)talk.n, talk.out);
    data(head.call, 0, false);
    cr_expect(ends_with("5\r\nfirst\r\n0\r\n\r\n"), "%.*s", (int)talk.n, talk.out);
}
