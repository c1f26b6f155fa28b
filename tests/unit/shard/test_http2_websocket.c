/* WebSockets over HTTP/2 (RFC 8441). */

#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/codec/h2_hpack.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/session/http2_session.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/shardlet.h"

/* There is no worker: a call waits for an hour, or is answered by the test. */
#define CONF                                                                                       \
    "limits: {calls_per_connection: 2, streams: 5, body: 80000, write_buffer: 30000, "             \
    "connections: 6, header: 400, body_timeout: 5s, idle_timeout: 100s}\n"                         \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    h2c: true\n"                                                                              \
    "    h2_websocket: true\n"                                                                     \
    "    routes:\n"                                                                                \
    "      - {path: /ws, kind: websocket, pool: app, timeout: 1h, ping: 30s, protocols: [b, a]}\n" \
    "      - {path: /own, kind: websocket, pool: app, origins: [\"https://h\"]}\n"                 \
    "      - {path: /drop, kind: websocket, pool: app, slow: drop}\n"                              \
    "      - {path: /ask, kind: websocket, pool: app, events: true, connect: ask, timeout: 1h}\n"  \
    "      - {path: /h, kind: http, pool: app, timeout: 1h}\n"                                     \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "  - {name: off, address: \"127.0.0.1:8081\", h2c: true, routes: [{path: /ws, kind: "          \
    "websocket, pool: app}]}\n"                                                                    \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/a.sock\"], wait_for_worker: 1h}\n"

/* A name or value of a header block that is not in the static table; and CONNECT. */
#define TEXT_9(text) "\x09" text
#define PROTOCOL     "\x00\x09:protocol\x09websocket"
#define VERSION_13                                                                                 \
    "\x00\x15sec-websocket-version\x02"                                                            \
    "13"
#define BEGIN(n, path)                                                                             \
    "\x02\x07"                                                                                     \
    "CONNECT\x86\x01\x01h\x04" n path
#define CONNECT(n, path) BEGIN(n, path) PROTOCOL VERSION_13

#define GET_H "\x82\x86\x01\x01h\x04\x02/h"

/* Frames of a WebSocket, with a mask that changes nothing. */
#define WRONG "\x81\x81\0\0\0\0{" /* a message that is answered at once: it is no JSON */
#define CALL  "\x81\xa5\0\0\0\0{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"
#define PING  "\x89\x82\0\0\0\0hi"
#define BYE   "\x88\x82\0\0\0\0\x03\xe8"

static struct shardlet shard;
static struct h2_bytes said;
static struct client *client;
static int peer;

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
    cr_expect(list_empty(&shard.clients) && shard.ctx.open == 0);
    cr_expect(shard.ctx.http2->connections.used == 0 && shard.ctx.http2->streams.used == 0);
    cr_expect(shard.ctx.duplexes.used == 0 && shard.ctx.clients.used == 0);
    cr_expect_eq(shardlet_connections(), 0u);
    shardlet_deinit(&shard);
}

TestSuite(http2_websocket, .init = set_up, .fini = tear_down);

static void read_answers(void)
{
    shardlet_turn(&shard);
    shardlet_read(peer, got, sizeof(got), &ngot);
}

static void send_said(void)
{
    cr_assert_eq(write(peer, said.p, said.n), (ssize_t)said.n);
    said.n = 0;
    read_answers();
}

static void advance(uint64_t ms)
{
    fake_clock_advance(ms);
    read_answers();
}

#define OPEN(stream, block) H2_SAY(&said, H2_HEADERS, H2_FLAG_END_HEADERS, stream, block)
#define SAY(stream, data)   H2_SAY(&said, H2_DATA, 0, stream, data)
#define END(stream)         H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM, stream, "")

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

/* The value of a field of a stream's answer; n == 0: it is not there. */
static struct span field_of(uint32_t stream, struct span name)
{
    static char room[4096];
    struct h2_list list = {.text = room, .room = sizeof(room)};
    struct h2_frame frame;
    struct h2_field field;
    if (!find_frame(H2_HEADERS, stream, 0, &frame))
        return (struct span){0};
    struct h2_hpack *hpack = h2_hpack_new();
    cr_assert_eq(h2_hpack_decode(hpack, frame.payload, sizeof(room), &list), H2_OK);
    h2_hpack_free(hpack);
    struct span text = {room, list.n};
    while (h2_list_next(&text, &field)) {
        if (field.name.n == name.n && memcmp(field.name.p, name.p, name.n) == 0)
            return field.value;
    }
    return (struct span){0};
}

static unsigned status_of(uint32_t stream)
{
    struct span value = field_of(stream, SPAN(":status"));
    return value.n == 0 ? 0 : (unsigned)strtoul(value.p, NULL, 10);
}

/* The code of the RST_STREAM on a stream; UINT32_MAX: there is none. */
static uint32_t reset_of(uint32_t stream)
{
    struct h2_frame frame;
    return find_frame(H2_RST_STREAM, stream, 0, &frame) ? frame.code : UINT32_MAX;
}

/* What has come on a stream, and whether that is all. */
static struct span data_of(uint32_t stream, bool *ret_end)
{
    static char data[1 << 18];
    struct h2_frame frame;
    size_t n = 0;
    *ret_end = false;
    for (unsigned i = 0; find_frame(H2_DATA, stream, i, &frame); i++) {
        cr_assert_not(*ret_end);
        memcpy(data + n, frame.payload.p, frame.payload.n);
        n += frame.payload.n;
        *ret_end = frame.flags & H2_FLAG_END_STREAM;
    }
    return (struct span){data, n};
}

static bool has_data(uint32_t stream, const char *bytes, size_t n)
{
    bool end;
    struct span data = data_of(stream, &end);
    return memmem(data.p, data.n, bytes, n) != NULL;
}

#define HAS(stream, literal) has_data(stream, literal, sizeof(literal) - 1)

static bool has_ended(uint32_t stream)
{
    bool end;
    data_of(stream, &end);
    return end;
}

/* The client that a stream's WebSocket has. */
static struct client *socket_of(uint32_t stream)
{
    struct h2_stream *found = h2_conn_find(&client->http2->conn, stream);
    cr_assert(found != NULL && http2_stream_of(found)->state == HTTP2_SOCKET);
    list_for_each (node, &shard.clients) {
        struct client *socket = container_of(node, struct client, node);
        if (socket->fd < 0 && client_carrier(socket) == client &&
            http2_stream_of(found)->socket == (void *)socket->transport)
            return socket;
    }
    cr_assert_fail("no client");
    return NULL;
}

static struct call *call_of(const struct client *of)
{
    cr_assert_not(list_empty(&of->requests));
    struct request *request = list_first(&of->requests, struct request, node);
    cr_assert_not(list_empty(&request->calls));
    return list_first(&request->calls, struct call, node);
}

/* ---- Handshakes ----------------------------------------------------------------------------- */

#define ORIGIN(n, text) "\x00\x06origin" n text

static const struct {
    const char *what;
    struct span block;
    unsigned status;
} handshakes[] = {
#define ROW(what, block, status)                                                                   \
    {                                                                                              \
        what, {block, sizeof(block) - 1}, status                                                   \
    }
    ROW("right", CONNECT("\x03", "/ws"), 200),
    ROW("a path of the route", CONNECT("\x06", "/ws/x?"), 200),
    ROW("allowed origin", CONNECT("\x04", "/own") ORIGIN("\x09", "https://h"), 200),
    ROW("no origin", CONNECT("\x04", "/own"), 200),
    ROW("other origin", CONNECT("\x04", "/own") ORIGIN("\x09", "https://x"), 403),
    ROW("no version", BEGIN("\x03", "/ws") PROTOCOL, 426),
    ROW("other version",
        BEGIN("\x03", "/ws") PROTOCOL "\x00\x15sec-websocket-version\x01"
                                      "8",
        426),
    ROW("bad protocols", CONNECT("\x03", "/ws") "\x00\x16sec-websocket-protocol\x01;", 400),
    ROW("another protocol",
        BEGIN("\x03", "/ws") "\x00\x09:protocol\x0b"
                             "connect-udp",
        501),
    ROW("http route", CONNECT("\x02", "/h"), 405),
    ROW("jsonrpc route", CONNECT("\x04", "/rpc"), 405),
    ROW("no route", CONNECT("\x05", "/none"), 404),
    ROW("GET", "\x82\x86\x01\x01h\x04\x03/ws" VERSION_13, 426),
};

Test(http2_websocket, handshakes)
{
    struct h2_frame frame;
    uint32_t id = 1;
    send_said();
    cr_assert(find_frame(H2_SETTINGS, 0, 0, &frame));
    cr_expect_eq(frame.payload.n, 3u * H2_SETTING_SIZE);
    for (size_t i = 0; i < ARRAY_LEN(handshakes); i++, id += 2) {
        bool is_get = strcmp(handshakes[i].what, "GET") == 0;
        h2_frame(&said, H2_HEADERS, is_get ? H2_END : H2_FLAG_END_HEADERS, id,
            handshakes[i].block.p, handshakes[i].block.n);
        send_said();
        cr_expect_eq(
            status_of(id), handshakes[i].status, "%s: %u", handshakes[i].what, status_of(id));
        if (handshakes[i].status == 200) {
            cr_expect(!has_ended(id) && reset_of(id) == UINT32_MAX);
            cr_expect_eq(field_of(id, SPAN("content-length")).n, 0u);
            cr_expect_eq(field_of(id, SPAN("sec-websocket-accept")).n, 0u);
            h2_number(&said, H2_RST_STREAM, id, H2_CANCEL);
            send_said();
        } else {
            cr_expect_eq(reset_of(id), (uint32_t)(is_get ? UINT32_MAX : H2_NO_ERROR));
        }
        cr_expect(client->http2->conn.open == 0 && client->http2->held == 0);
    }
    OPEN(id, CONNECT("\x03", "/ws") "\x00\x16sec-websocket-protocol\x07x, a, b");
    send_said();
    cr_expect_eq(status_of(id), 200u);
    struct span protocol = field_of(id, SPAN("sec-websocket-protocol"));
    cr_expect(protocol.n == 1 && protocol.p[0] == 'b');
}

/* Without the setting it is a malformed request; and on a listener with it in wrong places. */
Test(http2_websocket, malformed)
{
    OPEN(1, CONNECT("\x03", "/ws"));
    SAY(1, WRONG);
    H2_SAY(&said, H2_HEADERS, H2_END, 1, "\x00\x01x\x01y");
    OPEN(3, "\x83\x86\x01\x01h\x04\x03/ws" PROTOCOL VERSION_13);
    OPEN(5, "\x02\x07"
            "CONNECT\x86\x01\x01h" PROTOCOL VERSION_13);
    send_said();
    cr_expect_eq(status_of(1), 200u);
    for (uint32_t id = 1; id <= 5; id += 2)
        cr_expect_eq(reset_of(id), (uint32_t)H2_PROTOCOL_ERROR, "%u", id);

    close(peer);
    shardlet_turn(&shard);
    client = shardlet_client(&shard, "off", &peer);
    ngot = 0;
    h2_begin(&said);
    OPEN(1, CONNECT("\x03", "/ws"));
    send_said();
    struct h2_frame frame;
    cr_assert(find_frame(H2_SETTINGS, 0, 0, &frame));
    cr_expect_eq(frame.payload.n, 2u * H2_SETTING_SIZE);
    cr_expect(status_of(1) == 0 && reset_of(1) == H2_PROTOCOL_ERROR);
}

/* limits.connections counts each of them; and limits.streams. */
Test(http2_websocket, limits)
{
    int other;
    shardlet_client(&shard, "web", &other);
    for (uint32_t id = 1; id <= 7; id += 2)
        OPEN(id, CONNECT("\x03", "/ws"));
    send_said();
    cr_expect_eq(shardlet_connections(), 6u);
    cr_expect(shard.ctx.open == 2); /* that have a descriptor */
    OPEN(9, CONNECT("\x03", "/ws"));
    send_said();
    cr_expect(status_of(7) == 200 && status_of(9) == 503);
    close(other);
    shardlet_turn(&shard);
    OPEN(11, CONNECT("\x03", "/ws"));
    OPEN(13, CONNECT("\x03", "/ws"));
    send_said();
    cr_expect(status_of(11) == 200 && reset_of(13) == H2_REFUSED_STREAM);
    h2_number(&said, H2_RST_STREAM, 1, H2_CANCEL);
    send_said();
    cr_expect_eq(shardlet_connections(), 5u);
}

/* ---- Messages ------------------------------------------------------------------------------- */

Test(http2_websocket, messages)
{
    OPEN(1, CONNECT("\x03", "/ws"));
    SAY(1, CALL); /* it need not wait for the answer */
    OPEN(3, CONNECT("\x03", "/ws"));
    SAY(3, PING WRONG);
    OPEN(5, H2_GET_NONE);
    END(5);
    send_said();
    cr_expect(HAS(3, "\x8a\x02hi") && HAS(3, "-32700"));
    cr_expect_eq(status_of(5), 404u);
    struct client *socket = socket_of(1);
    cr_expect(socket->conn.id != client->conn.id && socket->calls == 1 && client->calls == 0);
    cr_expect_eq(client_find(&shard.ctx, socket->conn.id), socket);
    shardlet_answer(
        call_of(socket), SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}"), (struct span){0});
    read_answers();
    cr_expect(HAS(1, "\"result\":7"));
    SAY(1, BYE);
    send_said();
    cr_expect(HAS(1, "\x88\x02\x03\xe8") && has_ended(1));
    cr_expect_eq(client->http2->conn.open, 2); /* its side is open still */
    END(1);
    send_said();
    cr_expect(client->http2->conn.open == 1 && reset_of(1) == UINT32_MAX);
}

/* How it ends: the end of the client's side, a reset, both in mid-message, and the connection's. */
Test(http2_websocket, ends)
{
    for (uint32_t id = 1; id <= 7; id += 2) {
        OPEN(id, CONNECT("\x03", "/ws"));
        SAY(id, "\x81\xfe\x01");
    }
    send_said();
    cr_expect_eq(shard.ctx.duplexes.used, 4u);
    END(1);
    h2_number(&said, H2_RST_STREAM, 3, H2_CANCEL);
    send_said();
    cr_expect(has_ended(1) && reset_of(1) == UINT32_MAX && reset_of(3) == UINT32_MAX);
    cr_expect(shard.ctx.duplexes.used == 2 && client->http2->conn.open == 2);
    client_doom(socket_of(5)); /* as when memory is short */
    read_answers();
    cr_expect_eq(reset_of(5), (uint32_t)H2_NO_ERROR);
    cr_expect_eq(shard.ctx.duplexes.used, 1u);
    advance(2000);
    struct client *socket = socket_of(7);
    duplex_close(socket, WS_CODE_GOING_AWAY, SPAN("bye"));
    read_answers();
    cr_expect(HAS(7, "\x88\x05\x03\xe9"
                     "bye") &&
              !has_ended(7));
    advance(5001); /* the client's Close does not come */
    read_answers();
    cr_expect(client->http2->conn.open == 0 && reset_of(7) == H2_NO_ERROR);
}

/* A silent client is pinged, and lost: its stream ends, the others and the connection go on. */
Test(http2_websocket, silence)
{
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, CONNECT("\x03", "/ws"));
    send_said();
    for (int i = 0; i < 4; i++) {
        advance(30000);
        SAY(3, "\x8a\x80\0\0\0\0");
        send_said();
    }
    cr_expect(HAS(1, "\x89\x00") && HAS(3, "\x89\x00"));
    cr_expect(client->http2->conn.open == 1 && client->state == CLIENT_OPEN);
    socket_of(3);
}

