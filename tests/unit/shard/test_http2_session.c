#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/codec/h2_hpack.h"
#include "frontd/shard/session/http2_session.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/shardlet.h"

/* There is no worker: a call waits for an hour, or is answered by the test. */
#define CONF                                                                                       \
    "limits: {calls_per_connection: 2, streams: 5, body: 80000, write_buffer: 20000, "             \
    "header: 400, header_timeout: 3s, body_timeout: 5s, idle_timeout: 100s}\n"                     \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    h2c: true\n"                                                                              \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "      - {path: /h, kind: http, pool: app, timeout: 1h}\n"                                     \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/a.sock\"], wait_for_worker: 1h}\n"

#define GET_H                                                                                      \
    "\x82\x86\x04\x02/h\x01\x01"                                                                   \
    "h"

static struct shardlet shard;
static struct h2_bytes said;
static struct client *client;
static int peer;

/* What a client has been sent, frame by frame. */
static char got[1 << 20];
static size_t ngot;

static void set_up(void)
{
    fake_clock_stop();
    shardlet_init(&shard, CONF, 0);
    client = shardlet_client(&shard, "web", &peer);
    h2_begin(&said);
    ngot = 0;
}

static void tear_down(void)
{
    close(peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
    cr_expect(shard.ctx.http2->connections.used == 0 && shard.ctx.http2->streams.used == 0);
    shardlet_deinit(&shard);
}

TestSuite(http2, .init = set_up, .fini = tear_down);

static void send_said(void)
{
    cr_assert_eq(write(peer, said.p, said.n), (ssize_t)said.n);
    said.n = 0;
    shardlet_turn(&shard);
    shardlet_read(peer, got, sizeof(got), &ngot);
}

/* The n-th frame of a type on a stream, from 0 on; false: there is none. */
static bool find_frame(uint8_t type, uint32_t stream, unsigned n, struct h2_frame *ret_frame)
{
    size_t used;
    for (size_t at = 0; at < ngot; at += used) {
        cr_assert_eq(h2_frame_parse(got + at, ngot - at, ret_frame, &used), H2_OK);
        if (ret_frame->type == type && ret_frame->stream == stream && n-- == 0)
            return true;
    }
    return false;
}

static bool has_frame(uint8_t type, uint32_t stream)
{
    struct h2_frame frame;
    return find_frame(type, stream, 0, &frame);
}

/* The status of a stream's answer, 0: there is none. Blocks have been encoded without a table. */
static unsigned status_of(uint32_t stream)
{
    static char room[4096];
    struct h2_list list = {.text = room, .room = sizeof(room)};
    struct h2_frame frame;
    struct h2_field field;
    if (!find_frame(H2_HEADERS, stream, 0, &frame))
        return 0;
    struct h2_hpack *hpack = h2_hpack_new();
    cr_assert_eq(h2_hpack_decode(hpack, frame.payload, sizeof(room), &list), H2_OK);
    h2_hpack_free(hpack);
    cr_assert(h2_list_next(&(struct span){room, list.n}, &field));
    return (unsigned)strtoul(field.value.p, NULL, 10);
}

static uint32_t code_of(uint8_t type, uint32_t stream)
{
    struct h2_frame frame;
    unsigned n = 0;
    uint32_t code = UINT32_MAX;
    while (find_frame(type, stream, n++, &frame))
        code = frame.code;
    return code;
}

/* Bytes of a stream's DATA so far, and whether they are all. */
static size_t body_of(uint32_t stream, bool *ret_end)
{
    struct h2_frame frame;
    size_t n = 0;
    *ret_end = false;
    for (unsigned i = 0; find_frame(H2_DATA, stream, i, &frame); i++) {
        n += frame.payload.n;
        *ret_end = frame.flags & H2_FLAG_END_STREAM;
    }
    return n;
}

static struct call *call_of(uint32_t stream)
{
    struct h2_stream *found = h2_conn_find(&client->http2->conn, stream);
    cr_assert_not_null(found);
    struct request *request = http2_stream_of(found)->request;
    cr_assert(request != NULL && !list_empty(&request->calls));
    return list_first(&request->calls, struct call, node);
}

/* Has the call of a stream on /h answered with so many bytes. */
static void answer(uint32_t stream, size_t n)
{
    static char blob[100000];
    memset(blob, 'x', sizeof(blob));
    shardlet_answer(call_of(stream),
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"status\":200}}"), (struct span){blob, n});
    shardlet_turn(&shard);
    shardlet_read(peer, got, sizeof(got), &ngot);
}

