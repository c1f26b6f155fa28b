#include "frontd/shard/push/push.h"

#include <criterion/criterion.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frontd/shard/client/affinity.h"
#include "frontd/shard/mesh/mesh.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

enum { SEAT = 4, SIBLING = 7, LINES = 20, OUT_MAX = 4096, UNKNOWN = 12345, REALM = 77 };

static struct shardlet shardlet;
static char worker_text[] = "w";
static struct worker worker; /* with what a frame of its channel is looked at for */
static int sibling;          /* the other end of the socket to another shard */
static struct client *lines[LINES];
static int peers[LINES];
static struct client *ws;
static int ws_peer;
static char out[OUT_MAX + 1];

/* What was written to a peer since this was last asked. */
static struct span written(int peer)
{
    size_t n = 0;
    shardlet_turn(&shardlet);
    shardlet_read(peer, out, OUT_MAX, &n);
    out[n] = '\0';
    return (struct span){out, n};
}

static bool is_open(int peer)
{
    char byte;
    shardlet_turn(&shardlet);
    return recv(peer, &byte, 1, MSG_PEEK) != 0;
}

static void set_up(void)
{
    static const char handshake[] = HANDSHAKE("h");
    int pair[2];
    shardlet_init(&shardlet, MOVE_CONF_LIMITS("subscriptions: 2, state: 8") MOVE_CONF_REST, SEAT);
    worker = (struct worker){.pool = &shardlet.pools[0], .text = worker_text};
    faults_init(&worker.faults, &shardlet.ctx, worker.pool->conf->name, worker.text);
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    cr_assert_eq(mesh_add(&shardlet.parts.mesh, SIBLING, pair[0]), 0);
    sibling = pair[1];
    for (size_t i = 0; i < LINES; i++)
        lines[i] = shardlet_client(&shardlet, "lines", &peers[i]);
    ws = shardlet_client(&shardlet, "web", &ws_peer);
    cr_assert_eq(write(ws_peer, handshake, sizeof(handshake) - 1), (ssize_t)sizeof(handshake) - 1);
    cr_assert_gt(written(ws_peer).n, 0u);
    cr_assert_eq(written(sibling).n, (size_t)FRAME_HEAD_SIZE, "HELLO");
}

static void tear_down(void)
{
    mesh_shut(&shardlet.parts.mesh);
    for (size_t i = 0; i < LINES; i++)
        close(peers[i]);
    close(ws_peer);
    close(sibling);
    shardlet_turn(&shardlet);
    shardlet_deinit(&shardlet);
}

TestSuite(push, .init = set_up, .fini = tear_down);

static void handle_from(const struct push_from *from, enum frame_type type, uint64_t conn,
    const char *meta, const char *body)
{
    char bytes[2048]; /* its parts in one piece */
    size_t meta_n = strlen(meta);
    size_t n = strlen(body);
    memcpy(bytes, meta, meta_n);
    memcpy(bytes + meta_n, body, n);
    const struct frame frame = {
        .head = {.type = (uint8_t)type,
            .conn = conn,
            .length = (uint32_t)(meta_n + n),
            .meta_len = (uint32_t)meta_n},
        .meta = {bytes, meta_n},
        .body = {bytes + meta_n, n},
    };
    push_handle(&shardlet.ctx, from, &frame);
}

/* From the worker's channel. */
static void handle(enum frame_type type, uint64_t conn, const char *meta, const char *body)
{
    handle_from(&(struct push_from){.worker = &worker}, type, conn, meta, body);
}

static const struct push_from from_sibling;

/* What was found wrong last; NULL: nothing was. */
static const char *fault(void)
{
    const char *what = worker.faults.kinds[0].what;
    faults_init(&worker.faults, &shardlet.ctx, worker.pool->conf->name, worker.text);
    return what;
}

/* The next frame that was passed on is of that type, with that body, and is the only one. */
static bool passed_on(enum frame_type type, const char *body)
{
    struct span bytes = written(sibling);
    struct frame frame;
    size_t used;
    return frame_read(bytes.p, bytes.n, OUT_MAX, &frame, &used) == 0 && used == bytes.n &&
           frame.head.type == type && frame.body.n == strlen(body) &&
           memcmp(frame.body.p, body, frame.body.n) == 0;
}

static void expect_nothing(void)
{
    for (size_t i = 0; i < LINES; i++)
        cr_expect_eq(written(peers[i]).n, 0u, "line %zu: %s", i, out);
    cr_expect_eq(written(ws_peer).n, 0u);
    cr_expect_eq(written(sibling).n, 0u);
}