/* ---- Windows -------------------------------------------------------------------------------- */

static void push(struct client *to, size_t n)
{
    static char text[100000];
    memset(text, 'p', sizeof(text));
    struct shared shared = {.payload = {text, n}};
    client_session(to)->deliver(to, &shared);
    for (size_t i = 0; i < SESSIONS; i++)
        message_unref(shared.encoded[i]);
}

static size_t length_of(uint32_t stream)
{
    bool end;
    return data_of(stream, &end).n;
}

/* What is pushed goes out as the stream's window and the connection's allow, and waits within
 * write_buffer; streams take turns. */
Test(http2_websocket, windows)
{
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 10);
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, CONNECT("\x03", "/ws"));
    send_said();
    push(socket_of(1), 1000);
    push(socket_of(3), 1000);
    read_answers();
    cr_expect(length_of(1) == 10 && length_of(3) == 10);
    cr_expect_gt(client_waiting(socket_of(1)), 900u);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 5);
    send_said();
    cr_expect(length_of(1) == 15 && length_of(3) == 10);
    h2_number(&said, H2_WINDOW_UPDATE, 3, 5000);
    SAY(1, PING); /* the answer waits behind */
    send_said();
    cr_expect_eq(length_of(3), 1004u);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 100000);
    send_said();
    cr_expect(length_of(1) == 1008 && HAS(1, "p\x8a\x02hi"));
    cr_expect(list_empty(&client->http2->sending));
    /* The connection's window is for both. */
    h2_number(&said, H2_WINDOW_UPDATE, 3, 100000);
    send_said();
    for (int i = 0; i < 4; i++) {
        push(socket_of(1), 20000);
        push(socket_of(3), 20000);
        read_answers();
    }
    cr_expect_eq(length_of(1) + length_of(3), (size_t)H2_WINDOW_DEFAULT);
    cr_expect(length_of(1) > 20000 && length_of(3) > 20000);
}