#define ON(stream, block)   H2_SAY(&said, H2_HEADERS, H2_END, stream, block)
#define OPEN(stream, block) H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, stream, block)

static void advance(uint64_t ms)
{
    fake_clock_advance(ms);
    shardlet_turn(&shard);
    shardlet_read(peer, got, sizeof(got), &ngot);
}

/* ---- Requests ------------------------------------------------------------------------------- */

/* As many calls as a connection may have; the other streams wait, and start in their order. */
Test(http2, requests_wait)
{
    for (uint32_t id = 1; id <= 9; id += 2)
        ON(id, GET_H);
    send_said();
    advance(500); /* how large an answer is is a guess */
    cr_expect(client->calls == 2 && client->http2->waiting == 3);
    cr_expect_gt(client->http2->held, 0u);
    ON(11, GET_H);
    send_said();
    cr_expect_eq(code_of(H2_RST_STREAM, 11), (uint32_t)H2_REFUSED_STREAM);
    answer(3, 10);
    cr_expect(status_of(3) == 200 && client->calls == 2 && client->http2->waiting == 2);
    call_of(5);
    h2_number(&said, H2_RST_STREAM, 1, H2_CANCEL); /* its call ends, for the client */
    h2_number(&said, H2_RST_STREAM, 9, H2_CANCEL);
    send_said();
    cr_expect(client->calls == 2 && client->http2->waiting == 0 && client->http2->held == 0);
    answer(5, 1);
    answer(7, 1);
    cr_expect(status_of(5) == 200 && status_of(7) == 200 && client->http2->conn.open == 0);
    cr_expect(list_empty(&client->requests) && client->held_back == 0);
}

/* Bodies: the oldest stream may send all of it, the others a little. */
Test(http2, bodies)
{
    struct h2_frame frame;
    static char zeroes[H2_FRAME_MAX];
    h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    OPEN(1, GET_H);
    OPEN(3, GET_H);
    send_said();
    cr_assert(find_frame(H2_WINDOW_UPDATE, 1, 0, &frame));
    cr_expect_eq(frame.value, 80001u - H2_WINDOW_DEFAULT);
    cr_expect_not(has_frame(H2_WINDOW_UPDATE, 3));
    h2_frame(&said, H2_DATA, H2_FLAG_END_STREAM, 1, zeroes, 10000);
    h2_frame(&said, H2_DATA, 0, 3, zeroes, H2_FRAME_MAX);
    send_said();
    call_of(1);
    cr_assert(find_frame(H2_WINDOW_UPDATE, 3, 0, &frame));
    cr_expect_eq(frame.value, 80001u - H2_WINDOW_DEFAULT);
    for (int i = 0; i < 3; i++)
        h2_frame(&said, H2_DATA, 0, 3, zeroes, H2_FRAME_MAX);
    h2_frame(&said, H2_DATA, 0, 3, zeroes, 80000 - 4 * H2_FRAME_MAX);
    send_said();
    cr_expect_eq(status_of(3), 0u);
    h2_frame(&said, H2_DATA, 0, 3, zeroes, 1);
    send_said();
    cr_expect_eq(status_of(3), 413u);
    cr_expect_eq(code_of(H2_RST_STREAM, 3), (uint32_t)H2_NO_ERROR);
    cr_expect(client->http2->held == 0 && client->http2->bodies == 0);
}