static void subscribe(size_t i, const char *meta)
{
    handle(FRAME_SUBSCRIBE, lines[i]->conn.id, meta, "");
}

#define TOPIC "{\"topic\":\"t\"}"
#define A_15  "aaaaaaaaaaaaaaa"
#define A_255 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15 A_15

Test(push, frames_with_something_wrong)
{
    static const struct {
        enum frame_type type;
        bool names; /* a connection that is there */
        const char *meta;
        const char *what;
    } rows[] = {
        {FRAME_PUBLISH, false, "", "it names no topic"},
        {FRAME_PUBLISH, false, "{}", "it names no topic"},
        {FRAME_PUBLISH, false, "{", "its meta is no JSON"},
        {FRAME_PUBLISH, false, "{\"topic\":1}", "its topic is no string"},
        {FRAME_PUBLISH, false, "{\"topic\":\"\"}", "a topic has 1 to 255 bytes"},
        {FRAME_PUBLISH, false, "{\"topic\":\"" A_255 "a\"}", "a topic has 1 to 255 bytes"},
        {FRAME_PUBLISH, false, "{\"topic\":\"\\ud800\"}", "its topic is no text"},
        {FRAME_SUBSCRIBE, true, "", "it names no topic"},
        {FRAME_SUBSCRIBE, true, "[", "its meta is no JSON"},
        {FRAME_SUBSCRIBE, true, "{\"topic\":null}", "its topic is no string"},
        {FRAME_SUBSCRIBE, false, TOPIC, "it names no connection"},
        {FRAME_UNSUBSCRIBE, true, "{\"topic\":[]}", "its topic is no string"},
        {FRAME_UNSUBSCRIBE, false, TOPIC, "it names no connection"},
        {FRAME_PUSH, false, "", "it names no connection"},
        {FRAME_DISCONNECT, false, "", "it names no connection"},
        {FRAME_STATE, false, "", "it names no connection"},
    };
    subscribe(0, TOPIC);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        uint64_t conn = rows[i].names ? lines[0]->conn.id : 0;
        handle_from(&from_sibling, rows[i].type, conn, rows[i].meta, "x");
        cr_expect_null(fault());
        handle(rows[i].type, conn, rows[i].meta, "x");
        const char *what = fault();
        cr_expect(what != NULL && strcmp(what, rows[i].what) == 0, "row %zu: %s", i, what);
        expect_nothing();
    }
    handle(FRAME_PUBLISH, 0, TOPIC, "it is subscribed still");
    cr_expect_str_eq(written(peers[0]).p, "it is subscribed still\n");
}

/* A name has many spellings. */
Test(push, names_of_topics)
{
    subscribe(0, "{\"topic\":\"" A_255 "\"}");
    handle(FRAME_PUBLISH, 0, "{\"topic\":\"\\u0061" A_255 "\"}", "256 bytes");
    cr_expect_not_null(fault());
    handle(FRAME_PUBLISH, 0, "{\"x\":0,\"topic\":\"" A_255 "\"}", "255 bytes");
    cr_expect_str_eq(written(peers[0]).p, "255 bytes\n");
    subscribe(1, "{\"topic\":\"\\u00e4\xef\xbf\xbd\"}");
    handle(FRAME_PUBLISH, 0, "{\"topic\":\"\xc3\xa4\xef\xbf\xbd\"}", "the same");
    cr_expect_str_eq(written(peers[1]).p, "the same\n");
    cr_expect_null(fault());
}

Test(push, to_one_connection)
{
    handle(FRAME_PUSH, lines[3]->conn.id, "", "one");
    handle_from(&from_sibling, FRAME_PUSH, lines[3]->conn.id, "", "two");
    cr_expect_str_eq(written(peers[3]).p, "one\ntwo\n");
    expect_nothing();
}

Test(push, a_blob_goes_before_the_body)
{
    const struct frame frame = {
        .head = {.type = FRAME_PUSH, .conn = ws->conn.id, .flags = FRAME_F_BINARY},
        .body = SPAN("{}"),
        .blob = SPAN("\x01\x02"),
    };
    push_from_sibling(&shardlet.ctx, 0, &frame);
    struct span got = written(ws_peer);
    cr_expect(got.n == 4 && memcmp(got.p, "\x82\x02\x01\x02", 4) == 0);
}