/* A client that does not open its window is slow: closed, or it misses pushes; others are not. */
Test(http2_websocket, slow_readers)
{
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 10);
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, CONNECT("\x05", "/drop"));
    OPEN(5, CONNECT("\x03", "/ws"));
    OPEN(7, CONNECT("\x03", "/ws"));
    h2_number(&said, H2_WINDOW_UPDATE, 5, 1000000);
    h2_number(&said, H2_WINDOW_UPDATE, 0, 1000000);
    send_said();
    push(socket_of(7), 8); /* all of its window */
    read_answers();
    advance(20000); /* they were idle, which is not held against them */
    cr_expect_eq(length_of(7), 10u);
    for (int i = 0; i < 4; i++) {
        for (uint32_t id = 1; id <= 5; id += 2) {
            struct h2_stream *stream = h2_conn_find(&client->http2->conn, id);
            if (stream != NULL && socket_of(id)->state == CLIENT_OPEN)
                push(socket_of(id), 20000);
        }
        read_answers();
    }
    cr_expect_gt(length_of(5), 80000u);
    cr_expect_gt(socket_of(3)->duplex->dropped, 1u);
    cr_expect(socket_of(1)->duplex->close_sent);
    push(socket_of(7), 100);
    read_answers();
    advance(4900);
    cr_expect_eq(reset_of(7), UINT32_MAX);
    advance(200); /* body_timeout */
    cr_expect_eq(reset_of(7), (uint32_t)H2_CANCEL);
    cr_expect_eq(reset_of(5), UINT32_MAX);
}

