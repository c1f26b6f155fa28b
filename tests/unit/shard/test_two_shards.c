/*
 * An old and a new shard in one process, with the sockets that the supervisor makes for them. The
 * old one hands connections of each kind over, while a worker of each shard pushes to them. The
 * hand-over is cut at every message, in each way in which it can end there, and goes on with
 * another socket afterwards; and every allocation fails once. All of that without keys and with
 * them: then most connections have a transport that ends the test where two shards use one key.
 */

#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>

#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/moving.h"
#include "tests/unit/support/sealed.h"

enum {
    CROWD = 10,   /* more members of the topic: past 16 a message goes out over several turns */
    PLAIN_OF = 4, /* with keys: of so many connections one has none */
    CUT_OFF = 3,  /* bytes of a record that come when the hand-over is over */
};

/* The head of DATA with a frame of WebSocket of 11 bytes. */
#define H2_DATA_17 H2_HEAD("\x11", "\0", "\0", "\x01")

static const struct moving_kind kinds[] = {
    {"http, idle", "web", SAID(GET), SAID(GET), HTTP, USUAL},
    {"http, in a head", "web", SAID(GET "GET /no"), SAID("ne HTTP/1.1\r\nHost: h\r\n\r\n"), HTTP,
        USUAL},
    {"http, in a body", "web",
        SAID("POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n{\"id\":1"),
        SAID("234}" GET), HTTP, USUAL},
    {"http, half-closed", "web", SAID(GET_56), SAID(""), HTTP, SHUT},
    {"websocket", "web", SAID(HANDSHAKE("h")), SAID(WS_FRAME("\x81", "\x8b", "{\"id\":1234}")), WS,
        USUAL},
    {"websocket, in a fragmented message", "web",
        SAID(HANDSHAKE("h") WS_FRAME("\x01", "\x87", "{\"id\":1")),
        SAID(WS_FRAME("\x80", "\x84", "234}")), WS, USUAL},
    {"websocket, in a frame", "web", SAID(HANDSHAKE("h") WS_FRAME("\x81", "\x8b", "{\"id\":1")),
        SAID("234}"), WS, USUAL},
    {"frame", "frames", SAID("\0\0\0\x0b{\"id\":1"), SAID("234}"), FRAMES, USUAL},
    {"line", "lines", SAID("{\"id\":1"), SAID("234}\n"), LINES, USUAL},
    {"h2, idle", "h2c", SAID(H2_START H2_GET("\x01")), SAID(H2_GET("\x03")), HTTP, USUAL},
    {"h2, in its preface", "h2c", SAID("PRI * HT"),
        SAID("TP/2.0\r\n\r\nSM\r\n\r\n" H2_SETTINGS_NONE H2_GET("\x01")), HTTP, USUAL},
    {"h2, in a frame", "h2c", SAID(H2_START H2_GET("\x01") "\0\0\x0c\x01"),
        SAID("\x05\0\0\0\x03" H2_GET_NONE), HTTP, USUAL},
    {"h2, in a header block", "h2c",
        SAID(H2_START H2_HEAD("\x01", "\x01", "\x01", "\x01") "\x82" H2_HEAD(
            "\x0b", "\x09", "\x04", "\x01") "\x86\x04\x05/no"),
        SAID("ne\x01\x01h"), HTTP, USUAL},
    {"h2, in a body", "h2c",
        SAID(H2_START H2_POST("\x01") H2_HEAD("\x07", "\0", "\0", "\x01") "{\"id\":1"),
        SAID(H2_HEAD("\x04", "\0", "\x01", "\x01") "234}" H2_GET("\x03")), HTTP, USUAL},
    {"h2, its table", "h2c",
        SAID(H2_START H2_HEAD("\x09", "\x01", "\x05", "\x01") "\x82\x86\x44\x02/x\x41\x01h"),
        SAID(H2_HEAD("\x04", "\x01", "\x05", "\x03") "\x82\x86\xbf\xbe"), HTTP, USUAL},
    {"h2, an answer waits", "h2c",
        SAID(H2_PREFACE H2_HEAD("\x06", "\x04", "\0", "\0") "\0\x04\0\0\0\x05" H2_GET("\x01")),
        SAID(H2_HEAD("\x04", "\x08", "\0", "\x01") "\0\0\1\0"), HTTP, USUAL},
    {"websocket over h2", "h2c", SAID(""),
        SAID(H2_DATA_17 WS_FRAME("\x81", "\x8b", "{\"id\":1234}")), WS_H2, USUAL},
    {"websocket over h2, in a frame", "h2c",
        SAID(H2_DATA_17 WS_FRAME("\x81", "\x8b", "{\"id\":12")), SAID("34}"), WS_H2, USUAL},
    {"websocket over h2, in a message", "h2c",
        SAID(H2_HEAD("\x0d", "\0", "\0", "\x01") WS_FRAME("\x01", "\x87", "{\"id\":1")),
        SAID(H2_HEAD("\x0a", "\0", "\0", "\x01") WS_FRAME("\x80", "\x84", "234}") H2_GET("\x03")),
        WS_H2, USUAL},
    {"line, not read", "lines", SAID("{\"id\":1}\n"), SAID("{\"id\":2}\n"), LINES, UNREAD},
    {"http, in a PROXY header", "proxied", SAID("PROXY TCP4 203.0.1"),
        SAID("13.5 192.0.2.1 51412 443\r\n" GET), HTTP, USUAL},
    {"http, before a PROXY header", "proxied", SAID(""), SAID(PROXY_BINARY GET), HTTP, USUAL},
    {"line, late", "lines", SAID("{\"id\":1}\n"), SAID("{\"id\":2}\n"), LINES, LATE},
};
static const struct moving_kind member = {
    "line, one of many", "lines", SAID(""), SAID("{\"id\":1}\n"), LINES, USUAL};