Test(push, one_for_an_unknown_connection_is_passed_on)
{
    static const enum frame_type types[] = {
        FRAME_PUSH, FRAME_SUBSCRIBE, FRAME_UNSUBSCRIBE, FRAME_DISCONNECT, FRAME_STATE};
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        handle(types[i], UNKNOWN, TOPIC, "body");
        cr_expect(passed_on(types[i], "body"), "type %d", (int)types[i]);
        handle_from(&from_sibling, types[i], UNKNOWN, TOPIC, "body");
        expect_nothing();
    }
    cr_expect_null(fault());
}

Test(push, to_a_topic_of_so_many)
{
    static const size_t counts[] = {0, 1, 2, LINES};
    for (size_t i = 0, n = 0; i < ARRAY_LEN(counts); i++) {
        for (; n < counts[i]; n++) {
            subscribe(n, TOPIC);
            subscribe(n, TOPIC); /* once is enough */
        }
        handle(FRAME_PUBLISH, 0, TOPIC, "all");
        cr_expect(passed_on(FRAME_PUBLISH, "all"));
        for (size_t k = 0; k < LINES; k++)
            cr_expect_str_eq(written(peers[k]).p, k < n ? "all\n" : "", "%zu of %zu", k, n);
        handle_from(&from_sibling, FRAME_PUBLISH, 0, TOPIC, "theirs");
        for (size_t k = 0; k < LINES; k++)
            cr_expect_str_eq(written(peers[k]).p, k < n ? "theirs\n" : "", "%zu of %zu", k, n);
        expect_nothing();
    }
}

Test(push, leaves_one_topic_or_all)
{
    static const char other[] = "{\"topic\":\"u\"}";
    for (size_t i = 0; i < 2; i++) {
        subscribe(i, TOPIC);
        subscribe(i, other);
    }
    subscribe(0, "{\"topic\":\"v\"}");
    handle(FRAME_PUBLISH, 0, "{\"topic\":\"v\"}", "over limits.subscriptions");
    cr_expect_eq(written(peers[0]).n, 0u);
    handle(FRAME_UNSUBSCRIBE, lines[0]->conn.id, TOPIC, "");
    handle(FRAME_UNSUBSCRIBE, lines[1]->conn.id, "", "");
    handle(FRAME_PUBLISH, 0, TOPIC, "t");
    handle(FRAME_PUBLISH, 0, other, "u");
    cr_expect_str_eq(written(peers[0]).p, "u\n");
    cr_expect_eq(written(peers[1]).n, 0u);
}

Test(push, of_another_realm)
{
    const struct push_from stranger = {.realm = REALM, .worker = &worker};
    static const enum frame_type types[] = {
        FRAME_PUSH, FRAME_SUBSCRIBE, FRAME_UNSUBSCRIBE, FRAME_DISCONNECT, FRAME_STATE};
    subscribe(0, TOPIC);
    for (size_t i = 0; i < ARRAY_LEN(types); i++) {
        handle_from(&stranger, types[i], lines[0]->conn.id, TOPIC, "strange");
        const char *what = fault();
        cr_expect(what != NULL && strcmp(what, "the connection is of another realm") == 0,
            "type %d: %s", (int)types[i], what);
        expect_nothing();
    }
    handle_from(&stranger, FRAME_PUBLISH, 0, TOPIC, "strange");
    cr_expect_eq(written(peers[0]).n, 0u, "%s", out);
    cr_expect_gt(written(sibling).n, 0u, "others may have members");
    handle(FRAME_PUBLISH, 0, TOPIC, "its own");
    cr_expect_str_eq(written(peers[0]).p, "its own\n");
    cr_expect(is_open(peers[0]));
}

static struct span state_of(const struct client *client)
{
    const struct affinity *affinity = client->duplex->affinity;
    return affinity == NULL ? SPAN("") : (struct span){affinity->state, affinity->n};
}