/* Much in one turn, more than what waits anywhere, is no fault of a client that reads; nor is that
 * another one on the connection does not. */
Test(http2_websocket, bursts)
{
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, CONNECT("\x03", "/ws"));
    h2_number(&said, H2_WINDOW_UPDATE, 3, 1000000);
    h2_number(&said, H2_WINDOW_UPDATE, 0, 1000000);
    send_said();
    for (int i = 0; i < 10; i++)
        push(socket_of(1), 9000);
    for (int i = 0; i < 14; i++)
        push(socket_of(3), 9000);
    read_answers();
    cr_expect(length_of(1) == H2_WINDOW_DEFAULT && length_of(3) == 14 * 9004u);
    cr_expect(!socket_of(1)->duplex->close_sent && !socket_of(3)->duplex->close_sent);
}

/* A client that is not read, since it has as many calls as it may, has its window shut. */
Test(http2_websocket, window_of_a_client)
{
    struct h2_frame frame;
    static char large[40000 + 8];
    static const char head[] = "\x82\xfe\x9c\x40\0\0\0\0";
    memcpy(large, head, 8);
    OPEN(1, CONNECT("\x03", "/ws"));
    SAY(1, CALL CALL);
    send_said();
    advance(500); /* how large an answer is is a guess */
    cr_expect_eq(socket_of(1)->calls, 2u);
    for (size_t at = 0; at < sizeof(large); at += 10002)
        h2_frame(&said, H2_DATA, 0, 1, large + at, 10002);
    send_said();
    cr_expect(find_frame(H2_WINDOW_UPDATE, 1, 0, &frame)); /* it is read on, up to a message */
    cr_expect(socket_of(1)->pending != NULL);
    size_t sent = sizeof(large);
    while (h2_conn_find(&client->http2->conn, 1)->recv_window >= 10000 && sent < 1000000) {
        memset(large, 0, sizeof(large));
        h2_frame(&said, H2_DATA, 0, 1, large, 10000);
        send_said();
        sent += 10000;
    }
    cr_expect(sent > 100000 && sent < 250000, "%zu", sent); /* a message, a read, a window */
    cr_expect_gt(client->http2->held, 30000u);
    h2_number(&said, H2_RST_STREAM, 1, H2_CANCEL);
    send_said();
    cr_expect_eq(client->http2->held, 0u);
}