/* Trailers end a body. */
Test(http2, trailers)
{
    OPEN(1, H2_POST_RPC);
    H2_SAY(&said, H2_DATA, 0, 1, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}");
    send_said();
    cr_expect_eq(client->calls, 0u);
    H2_SAY(&said, H2_HEADERS, H2_END, 1, "\x00\x01x\x01y");
    send_said();
    cr_expect_eq(client->calls, 1u);
}

/* ---- Answers -------------------------------------------------------------------------------- */

/* What the window does not let go waits, and is charged to the client. */
Test(http2, answers_wait)
{
    bool end;
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 100);
    ON(1, GET_H);
    ON(3, GET_H);
    send_said();
    answer(1, 250);
    answer(3, 120);
    cr_expect(body_of(1, &end) == 100 && !end && body_of(3, &end) == 100 && !end);
    cr_expect(client->held_back == 170 && list_empty(&client->requests));
    h2_number(&said, H2_WINDOW_UPDATE, 3, 20);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 149);
    send_said();
    cr_expect(body_of(3, &end) == 120 && end && body_of(1, &end) == 249 && !end);
    cr_expect_eq(client->held_back, 1u);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 1);
    send_said();
    cr_expect(body_of(1, &end) == 250 && end && client->http2->conn.open == 0);
}

/* Streams take turns, a frame each. */
Test(http2, answers_take_turns)
{
    struct h2_frame frame;
    size_t used;
    uint32_t order[8] = {0}, n = 0;
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 0);
    ON(1, GET_H);
    ON(3, GET_H);
    send_said();
    answer(1, 19000);
    answer(3, 19000);
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 100000);
    send_said();
    for (size_t at = 0; at < ngot; at += used) {
        cr_assert_eq(h2_frame_parse(got + at, ngot - at, &frame, &used), H2_OK);
        if (frame.type == H2_DATA)
            order[n++] = frame.stream;
    }
    const uint32_t wanted[] = {1, 3, 1, 3};
    cr_expect(n == 4 && memcmp(order, wanted, sizeof(wanted)) == 0);
}

/* More than write_buffer is not held: no further request is started meanwhile. */
Test(http2, write_buffer)
{
    bool end;
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 0);
    ON(1, GET_H);
    send_said();
    answer(1, 30000);
    cr_expect_eq(client->held_back, 30000u);
    cr_expect_geq(client_holds(client), 30000u, "the largest holder is the first to be ended");
    ON(3, GET_H);
    send_said();
    cr_expect(client->calls == 0 && client->http2->waiting == 1);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 30000);
    send_said();
    cr_expect(body_of(1, &end) == 30000 && end && client->calls == 1);
    cr_expect_lt(client_holds(client), 30000u);
}

/* ---- Time ----------------------------------------------------------------------------------- */

Test(http2, a_slow_body)
{
    OPEN(1, H2_POST_RPC);
    OPEN(3, H2_POST_RPC);
    send_said();
    for (int i = 0; i < 8; i++) { /* 3 has enough, 1 does not */
        static const char zeroes[200];
        H2_SAY(&said, H2_DATA, 0, 1, "x");
        h2_frame(&said, H2_DATA, 0, 3, zeroes, sizeof(zeroes));
        send_said();
        advance(1000);
    }
    cr_expect(status_of(1) == 408 && status_of(3) == 0);
    cr_expect_eq(code_of(H2_RST_STREAM, 1), (uint32_t)H2_NO_ERROR);
}

Test(http2, a_slow_reader)
{
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 0);
    ON(1, GET_H);
    send_said();
    answer(1, 1000);
    for (int i = 0; i < 8; i++) {
        h2_number(&said, H2_WINDOW_UPDATE, 1, 1);
        send_said();
        advance(1000);
    }
    cr_expect_eq(code_of(H2_RST_STREAM, 1), (uint32_t)H2_CANCEL);
    cr_expect(client->http2->conn.open == 0 && client->held_back == 0);
}

Test(http2, a_slow_block)
{
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_STREAM, 1, "\x82");
    send_said();
    advance(2900);
    cr_expect_not(has_frame(H2_GOAWAY, 0));
    advance(200);
    cr_expect_eq(code_of(H2_GOAWAY, 0), (uint32_t)H2_ENHANCE_YOUR_CALM);
}