/* With keys. */
static struct {
    struct sealed_peer peer;
    char cut_off[CUT_OFF]; /* of the record with what is said after the hand-over */
} sealed[MOVING_MAX];

static struct client *open_sealed(struct moving_conn *conn)
{
    struct client *client = moving_plainly.open(conn);
    client->transport = sealed_new(&sealed[conn->index].peer);
    cr_assert_not_null(client->transport);
    return client;
}

static void before_sealed(struct moving_conn *conn)
{
    char record[SEALED_HEAD + SEALED_MAX];
    struct span before = conn->kind->before;
    struct span after = conn->kind->after;
    struct sealed_peer *peer = &sealed[conn->index].peer;
    for (size_t at = 0; at < before.n; at += SEALED_MAX) {
        struct span part = {before.p + at, MIN(before.n - at, (size_t)SEALED_MAX)};
        moving_put(conn, record, sealed_wrap(peer, part, record));
    }
    if (conn->kind->how == SHUT)
        cr_assert_eq(shutdown(conn->peer, SHUT_WR), 0);
    if (after.n == 0)
        return;
    size_t n = sealed_wrap(peer, after, record);
    moving_put(conn, record, n - CUT_OFF);
    memcpy(sealed[conn->index].cut_off, record + n - CUT_OFF, CUT_OFF);
}

static void after_sealed(struct moving_conn *conn)
{
    if (conn->kind->after.n > 0)
        moving_put(conn, sealed[conn->index].cut_off, CUT_OFF);
}

static size_t listen_sealed(struct moving_conn *conn, char *out, size_t n)
{
    char bytes[4096];
    struct sealed_peer *peer = &sealed[conn->index].peer;
    size_t used = 0;
    ssize_t got;
    while ((got = recv(conn->peer, bytes, sizeof(bytes), 0)) > 0) {
        cr_assert_leq(used + sizeof(bytes) + sizeof(peer->kept), n);
        used += sealed_unwrap(peer, bytes, (size_t)got, out + used);
    }
    return used;
}

static const struct moving_speech *sealed_or_plain(unsigned n)
{
    static struct moving_speech sealed_speech;
    sealed_speech = moving_plainly;
    sealed_speech.open = open_sealed;
    sealed_speech.before = before_sealed;
    sealed_speech.after = after_sealed;
    sealed_speech.listen = listen_sealed;
    /* While a PROXY header is awaited there is no transport yet. */
    bool proxied = n < ARRAY_LEN(kinds) && strcmp(kinds[n].listener, "proxied") == 0;
    return n % PLAIN_OF == 0 || proxied ? &moving_plainly : &sealed_speech;
}

static void begin_sealed(void)
{
    sealed_forget();
    for (unsigned i = 0; i < SIDES; i++)
        sides[i].shardlet.ctx.transport = &sealed_ops;
}

static const struct moving_plan plain = {
    .kinds = kinds, .nkinds = ARRAY_LEN(kinds), .member = &member, .crowd = CROWD};
static const struct moving_plan keyed = {
    .kinds = kinds,
    .nkinds = ARRAY_LEN(kinds),
    .member = &member,
    .crowd = CROWD,
    .speech = sealed_or_plain,
    .begin = begin_sealed,
    .keys = true,
};

static void set_up(void)
{
    moving_refer(&plain);
}

TestSuite(two_shards, .init = set_up, .fini = moving_end, .timeout = 60);

static void all_go(const struct moving_plan *plan, unsigned messages)
{
    const struct moving_run whole = {.fails = -1};
    struct moving_result result = moving_run(plan, &whole);
    cr_expect(result.closed == 0 && result.missed == 0);
    cr_expect_geq(result.messages, messages, "%u", result.messages);
    cr_expect_eq(sealed_count(), 0u, "transports");
}

/* Two batches among the messages. */
Test(two_shards, all_connections_go)
{
    all_go(&plain, 6);
    cr_expect_eq(sealed_written(), 0u);
}

Test(two_shards, all_connections_go_with_keys)
{
    all_go(&keyed, 8);
    cr_expect_gt(sealed_written(), moving_count);
}

Test(two_shards, cut_at_every_message)
{
    moving_cut_everywhere(&plain, 6);
}

Test(two_shards, cut_at_every_message_with_keys)
{
    moving_cut_everywhere(&keyed, 8);
}

Test(two_shards, every_allocation_fails)
{
    moving_fail_everywhere(&plain, 100);
}

Test(two_shards, every_allocation_fails_with_keys)
{
    moving_fail_everywhere(&keyed, 100);
}