/* One that waits to be started, since no more requests may be, and what comes behind it. */
Test(http2_websocket, waits)
{
    OPEN(1, "\x82\x86\x01\x01h\x04\x02/h");
    END(1);
    OPEN(3, "\x82\x86\x01\x01h\x04\x02/h");
    END(3);
    send_said();
    advance(500);
    cr_expect_eq(client->calls, 2u);
    OPEN(5, CONNECT("\x03", "/ws"));
    SAY(5, PING);
    send_said();
    cr_expect(status_of(5) == 0 && client->http2->waiting == 1);
    h2_number(&said, H2_RST_STREAM, 1, H2_CANCEL);
    send_said();
    cr_expect(status_of(5) == 200 && HAS(5, "\x8a\x02hi") && client->http2->waiting == 0);
}

/* ---- connect: ask --------------------------------------------------------------------------- */

Test(http2_websocket, ask)
{
    OPEN(1, CONNECT("\x04", "/ask"));
    SAY(1, PING);
    OPEN(3, CONNECT("\x04", "/ask"));
    SAY(3, PING);
    OPEN(5, CONNECT("\x04", "/ask"));
    OPEN(7, CONNECT("\x04", "/ask"));
    send_said();
    cr_expect(status_of(1) == 0 && socket_of(1)->held && !client_can_move(client));
    cr_expect_gt(client->http2->held, 0u); /* the Ping is not read yet */
    push(socket_of(1), 10);
    read_answers();
    cr_expect_eq(length_of(1), 0u);
    shardlet_answer(call_of(socket_of(1)), SPAN("{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"result\":1}"),
        (struct span){0});
    read_answers();
    cr_expect(status_of(1) == 200 && HAS(1, "pppppppppp") && HAS(1, "\x8a\x02hi"));
    shardlet_answer(call_of(socket_of(3)),
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":\"1\",\"error\":{\"code\":1,\"message\":\"no\"}}"),
        (struct span){0});
    read_answers();
    cr_expect(status_of(3) == 403 && reset_of(3) == H2_NO_ERROR);
    shardlet_fail(call_of(socket_of(5)), RPC_DEADLINE_EXCEEDED);
    read_answers();
    cr_expect_eq(status_of(5), 504u);
    h2_number(&said, H2_RST_STREAM, 7, H2_CANCEL); /* while it is asked */
    send_said();
    cr_expect(status_of(7) == 0 && client->http2->conn.open == 1 && client->http2->held == 0);
}