/* At the limit, one past it, nothing; the one that has sent it is who knows it. */
Test(push, keeps_a_state)
{
    static const struct {
        const char *state;
        const char *kept;
        const char *what;
    } rows[] = {
        {"", "", NULL},
        {"12345678", "12345678", NULL},
        {"123456789", "12345678", "it is over limits.state"},
        {"other", "other", NULL},
        {"OTHER", "OTHER", NULL},
        {"", "", NULL},
        {"last", "last", NULL},
    };
    struct client *client = lines[0];
    size_t before = client_holds(client);
    worker.home = 77;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        handle(FRAME_STATE, client->conn.id, "", rows[i].state);
        const char *what = fault();
        cr_expect(
            rows[i].what == NULL ? what == NULL : what != NULL && strcmp(what, rows[i].what) == 0,
            "row %zu: %s", i, what);
        struct span state = state_of(client);
        cr_expect(state.n == strlen(rows[i].kept) && memcmp(state.p, rows[i].kept, state.n) == 0,
            "row %zu: %.*s", i, (int)state.n, state.p);
    }
    cr_expect_eq(client->duplex->affinity->home, 77u);
    cr_expect_eq(client_holds(client), before + sizeof(struct affinity) + 4);
    handle_from(&from_sibling, FRAME_STATE, client->conn.id, "", "theirs");
    cr_expect_eq(client->duplex->affinity->home, 0u, "which worker it was is not known");
    cr_expect_eq(state_of(client).n, 6u);
    cr_expect_eq(shardlet.ctx.bound, 1u);
    close(peers[0]);
    peers[0] = -1;
    shardlet_turn(&shardlet);
    cr_expect_eq(shardlet.ctx.bound, 0u);
    expect_nothing();
}

/* The code and the reason of the Close frame. */
Test(push, disconnects_with_a_code)
{
    static const struct {
        const char *meta;
        unsigned code;
        const char *reason;
    } rows[] = {
        {"", 1000, ""},
        {"{}", 1000, ""},
        {"{", 1000, ""},
        {"{\"code\":3000}", 3000, ""},
        {"{\"code\":4999,\"reason\":\"enough\"}", 4999, "enough"},
        {"{\"reason\":\"\\u00e4\\n\"}", 1000, "\xc3\xa4\n"},
        {"{\"reason\":\"\"}", 1000, ""},
        {"{\"reason\":7,\"code\":1001}", 1001, ""},
        {"{\"code\":1005}", 1000, ""},
        {"{\"code\":1006}", 1000, ""},
        {"{\"code\":999}", 1000, ""},
        {"{\"code\":5000}", 1000, ""},
        {"{\"code\":\"4000\"}", 1000, ""},
        {"{\"code\":30001}", 1000, ""},
    };
    static const char handshake[] = HANDSHAKE("h");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        int peer;
        struct client *client = shardlet_client(&shardlet, "web", &peer);
        cr_assert_eq(write(peer, handshake, sizeof(handshake) - 1), (ssize_t)sizeof(handshake) - 1);
        written(peer);
        handle(FRAME_DISCONNECT, client->conn.id, rows[i].meta, "");
        struct span got = written(peer);
        size_t n = strlen(rows[i].reason);
        cr_assert_eq(got.n, 4 + n, "row %zu: %zu bytes", i, got.n);
        cr_expect(got.p[0] == '\x88' && got.p[1] == (char)(2 + n));
        unsigned code = (unsigned)(uint8_t)got.p[2] << 8 | (uint8_t)got.p[3];
        cr_expect_eq(code, rows[i].code, "row %zu: %u", i, code);
        cr_expect(memcmp(got.p + 4, rows[i].reason, n) == 0, "row %zu", i);
        close(peer);
    }
    handle(FRAME_DISCONNECT, lines[0]->conn.id, "{\"code\":4000}", "");
    cr_expect(!is_open(peers[0]) && is_open(peers[1]));
    cr_expect_null(fault());
}

/* What passed while connections moved is for those that arrive. */
Test(push, is_replayed_only_to_those_that_arrive)
{
    static const struct frame publish = {
        .head = {.type = FRAME_PUBLISH, .meta_len = 13}, .meta = {TOPIC, 13}, .body = {"all", 3}};
    struct frame one = {.head = {.type = FRAME_PUSH}, .body = SPAN("one")};
    for (size_t i = 0; i < LINES; i++)
        subscribe(i, TOPIC);
    lines[2]->arriving = lines[LINES - 1]->arriving = true;
    push_replay(&shardlet.ctx, 0, &publish);
    push_replay(&shardlet.ctx, REALM, &publish);
    for (size_t i = 0; i < 3; i++) {
        one.head.conn = lines[i]->conn.id;
        push_replay(&shardlet.ctx, REALM, &one);
        push_replay(&shardlet.ctx, 0, &one);
    }
    one.head.conn = UNKNOWN;
    push_replay(&shardlet.ctx, 0, &one);
    lines[2]->arriving = lines[LINES - 1]->arriving = false;
    cr_expect_str_eq(written(peers[2]).p, "all\none\n");
    cr_expect_str_eq(written(peers[LINES - 1]).p, "all\n");
    expect_nothing();
}