Test(http2, idle)
{
    ON(1, H2_GET_NONE);
    send_said();
    cr_expect_eq(status_of(1), 404u);
    advance(99000);
    cr_expect_not(has_frame(H2_GOAWAY, 0));
    advance(2000);
    cr_expect_eq(code_of(H2_GOAWAY, 0), (uint32_t)H2_NO_ERROR);
}

/* ---- Ending --------------------------------------------------------------------------------- */

/* GOAWAY twice; the second when the PING is answered, or after a second. */
Test(http2, drain)
{
    struct h2_frame frame;
    ON(1, GET_H);
    send_said();
    client_drain(client);
    shardlet_turn(&shard);
    shardlet_read(peer, got, sizeof(got), &ngot);
    cr_assert(find_frame(H2_GOAWAY, 0, 0, &frame) && frame.value == H2_STREAM_MAX);
    cr_assert(find_frame(H2_PING, 0, 0, &frame));
    ON(3, GET_H); /* it was under way */
    send_said();
    advance(HTTP2_GOAWAY_MS - 100);
    cr_expect_eq(client->calls, 2u);
    cr_expect_not(find_frame(H2_GOAWAY, 0, 1, &frame));
    advance(200);
    cr_assert(find_frame(H2_GOAWAY, 0, 1, &frame) && frame.value == 3);
    ON(5, GET_H);
    send_said();
    answer(1, 5);
    cr_expect_eq(client->state, CLIENT_OPEN);
    answer(3, 5);
    cr_expect(status_of(1) == 200 && status_of(3) == 200 && status_of(5) == 0);
    char byte;
    cr_expect_eq(recv(peer, &byte, 1, 0), 0);
}

/* A fault of the connection: GOAWAY, its calls are cancelled, and its descriptor is closed. */
Test(http2, fault)
{
    ON(1, GET_H);
    OPEN(3, GET_H);
    send_said();
    H2_SAY(&said, H2_CONTINUATION, 0, 3, "x");
    ON(5, GET_H);
    send_said();
    cr_expect_eq(code_of(H2_GOAWAY, 0), (uint32_t)H2_PROTOCOL_ERROR);
    char byte;
    cr_expect_eq(recv(peer, &byte, 1, 0), 0);
    cr_expect_eq(shard.ctx.http2->streams.used, 0u);
}

/* ---- Header tables -------------------------------------------------------------------------- */

/* With more connections than decoders tables are frozen, and nothing is lost. */
Test(http2, tables)
{
    enum { CLIENTS = HTTP2_DECODERS + 10 };
    static struct client *clients[CLIENTS];
    static int peers[CLIENTS];
    /* twice: a path that is learned, then by its index */
    for (int round = 0; round < 3; round++) {
        for (size_t i = 0; i < CLIENTS; i++) {
            static char out[4096];
            size_t n = 0;
            said.n = 0;
            if (round == 0) {
                clients[i] = shardlet_client(&shard, "web", &peers[i]);
                h2_begin(&said);
                ON(1, "\x82\x86\x44\x06/learn\x41\x01h");
            } else {
                ON((uint32_t)(2 * round + 1), "\x82\x86\xbf\xbe");
            }
            cr_assert_eq(write(peers[i], said.p, said.n), (ssize_t)said.n);
            shardlet_turn(&shard);
            shardlet_read(peers[i], out, sizeof(out), &n);
            cr_assert_not_null(memmem(out, n, "404 Not Found", 13), "%d %zu", round, i);
        }
        cr_expect_eq(shard.ctx.http2->ndecoders, (unsigned)HTTP2_DECODERS);
    }
    unsigned frozen = 0;
    for (size_t i = 0; i < CLIENTS; i++)
        frozen += clients[i]->http2->frozen_n > 0;
    cr_expect_eq(frozen, CLIENTS - HTTP2_DECODERS);
    advance(HTTP2_DECODER_MS - 100);
    cr_expect_eq(shard.ctx.http2->ndecoders, (unsigned)HTTP2_DECODERS);
    advance(200); /* idle connections have none */
    cr_expect_eq(shard.ctx.http2->ndecoders, 0u);
    for (size_t i = 0; i < CLIENTS; i++) {
        cr_expect_gt(clients[i]->http2->frozen_n, 0u);
        close(peers[i]);
    }
    shardlet_turn(&shard);
}