/* ---- Leaving -------------------------------------------------------------------------------- */

Test(http2_websocket, drain)
{
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, CONNECT("\x03", "/ws"));
    SAY(3, CALL);
    send_said();
    client_drain(client);
    read_answers();
    cr_expect(HAS(1, "\x88\x0c\x03\xe9going away") && !HAS(3, "\x88"));
    shardlet_answer(call_of(socket_of(3)), SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}"),
        (struct span){0});
    read_answers();
    cr_expect(HAS(3, "\"result\":7") && HAS(3, "\x88\x0c\x03\xe9going away"));
    h2_frame(&said, H2_PING, H2_FLAG_ACK, 0, "leaving", 8);
    for (uint32_t id = 1; id <= 3; id += 2) {
        SAY(id, "\x88\x82\0\0\0\0\x03\xe9");
        END(id);
    }
    send_said();
    struct h2_frame frame;
    cr_expect(find_frame(H2_GOAWAY, 0, 1, &frame) && frame.value == 3);
    cr_expect_geq(client->state, CLIENT_ENDING);
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
    client_thaw(from); /* it was not taken, for now */
    shardlet_turn(&shard);
    buf_truncate(&state, 0);
    client_freeze(from);
    cr_assert_eq(client_save(from, &state), 0);
    /* Both are in one process, where an id is one client's. */
    client_release(from);
    cr_assert_eq(client_restore(&shard.ctx, &shard.clients, fd,
                     (struct span){buf_data(&state), buf_len(&state)}, &to),
        0);
    client_start(to);
    buf_deinit(&state);
    return to;
}

