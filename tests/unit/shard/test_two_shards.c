/*
 * An old and a new shard in one process, with the sockets that the supervisor makes for them. The
 * old one hands connections of each kind over, while a worker of each shard pushes to them. The
 * hand-over is cut at every message, in each way in which it can end there, and goes on with
 * another socket afterwards; and every allocation fails once. All of that without keys and with
 * them: then most connections have a transport that ends the test where two shards use one key.
 */

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/push/push.h"
#include "tests/unit/support/descriptors.h"
#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/sealed.h"
#include "tests/unit/support/shard_pair.h"

enum {
    TURNS = 14,      /* of a hand-over that nothing happens to, while workers push */
    TURNS_FEW = 10,  /* the same, where there are very many runs */
    TURNS_MAX = 200, /* until one that was cut is over */
    CALM_TURNS = 4,
    AFTER = 6,     /* turns until each side knows that it is cut */
    LATE_TURN = 8, /* when the last connection comes */
    OUT_MAX = 1 << 16,
    PUSHES_MAX = 400, /* to one connection, of one worker */
    CROWD = 10,       /* more members of the topic: past 16 a message goes out over several turns */
    BULK = 3000,      /* bytes of a push that is large */
    PLAIN_OF = 4,     /* with keys: of so many connections one has none */
    CUT_OFF = 3,      /* bytes of a record that come when the hand-over is over */
};

/* The connections */

enum framing { HTTP, WS, FRAMES, LINES };

/* What is said before the hand-over and after it, and what else there is to it. */
struct kind {
    const char *name;
    const char *listener;
    struct span before;
    struct span after;
    enum framing framing;
    bool bulk;    /* much is pushed to it; it does not read until the hand-over is over */
    bool shuts;   /* its side is shut after `before`, and nothing of that was read */
    bool is_late; /* it comes during the hand-over */
};

#define GET    "GET /none HTTP/1.1\r\nHost: h\r\n\r\n"
#define GET_4  GET GET GET GET
#define GET_56 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4 GET_4

#define SAID(literal)                                                                              \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }
static const struct kind kinds[] = {
    {"http, idle", "web", SAID(GET), SAID(GET), HTTP, false, false, false},
    {"http, in a head", "web", SAID(GET "GET /no"), SAID("ne HTTP/1.1\r\nHost: h\r\n\r\n"), HTTP,
        false, false, false},
    {"http, in a body", "web",
        SAID("POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n{\"id\":1"),
        SAID("234}" GET), HTTP, false, false, false},
    {"http, half-closed", "web", SAID(GET_56), SAID(""), HTTP, false, true, false},
    {"websocket", "web", SAID(HANDSHAKE("h")), SAID(WS_FRAME("\x81", "\x8b", "{\"id\":1234}")), WS,
        false, false, false},
    {"websocket, in a fragmented message", "web",
        SAID(HANDSHAKE("h") WS_FRAME("\x01", "\x87", "{\"id\":1")),
        SAID(WS_FRAME("\x80", "\x84", "234}")), WS, false, false, false},
    {"websocket, in a frame", "web", SAID(HANDSHAKE("h") WS_FRAME("\x81", "\x8b", "{\"id\":1")),
        SAID("234}"), WS, false, false, false},
    {"frame", "frames", SAID("\0\0\0\x0b{\"id\":1"), SAID("234}"), FRAMES, false, false, false},
    {"line", "lines", SAID("{\"id\":1"), SAID("234}\n"), LINES, false, false, false},
    {"h2, idle", "h2c", SAID(H2_START H2_GET("\x01")), SAID(H2_GET("\x03")), HTTP, false, false,
        false},
    {"h2, in its preface", "h2c", SAID("PRI * HT"),
        SAID("TP/2.0\r\n\r\nSM\r\n\r\n" H2_SETTINGS_NONE H2_GET("\x01")), HTTP, false, false,
        false},
    {"h2, in a frame", "h2c", SAID(H2_START H2_GET("\x01") "\0\0\x0c\x01"),
        SAID("\x05\0\0\0\x03" H2_GET_NONE), HTTP, false, false, false},
    {"h2, in a header block", "h2c",
        SAID(H2_START H2_HEAD("\x01", "\x01", "\x01", "\x01") "\x82" H2_HEAD(
            "\x0b", "\x09", "\x04", "\x01") "\x86\x04\x05/no"),
        SAID("ne\x01\x01h"), HTTP, false, false, false},
    {"h2, in a body", "h2c",
        SAID(H2_START H2_POST("\x01") H2_HEAD("\x07", "\0", "\0", "\x01") "{\"id\":1"),
        SAID(H2_HEAD("\x04", "\0", "\x01", "\x01") "234}" H2_GET("\x03")), HTTP, false, false,
        false},
    {"h2, its table", "h2c",
        SAID(H2_START H2_HEAD("\x09", "\x01", "\x05", "\x01") "\x82\x86\x44\x02/x\x41\x01h"),
        SAID(H2_HEAD("\x04", "\x01", "\x05", "\x03") "\x82\x86\xbf\xbe"), HTTP, false, false,
        false},
    {"h2, an answer waits", "h2c",
        SAID(H2_PREFACE H2_HEAD("\x06", "\x04", "\0", "\0") "\0\x04\0\0\0\x05" H2_GET("\x01")),
        SAID(H2_HEAD("\x04", "\x08", "\0", "\x01") "\0\0\1\0"), HTTP, false, false, false},
    {"line, not read", "lines", SAID("{\"id\":1}\n"), SAID("{\"id\":2}\n"), LINES, true, false,
        false},
    {"http, in a PROXY header", "proxied", SAID("PROXY TCP4 203.0.1"),
        SAID("13.5 192.0.2.1 51412 443\r\n" GET), HTTP, false, false, false},
    {"http, before a PROXY header", "proxied", SAID(""), SAID(PROXY_BINARY GET), HTTP, false, false,
        false},
    {"line, late", "lines", SAID("{\"id\":1}\n"), SAID("{\"id\":2}\n"), LINES, false, false, true},
};
static const struct kind member = {
    "line, one of many", "lines", SAID(""), SAID("{\"id\":1}\n"), LINES, false, false, false};