/* ---- Cut and moved anywhere ----------------------------------------------------------------- */

/* What is on its way goes on in a client that was made of the state of this one. */
static struct client *move(struct client *from)
{
    struct buf state = {0};
    struct client *to;
    int fd = dup(from->fd);
    client_freeze(from);
    cr_assert_eq(client_save(from, &state), 0);
    cr_assert_eq(client_restore(&shard.ctx, &shard.clients, fd,
                     (struct span){buf_data(&state), buf_len(&state)}, &to),
        0);
    client_release(from);
    client_start(to);
    buf_deinit(&state);
    return to;
}

static void say_everything(void)
{
    h2_begin(&said);
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 10);
    ON(1, "\x82\x86\x44\x06/learn\x41\x01h");
    OPEN(3, H2_POST_RPC);
    H2_SAY(&said, H2_DATA, 0, 3, "{\"id\":");
    H2_SAY(&said, H2_PING, 0, 0, "12345678");
    H2_SAY(&said, H2_HEADERS, H2_FLAG_END_STREAM, 5, "\x82\x86");
    H2_SAY(&said, H2_CONTINUATION, H2_FLAG_END_HEADERS, 5, "\xbf\xbe");
    H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM, 3, "1}");
    h2_number(&said, H2_WINDOW_UPDATE, 1, 3);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 1);
    h2_number(&said, H2_WINDOW_UPDATE, 3, 1000);
    h2_number(&said, H2_WINDOW_UPDATE, 5, 1000);
    ON(7, "\x82\x86\xbf\xbe");
    h2_number(&said, H2_WINDOW_UPDATE, 7, 1000);
}

/* The frames of each stream are the same, cut and moved anywhere; streams may overtake others. */
static uint64_t digest_of(const char *bytes, size_t n)
{
    uint64_t sum = 0;
    uint64_t of_stream[16] = {0};
    struct h2_frame frame;
    size_t used;
    for (size_t at = 0; at < n; at += used) {
        cr_assert_eq(h2_frame_parse(bytes + at, n - at, &frame, &used), H2_OK);
        uint64_t *hash = &of_stream[frame.stream % 16];
        if (frame.type == H2_DATA) { /* bodies may be cut in another way */
            for (size_t i = 0; i < frame.payload.n; i++)
                *hash = *hash * 31 + (uint8_t)frame.payload.p[i];
            *hash += frame.flags & H2_FLAG_END_STREAM;
            continue;
        }
        if (frame.type == H2_WINDOW_UPDATE) /* by what has come so far */
            continue;
        for (size_t i = 0; i < used; i++)
            *hash = *hash * 31 + (uint8_t)bytes[at + i];
    }
    for (size_t i = 0; i < 16; i++)
        sum = sum * 1000003 + of_stream[i];
    return sum;
}

static size_t run_cut(size_t at, bool moves, char *out, size_t size)
{
    int other;
    size_t n = 0;
    struct client *cut = shardlet_client(&shard, "web", &other);
    cr_assert_eq(write(other, said.p, at), (ssize_t)at);
    shardlet_turn(&shard);
    cr_assert(client_can_move(cut));
    if (moves)
        cut = move(cut);
    cr_assert_eq(write(other, said.p + at, said.n - at), (ssize_t)(said.n - at));
    shardlet_turn(&shard);
    shardlet_read(other, out, size, &n);
    cr_assert(cut->state == CLIENT_OPEN && cut->http2->conn.open == 0);
    close(other);
    shardlet_turn(&shard);
    return n;
}