static void say_everything(void)
{
    h2_begin(&said);
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 30);
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, H2_POST_RPC);
    SAY(1, PING WRONG);
    SAY(3, "{\"id\":");
    OPEN(5, CONNECT("\x03", "/ws"));
    SAY(5, "\x01\x81\0\0\0\0");
    SAY(1, "\x81\x85\0\0");
    SAY(5, "{" PING);
    SAY(1, "\0\0nei");
    h2_number(&said, H2_WINDOW_UPDATE, 1, 7);
    SAY(1, "n!");
    SAY(5, "\x80\x81\0\0\0\0{" BYE);
    H2_SAY(&said, H2_DATA, H2_FLAG_END_STREAM, 3, "1}");
    h2_number(&said, H2_WINDOW_UPDATE, 1, 1000);
    h2_number(&said, H2_WINDOW_UPDATE, 3, 1000);
    h2_number(&said, H2_WINDOW_UPDATE, 5, 1000);
    END(5);
    SAY(1, PING BYE);
    END(1);
}

/* What comes on each stream is the same; DATA may be cut in another way, frames overtake others. */
static uint64_t digest_of(const char *bytes, size_t n)
{
    uint64_t sum = 0, of_stream[8] = {0};
    struct h2_frame frame;
    size_t used;
    for (size_t at = 0; at < n; at += used) {
        cr_assert_eq(h2_frame_parse(bytes + at, n - at, &frame, &used), H2_OK);
        uint64_t *hash = &of_stream[frame.stream % 8];
        cr_assert_neq(frame.type, H2_RST_STREAM);
        if (frame.type == H2_WINDOW_UPDATE)
            continue;
        for (size_t i = 0; i < frame.payload.n; i++)
            *hash = *hash * 31 + (uint8_t)frame.payload.p[i];
        if (frame.type != H2_DATA)
            *hash = *hash * 31 + frame.type;
        else if (frame.flags & H2_FLAG_END_STREAM)
            *hash = *hash * 31 + 1000;
    }
    for (size_t i = 0; i < ARRAY_LEN(of_stream); i++)
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
    shardlet_turn(&shard);
    cr_assert_eq(write(other, said.p + at, said.n - at), (ssize_t)(said.n - at));
    shardlet_turn(&shard);
    shardlet_read(other, out, size, &n);
    cr_assert(cut->state == CLIENT_OPEN && cut->http2->conn.open == 0, "%u", cut->http2->conn.open);
    cr_assert_eq(shard.ctx.duplexes.used, 0u);
    close(other);
    shardlet_turn(&shard);
    return n;
}

Test(http2_websocket, cut_and_moved_anywhere)
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