enum { KINDS = ARRAY_LEN(kinds), CONNS = KINDS + CROWD };

struct conn {
    const struct kind *kind;
    uint64_t id; /* 0: it is not there yet */
    int peer;
    bool is_sealed;
    struct sealed_peer sealed;
    char cut_off[CUT_OFF]; /* of the record with what is said after the hand-over */
    size_t n;
    size_t nexpected[SIDES];
    unsigned expected[SIDES][PUSHES_MAX]; /* numbers of the pushes of a side's worker */
    size_t nrest;
    char out[OUT_MAX];  /* what it was sent */
    char rest[OUT_MAX]; /* the same without pushes */
};

static struct conn conns[CONNS];

/* What one of each kind is sent besides pushes, without a hand-over. */
static struct {
    size_t n;
    char bytes[OUT_MAX];
} reference[CONNS];

static bool takes_pushes(const struct conn *conn)
{
    return conn->id != 0 && conn->kind->framing != HTTP;
}

static void put(const struct conn *conn, const char *p, size_t n)
{
    if (n > 0)
        cr_assert_eq(send(conn->peer, p, n, MSG_NOSIGNAL), (ssize_t)n, "%s: %s", conn->kind->name,
            strerror(errno));
}

static void say_before(struct conn *conn)
{
    char record[SEALED_HEAD + SEALED_MAX];
    struct span before = conn->kind->before;
    struct span after = conn->kind->after;
    if (!conn->is_sealed) {
        put(conn, before.p, before.n);
        return;
    }
    for (size_t at = 0; at < before.n; at += SEALED_MAX) {
        struct span part = {before.p + at, MIN(before.n - at, (size_t)SEALED_MAX)};
        put(conn, record, sealed_wrap(&conn->sealed, part, record));
    }
    if (after.n == 0)
        return;
    size_t n = sealed_wrap(&conn->sealed, after, record);
    put(conn, record, n - CUT_OFF);
    memcpy(conn->cut_off, record + n - CUT_OFF, CUT_OFF);
}

static void say_after(const struct conn *conn)
{
    if (conn->is_sealed && conn->kind->after.n > 0)
        put(conn, conn->cut_off, CUT_OFF);
    else
        put(conn, conn->kind->after.p, conn->kind->after.n);
}