Test(http2, cut_and_moved_anywhere)
{
    static char out[1 << 16], first[1 << 16];
    say_everything();
    size_t n = run_cut(0, false, first, sizeof(first));
    cr_assert_gt(n, 300u);
    for (size_t at = 1; at <= said.n; at++) {
        for (int moves = 0; moves < 2; moves++) {
            size_t len = run_cut(at, moves, out, sizeof(out));
            cr_assert_eq(digest_of(out, len), digest_of(first, n), "cut at %zu%s", at,
                moves ? ", moved" : "");
        }
    }
}

/* A reload changes limits: the client is told, and held to them when it has read that. */
Test(http2, limits_that_change)
{
    struct conf_limits *limits = &shard.conf->limits;
    struct h2_frame frame;
    h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    send_said();
    client = move(client);
    send_said();
    cr_expect_not(find_frame(H2_SETTINGS, 0, 2, &frame)); /* ours, the answer to its, and no more */
    struct buf state = {0};
    client_freeze(client);
    cr_assert_eq(client_save(client, &state), 0);
    limits->streams = 2;
    limits->header = 300;
    struct client *to;
    cr_assert_eq(client_restore(&shard.ctx, &shard.clients, dup(client->fd),
                     (struct span){buf_data(&state), buf_len(&state)}, &to),
        0);
    client_release(client);
    client_start(to);
    client = to;
    buf_deinit(&state);
    for (uint32_t id = 1; id <= 5; id += 2)
        OPEN(id, H2_POST_RPC);
    send_said();
    cr_assert(find_frame(H2_SETTINGS, 0, 2, &frame));
    cr_expect_eq(frame.payload.n, 2u * H2_SETTING_SIZE);
    cr_expect_eq(client->http2->conn.open, 3); /* it may not have known yet */
    h2_frame(&said, H2_SETTINGS, H2_FLAG_ACK, 0, NULL, 0);
    OPEN(7, H2_POST_RPC);
    send_said();
    cr_expect_eq(code_of(H2_RST_STREAM, 7), (uint32_t)H2_REFUSED_STREAM);
}

/* What is no preface is HTTP/1.1, wherever it is cut. */
Test(http2, http1_on_the_same_listener)
{
    static const char text[] = "PRI /none HTTP/1.1\r\nHost: h\r\n\r\n";
    for (size_t at = 0; at < sizeof(text); at++) {
        char out[1024];
        size_t n = 0;
        int other;
        struct client *cut = shardlet_client(&shard, "web", &other);
        cr_assert_eq(write(other, text, at), (ssize_t)at);
        shardlet_turn(&shard);
        cut = move(cut);
        cr_assert_eq(write(other, text + at, sizeof(text) - 1 - MIN(at, sizeof(text) - 1)),
            (ssize_t)(sizeof(text) - 1 - MIN(at, sizeof(text) - 1)));
        shardlet_turn(&shard);
        shardlet_read(other, out, sizeof(out), &n);
        cr_assert(n > 20 && memcmp(out, "HTTP/1.1 404 ", 13) == 0, "%zu: %.*s", at, (int)n, out);
        close(other);
        shardlet_turn(&shard);
    }
}

/* Each allocation fails once: at worst the connection is closed. */
Test(http2, memory)
{
    static char out[1 << 16];
    say_everything();
    for (int i = 0; i < 3; i++)
        run_cut(0, false, out, sizeof(out));
    bool failed = true;
    unsigned closed = 0;
    long fails = 0;
    for (; failed; fails++) {
        int other;
        size_t n = 0;
        shardlet_client(&shard, "web", &other);
        cr_assert_eq(write(other, said.p, said.n), (ssize_t)said.n);
        mem_trim();
        mem_fail_after(fails);
        shardlet_turn(&shard);
        failed = shardlet_has_failed(fails);
        shardlet_read(other, out, sizeof(out), &n);
        closed += shard.ctx.open == 1; /* the one of set_up() is there */
        close(other);
        shardlet_turn(&shard);
        cr_assert_eq(shard.ctx.open, 1u);
        cr_assert_eq(shard.ctx.http2->streams.used, 0u);
    }
    cr_expect(fails > 10 && closed > 5, "%ld, %u closed", fails, closed);
}