/* What belongs to a WebSocket goes with it: its id, what is pushed meanwhile, its peer. */
Test(http2_websocket, what_moves)
{
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, CONNECT("\x05", "/drop"));
    h2_setting(&said, H2_SETTING_INITIAL_WINDOW_SIZE, 0);
    send_said();
    struct client *socket = socket_of(1);
    uint64_t id = socket->conn.id;
    cr_assert_eq(topics_join(shard.ctx.topics, socket, duplex_subscriptions(socket),
                     socket->duplex->route->realm, SPAN("t"), 9),
        0);
    push(socket, 5);
    push(socket_of(3), 6);
    read_answers();
    cr_expect_eq(shardlet_connections(), 3u);
    client_freeze(client);
    cr_expect_null(client_find(&shard.ctx, id)); /* what is pushed now is another process's */
    client_thaw(client);
    cr_expect_eq(client_find(&shard.ctx, id), socket);
    shardlet_turn(&shard);
    client = move(client);
    cr_expect_eq(shardlet_connections(), 3u);
    socket = socket_of(1);
    cr_expect(socket->conn.id == id && client_find(&shard.ctx, id) == socket);
    cr_expect_eq(
        topics_members(shard.ctx.topics, socket->duplex->route->realm, SPAN("t")).count, 1u);
    h2_number(&said, H2_WINDOW_UPDATE, 1, 100);
    h2_number(&said, H2_WINDOW_UPDATE, 3, 100);
    send_said();
    cr_expect(HAS(1, "\x81\x05ppppp") && HAS(3, "\x81\x06pppppp"));
    SAY(1, CALL);
    send_said();
    cr_expect_not(client_can_move(client)); /* one of its WebSockets has a call */
}

/* Where requests are paused so that connections become idle, one with a call on it starts none on
 * any of its streams. */
Test(http2_websocket, pauses_as_one)
{
    OPEN(1, CONNECT("\x03", "/ws"));
    OPEN(3, CONNECT("\x03", "/ws"));
    SAY(1, CALL);
    send_said();
    shard.ctx.requests_paused = true;
    SAY(3, CALL);
    OPEN(5, GET_H);
    END(5);
    send_said();
    cr_expect(socket_of(1)->calls == 1 && socket_of(3)->calls == 0 && client->calls == 0);
    shardlet_answer(call_of(socket_of(1)), SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":7}"),
        (struct span){0});
    read_answers();
    cr_expect_leq(socket_of(3)->calls + client->calls, 1u);
    shard.ctx.requests_paused = false;
    client_touch(socket_of(3));
    client_touch(client);
    read_answers();
    cr_expect(socket_of(3)->calls == 1 && client->calls == 1);
}

/* States that no connection has left behind: each byte changed, and each one missing. */
Test(http2_websocket, wrong_states)
{
    struct buf state = {0};
    OPEN(1, CONNECT("\x03", "/ws"));
    SAY(1, "\x81\xfe\x01");
    send_said();
    client_freeze(client);
    cr_assert_eq(client_save(client, &state), 0);
    int fd = dup(client->fd);
    client_release(client);
    size_t n = buf_len(&state);
    unsigned taken = 0;
    for (size_t at = 0; at < 2 * n; at++) {
        char *copy = malloc(n + 1);
        struct client *to;
        memcpy(copy, buf_data(&state), n);
        if (at < n)
            copy[at] ^= (char)(1 << at % 8);
        if (client_restore(&shard.ctx, &shard.clients, fd, (struct span){copy, at < n ? n : at - n},
                &to) == 0) {
            client_discard(to);
            taken++;
        }
        free(copy);
        cr_assert(shard.ctx.clients.used == 0 && shard.ctx.duplexes.used == 0, "%zu", at);
        cr_assert_eq(shardlet_connections(), 0u);
    }
    cr_expect(taken > 0 && taken < n, "%u of %zu", taken, 2 * n);
    close(fd);
    buf_deinit(&state);
}

/* ---- Memory --------------------------------------------------------------------------------- */

/* Each allocation fails once: at worst the connection is closed. */
Test(http2_websocket, memory)
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
        cr_assert(shard.ctx.http2->streams.used == 0 && shard.ctx.clients.used == 1);
    }
    cr_expect(fails > 15 && closed > 5, "%ld, %u closed", fails, closed);
}