static void listen_to(struct conn *conn)
{
    char bytes[4096];
    ssize_t n;
    while (conn->is_sealed && (n = recv(conn->peer, bytes, sizeof(bytes), 0)) > 0) {
        cr_assert_leq(conn->n + sizeof(bytes) + sizeof(conn->sealed.kept), sizeof(conn->out));
        conn->n += sealed_unwrap(&conn->sealed, bytes, (size_t)n, conn->out + conn->n);
        shardlet_dash_dates(conn->out, conn->n);
    }
    if (!conn->is_sealed)
        shardlet_read(conn->peer, conn->out, sizeof(conn->out), &conn->n);
    cr_assert_lt(conn->n, sizeof(conn->out));
}

static void listen_to_all(bool is_over)
{
    for (size_t i = 0; i < CONNS; i++) {
        const struct kind *kind = conns[i].kind;
        if (conns[i].id != 0 && (is_over || !(kind->bulk || kind->shuts)))
            listen_to(&conns[i]);
    }
}

/* Pushes */

static unsigned pushed[SIDES]; /* number of the last push of each side's worker */

/* By the worker of a side. topic: NULL: of none. */
static void send_frame(
    unsigned side, enum frame_type type, uint64_t id, const char *topic, struct span body)
{
    char bytes[64 + BULK]; /* meta and body, in one piece */
    int n = topic == NULL ? 0 : snprintf(bytes, 64, "{\"topic\":\"%s\"}", topic);
    struct frame frame = {
        .head = {.type = (uint8_t)type, .conn = id, .meta_len = (uint32_t)n},
        .meta = {bytes, (size_t)n},
        .body = {bytes + n, body.n},
    };
    memcpy(bytes + n, body.p, body.n);
    frame.head.length = (uint32_t)(frame.meta.n + body.n);
    push_from_worker(&sides[side].worker, &frame);
}

/* To all members of the topic, or to one connection. n: bytes, at least. */
static void push(unsigned side, struct conn *only, size_t n)
{
    char body[BULK];
    unsigned number = ++pushed[side];
    memset(body, '.', sizeof(body));
    size_t size = (size_t)snprintf(body, sizeof(body), "%c%u", "on"[side], number);
    body[size] = '.';
    for (size_t i = 0; i < CONNS; i++) {
        struct conn *conn = &conns[i];
        if (!takes_pushes(conn) || (only != NULL && only != conn))
            continue;
        cr_assert_lt(conn->nexpected[side], PUSHES_MAX);
        conn->expected[side][conn->nexpected[side]++] = number;
    }
    struct span text = {body, MAX(size + 1, n)};
    if (only == NULL)
        send_frame(side, FRAME_PUBLISH, 0, "t", text);
    else
        send_frame(side, FRAME_PUSH, only->id, NULL, text);
}

static bool crowded; /* more is pushed than what the connections get */

/* What is for no connection, and holds up what the other shard is to hear. */
static void crowd(unsigned side)
{
    static char body[BULK];
    if (crowded)
        send_frame(side, FRAME_PUBLISH, 0, "nobody's", (struct span){body, sizeof(body)});
}

static void push_to_all(unsigned side)
{
    crowd(side);
    crowd(side);
    push(side, NULL, 0);
    for (size_t i = 0; i < KINDS; i++) {
        if (takes_pushes(&conns[i]) && (i + pushed[side]) % 3 == 0)
            push(side, &conns[i], 0);
    }
    push(side, NULL, 0);
}

static void subscribe(const struct conn *conn)
{
    send_frame(OLD, FRAME_SUBSCRIBE, conn->id, "t", (struct span){"", 0});
}

static void open_conn(struct conn *conn)
{
    struct client *client = shardlet_client(
        &sides[OLD].shardlet, conn->kind->listener, &conn->peer);
    int small = 1;
    conn->id = client->conn.id;
    if (conn->is_sealed)
        cr_assert_not_null(client->transport = sealed_new(&conn->sealed));
    if (conn->kind->bulk || conn->kind->shuts)
        cr_assert_eq(setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    say_before(conn);
    if (conn->kind->shuts)
        cr_assert_eq(shutdown(conn->peer, SHUT_WR), 0);
}

/* What a run is for. */
struct run {
    bool stays; /* there is no hand-over */
    bool keys;  /* most connections have some */
    enum cut cut;
    unsigned at;
    long fails; /* the allocation that fails; negative: none */
};

static void open_conns(const struct run *run)
{
    for (size_t i = 0; i < CONNS; i++) {
        struct conn *conn = &conns[i];
        conn->kind = i < KINDS ? &kinds[i] : &member;
        /* While a PROXY header is awaited there is no transport yet. */
        conn->is_sealed = run->keys && i % PLAIN_OF != 0 &&
                          strcmp(conn->kind->listener, "proxied") != 0;
        conn->id = 0;
        conn->n = conn->nexpected[OLD] = conn->nexpected[NEW] = 0;
        if (!conn->kind->is_late || run->fails >= 0)
            open_conn(conn);
    }
    for (int i = 0; i < 4; i++)
        pair_turn();
    for (size_t i = 0; i < CONNS; i++) {
        if (takes_pushes(&conns[i]))
            subscribe(&conns[i]);
        for (int k = 0; conns[i].kind->bulk && k < 8; k++)
            push(OLD, &conns[i], BULK);
    }
    pair_turn();
}

static void open_late(void)
{
    pair_settle(); /* what was published before that is not for it */
    for (size_t i = 0; i < KINDS; i++) {
        if (kinds[i].is_late && conns[i].id == 0) {
            open_conn(&conns[i]);
            subscribe(&conns[i]);
        }
    }
}

/* What has become of them */

static unsigned count_in(const struct list *list, uint64_t id)
{
    unsigned n = 0;
    list_for_each (node, list) {
        const struct client *client = container_of(node, struct client, node);
        n += client->conn.id == id && !client->moving && !client->arriving;
    }
    return n;
}

static unsigned count_at(unsigned side, uint64_t id)
{
    const struct ctx *ctx = &sides[side].shardlet.ctx;
    return count_in(sides[side].clients, id) + count_in(&ctx->idle, id) +
           count_in(&ctx->unused, id) + count_in(&ctx->sender->kept, id);
}

/* A message of a connection, or its handshake. Returns its bytes with what frames it. */
static size_t next_message(const struct conn *conn, const char *p, size_t n, struct span *ret_text)
{
    size_t head = 0;
    size_t size = 0;
    const char *end;
    switch (conn->kind->framing) {
    case HTTP: size = n; break;
    case LINES:
        end = memchr(p, '\n', n);
        size = end == NULL ? n + 1 : (size_t)(end - p) + 1;
        break;
    case FRAMES:
        head = 4;
        size = n < head ? head : (size_t)(uint8_t)p[2] << 8 | (uint8_t)p[3];
        break;
    case WS:
        if (p == conn->out) {
            end = memmem(p, n, "\r\n\r\n", 4);
            size = end == NULL ? n + 1 : (size_t)(end - p) + 4;
            break;
        }
        head = 2;
        size = n < head ? head : (size_t)p[1] & 0x7f;
        if (size == 126) {
            head = 4;
            size = n < head ? head : (size_t)(uint8_t)p[2] << 8 | (uint8_t)p[3];
        }
        break;
    }
    cr_assert_leq(head + size, n, "%s: cut off", conn->kind->name);
    *ret_text = (struct span){p + head, size};
    return head + size;
}

/*
 * Each push came once and in order, for each worker; what else came is in `rest`. Returns how many
 * are missing.
 */
static size_t check_pushes(struct conn *conn)
{
    size_t got[SIDES] = {0};
    size_t missed = 0;
    conn->nrest = 0;
    for (size_t at = 0; at < conn->n;) {
        struct span text;
        const char *p = conn->out + at;
        size_t used = next_message(conn, p, conn->n - at, &text);
        at += used;
        if (conn->kind->framing == HTTP || text.n < 2 || (text.p[0] != 'o' && text.p[0] != 'n')) {
            memcpy(conn->rest + conn->nrest, p, used);
            conn->nrest += used;
            continue;
        }
        unsigned side = text.p[0] == 'o' ? OLD : NEW;
        unsigned number = (unsigned)strtoul(text.p + 1, NULL, 10);
        while (got[side] < conn->nexpected[side] && conn->expected[side][got[side]] != number) {
            got[side]++;
            missed++;
        }
        cr_assert_lt(got[side]++, conn->nexpected[side], "%s: %c%u comes twice, or too late",
            conn->kind->name, text.p[0], number);
    }
    return missed + conn->nexpected[OLD] - got[OLD] + conn->nexpected[NEW] - got[NEW];
}

static bool is_closed(const struct conn *conn)
{
    char byte;
    return recv(conn->peer, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0;
}

static void check_rest(size_t i)
{
    const struct conn *conn = &conns[i];
    cr_assert(
        conn->nrest == reference[i].n && memcmp(conn->rest, reference[i].bytes, conn->nrest) == 0,
        "%s: %.*s", conn->kind->name, (int)conn->nrest, conn->rest);
}

struct result {
    bool cut;          /* it came to that message */
    bool failed;       /* or that allocation */
    unsigned messages; /* in all */
    unsigned records;  /* that were sealed */
    size_t closed;     /* connections, when the hand-over was over or cut */
    size_t missed;     /* pushes, by the one connection that has missed the most */
};

/* Whether an allocation has failed since it was said that the n-th one is to. */
static bool has_failed(long n)
{
    bool left = false;
    for (long i = 0; i <= n && !left; i++) {
        void *object = mem_zalloc(1);
        left = object == NULL;
        mem_free(object);
    }
    mem_fail_after(-1);
    return !left;
}

static void hand_over(const struct run *run)
{
    pair_ends_when_cut(run->keys);
    pair_cut_at(run->cut, run->at);
    mem_fail_after(run->fails);
    for (int i = 0; i < (run->fails < 0 ? TURNS : TURNS_FEW); i++) {
        if (i == 1 && !run->stays)
            pair_connect();
        if (i == 2 && !run->stays)
            pair_leave();
        if (i == LATE_TURN)
            open_late();
        push_to_all(i % 2 == 0 ? OLD : NEW);
        pair_turn();
        if (i % 4 == 0)
            listen_to_all(false);
        if (i % 3 == 0)
            push_to_all(NEW);
    }
}

/*
 * Each connection is on one side, unless it was closed: which one without pushes never is, but for
 * the one that ends by itself.
 */
static void check_sides(bool is_over, struct result *result)
{
    for (size_t i = 0; i < CONNS; i++) {
        unsigned n = count_at(OLD, conns[i].id) + count_at(NEW, conns[i].id);
        cr_assert_leq(n, 1, "%s: on both sides", conns[i].kind->name);
        listen_to(&conns[i]);
        result->closed += n == 0;
        cr_assert(n == 1 || takes_pushes(&conns[i]) || is_over, "%s: closed", conns[i].kind->name);
        if (n == 0)
            cr_assert(is_closed(&conns[i]), "%s: open, but on no side", conns[i].kind->name);
    }
}

/* With another socket, until all are at the new shard. */
static void hand_the_rest_over(void)
{
    pair_cut_at(CUT_NEVER, 0);
    pair_connect();
    pair_leave();
    for (int i = 0; i < TURNS_MAX && pair_is_leaving(); i++) {
        push_to_all(i % 2 == 0 ? OLD : NEW);
        pair_turn();
        listen_to_all(true);
    }
    for (size_t i = 0; i < CONNS; i++)
        cr_assert_eq(count_at(OLD, conns[i].id), 0, "%s: still there", conns[i].kind->name);
}

static void settle(void)
{
    pair_settle();
    for (int i = 0; i < CALM_TURNS; i++) {
        listen_to_all(true);
        pair_turn();
    }
}

static struct result run(const struct run *run)
{
    struct result result = {0};
    struct result ignored = {0};
    sealed_forget();
    pair_open(MOVE_CONF);
    for (unsigned i = 0; i < SIDES; i++)
        sides[i].shardlet.ctx.transport = &sealed_ops;
    memset(pushed, 0, sizeof(pushed));
    crowded = run->fails < 0;
    open_conns(run);
    hand_over(run);
    result.failed = run->fails >= 0 && has_failed(run->fails);
    for (int i = 0; i < TURNS_MAX && pair_is_leaving() && !pair_was_cut() && !run->stays; i++)
        pair_turn();
    for (int i = 0; i < AFTER; i++)
        pair_turn();
    result.cut = pair_was_cut();
    result.messages = pair_messages();
    check_sides(false, &result);
    settle();
    if (!run->stays)
        hand_the_rest_over();
    for (size_t i = 0; i < CONNS; i++) {
        if (!is_closed(&conns[i]) && !conns[i].kind->shuts)
            say_after(&conns[i]);
    }
    settle();
    check_sides(true, &ignored);
    for (size_t i = 0; i < CONNS; i++) {
        bool closed = is_closed(&conns[i]);
        if (!closed || conns[i].kind->shuts)
            result.missed = MAX(result.missed, check_pushes(&conns[i]));
        if (run->stays) {
            reference[i].n = conns[i].nrest;
            memcpy(reference[i].bytes, conns[i].rest, conns[i].nrest);
        } else if (!closed || conns[i].kind->shuts) {
            check_rest(i);
        }
        close(conns[i].peer);
    }
    pair_settle();
    result.records = sealed_written();
    pair_close();
    cr_assert_eq(sealed_count(), 0u, "transports");
    return result;
}

static size_t open_before;
static size_t memory_before;

static struct result run_without_loss(const struct run *plan)
{
    struct result result = run(plan);
    cr_assert_eq(open_count(), open_before, "descriptors");
    cr_assert_eq(
        mem_in_use(), memory_before, "memory: %zd bytes", (ssize_t)(mem_in_use() - memory_before));
    return result;
}

static void set_up(void)
{
    const struct run stays = {.stays = true, .fails = -1};
    pair_stop_clock();
    struct result result = run(&stays);
    cr_assert(result.closed == 0 && result.missed == 0);
    open_before = open_count(); /* with what libuv keeps for the next loop */
    memory_before = mem_in_use();
}

static void tear_down(void)
{
    pair_start_clock();
}

TestSuite(two_shards, .init = set_up, .fini = tear_down, .timeout = 60);

static void all_go(bool keys, unsigned messages)
{
    const struct run whole = {.keys = keys, .fails = -1};
    struct result result = run_without_loss(&whole);
    cr_expect(result.closed == 0 && result.missed == 0);
    cr_expect_geq(result.messages, messages, "%u", result.messages);
    cr_expect(keys ? result.records > CONNS : result.records == 0, "%u records", result.records);
}

/* Two batches among the messages. */
Test(two_shards, all_connections_go)
{
    all_go(false, 6);
}

Test(two_shards, all_connections_go_with_keys)
{
    all_go(true, 8);
}

/* Of each message in each way, until there is none of that number. */
static void cut_everywhere(bool keys, unsigned messages)
{
    for (enum cut cut = CUT_NOT_SENT; cut < CUTS; cut++) {
        struct result result = {.cut = true};
        unsigned at = 0;
        while (result.cut) {
            const struct run plan = {.keys = keys, .cut = cut, .at = ++at, .fails = -1};
            result = run_without_loss(&plan);
            cr_expect(result.closed == 0 && result.missed == 0, "%u at %u: %zu closed, %zu missed",
                cut, at, result.closed, result.missed);
        }
        cr_expect_gt(at, messages);
    }
}

Test(two_shards, cut_at_every_message)
{
    cut_everywhere(false, 6);
}

Test(two_shards, cut_at_every_message_with_keys)
{
    cut_everywhere(true, 8);
}

/*
 * What one that fails may cost, as at any other time: a connection to which a push could not be
 * written is closed; or one push is missed, which could not be encoded, kept for connections on
 * their way, or passed on.
 */
static void fail_everywhere(bool keys)
{
    struct result result = {.failed = true};
    long n = -1;
    while (result.failed) {
        const struct run plan = {.keys = keys, .fails = ++n};
        result = run_without_loss(&plan);
        cr_expect(result.closed + result.missed <= 1, "%ld: %zu closed, %zu missed", n,
            result.closed, result.missed);
    }
    cr_expect_gt(n, 100);
}

Test(two_shards, every_allocation_fails)
{
    fail_everywhere(false);
}

Test(two_shards, every_allocation_fails_with_keys)
{
    fail_everywhere(true);
}
