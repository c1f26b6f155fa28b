#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/codec/proxy_protocol.h"
#include "frontd/shard/client/affinity.h"
#include "frontd/shard/push/push.h"
#include "frontd/shard/request/auth.h"
#include "frontd/shard/session/duplex.h"
#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

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

TestSuite(client_save, .init = set_up, .fini = tear_down);

#define H      "Host: h\r\n"
#define GET_2  "GET /none HTTP/1.1\r\n" H "\r\nGET /none HTTP/1.1\r\n" H "\r\n"
#define GET_10 GET_2 GET_2 GET_2 GET_2 GET_2

/* A client with something of each kind to carry: what it has said, and what was pushed to it. */
static const struct sample {
    const char *listener;
    const char *said;
    size_t n;
    unsigned pushes;
    bool drained;
} samples[] = {
#define SAID(literal) literal, sizeof(literal) - 1
    {"web", SAID(""), 0, false},
    {"web", SAID("GET / HT"), 0, false},
    {"web", SAID("POST /rpc HTTP/1.1\r\n" H "Content-Length: 9\r\n\r\n{"), 0, false},
    {"web", SAID("PUT /rpc HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n5;a=\"b\"\r\nab"), 0,
        false},
    {"web", SAID("GET /none HTTP/1.1\r\n" H "Connection: close\r\n\r\n"), 0, false},
    {"web", SAID(HANDSHAKE("h")), 0, false},
    {"web",
        SAID(HANDSHAKE("h") WS_FRAME("\x01", "\x83", "{\xc3\xa4")
                WS_FRAME("\x80", "\xfe\1\0", "\xc3")),
        3, false},
    {"web", SAID(HANDSHAKE("h") WS_FRAME("\x02", "\x83", "abc")), 1, true},
    {"web", SAID(HANDSHAKE("events.test") WS_FRAME("\x81", "\x82", "{}")), 0, false},
    {"lines", SAID("{}\n{"), 50, false},
    {"lines", SAID(""), 50, true},
    {"frames", SAID("\0\0\0\0\0\0\1\0{"), 2, false},
    {"web", SAID(GET_10 GET_10 GET_10 GET_10 GET_10 GET_10 "GE"), 0, false},
    {"frames", SAID(""), 0, false},
    {"lines", SAID(""), 0, false},
    {"web", SAID(HANDSHAKE("h") WS_FRAME("\x01", "\x81", "{") WS_FRAME("\0", "\x80", "")), 0,
        false},
    {"h2c", SAID(""), 0, false},
    {"h2c", SAID("PRI * HTT"), 0, false},
    {"h2c", SAID(H2_START H2_GET("\x01")), 0, false},
    {"h2c", SAID(H2_START H2_GET("\x01")), 0, true},
    {"h2c", SAID(H2_START H2_POST("\x01") H2_HEAD("\x02", "\0", "\0", "\x01") "{}"), 0, false},
    {"h2c",
        SAID(H2_PREFACE H2_HEAD("\x06", "\x04", "\0", "\0") "\0\x04\0\0\0\0" H2_GET("\x01")
                H2_HEAD("\x09", "\x01", "\0", "\x03") "\x82\x86\x84\x40\x01x\x01y"),
        0, false},
    {"proxied", SAID(""), 0, false},
    {"proxied", SAID("PROXY TCP4 203."), 0, false},
    {"proxied-lines", SAID("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x05\xc0"), 0, false},
    {"proxied", SAID(PROXY_LINE), 0, false},
    {"proxied", SAID(PROXY_LOCAL "GET / HT"), 0, false},
    {"proxied-lines", SAID(PROXY_BINARY "{}\n{"), 5, false},
    {"web", SAID(HANDSHAKE_DEFLATE), 2, false},
    {"web", SAID(HANDSHAKE_DEFLATE WS_FRAME("\x41", "\x82", "\xf2\x48")), 0, false},
};

/* Whether nothing was said but a PROXY header, or a part of one. */
static bool is_header(const struct sample *sample)
{
    struct proxy_header header;
    enum proxy_result result = proxy_protocol_parse(sample->said, sample->n, &header);
    return strncmp(sample->listener, "proxied", 7) == 0 &&
           (result == PROXY_MORE || header.used == sample->n);
}

static const struct push_from sibling; /* passed it on */

static void push_to(struct client *client, unsigned pushes)
{
    static char text[3000];
    struct frame frame = {
        .head = {.type = FRAME_SUBSCRIBE, .conn = client->conn.id},
        .body = {text, sizeof(text)},
    };
    memset(text, 'x', sizeof(text));
    for (unsigned i = 0; i < pushes; i++) {
        char meta[64];
        int n = snprintf(meta, sizeof(meta), "{\"topic\":\"topic %u\"}", i);
        frame.head.type = FRAME_SUBSCRIBE;
        frame.meta = (struct span){meta, (size_t)n};
        push_handle(&from.ctx, &sibling, &frame);
        frame.head.type = FRAME_PUSH;
        frame.meta = (struct span){0};
        push_handle(&from.ctx, &sibling, &frame);
    }
}

/* Frozen, and ready to be saved. Its peer is a descriptor of the caller's. */
static struct client *make(const struct sample *sample, int *ret_peer)
{
    struct client *client = shardlet_client(&from, sample->listener, ret_peer);
    int small = 1;
    cr_assert_eq(setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
    if (sample->n > 0)
        cr_assert_eq(write(*ret_peer, sample->said, sample->n), (ssize_t)sample->n);
    shardlet_turn(&from);
    push_to(client, sample->pushes);
    if (sample->drained)
        client_drain(client);
    shardlet_turn(&from);
    client_freeze(client);
    return client;
}

static struct span saved(const struct client *client, struct buf *state)
{
    cr_assert_eq(client_save(client, state), 0);
    return (struct span){buf_data(state), buf_len(state)};
}

static int restore(struct shardlet *at, int fd, struct span state, struct client **ret_client)
{
    int r = client_restore(&at->ctx, &at->clients, fd, state, ret_client);
    cr_assert(r == 0 || r == -EBADMSG || r == -ENOTSUP || r == -ENOMEM, "%d", r);
    return r;
}

/* A restored client lives for a moment, on a descriptor that is then closed. */
static void live(struct client *client)
{
    client_start(client);
    shardlet_turn(&to);
    list_for_each_safe (node, &to.clients)
        client_doom(container_of(node, struct client, node));
    shardlet_turn(&to);
}

static void drop(struct client *client, int peer)
{
    client_release(client);
    close(peer);
    shardlet_turn(&from);
}

/* What is restored and saved again is the same, byte for byte: nothing is forgotten. */
Test(client_save, round_trip)
{
    unsigned queues = 0, outs = 0, pendings = 0, topics = 0, endings = 0, closing = 0, headers = 0;
    unsigned unused = 0, excess = 0, proxied = 0;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct buf first = {0}, second = {0};
        struct client *restored;
        int peer, fd;
        struct client *client = make(&samples[i], &peer);
        struct span state = saved(client, &first);
        uv_update_time(&to.ctx.loop); /* not before the times that were saved */
        fd = dup(client->fd);
        cr_assert_eq(restore(&to, fd, state, &restored), 0, "sample %zu", i);
        struct span again = saved(restored, &second);
        /* Topics are listed from the last one on. */
        if (samples[i].pushes <= 1)
            cr_assert(
                again.n == state.n && memcmp(again.p, state.p, state.n) == 0, "sample %zu", i);
        cr_assert_eq(again.n, state.n);
        cr_assert(!wheel_armed(&restored->timer) && restored->arriving);
        queues += restored->queue != NULL;
        outs += buf_len(&restored->out) > 0;
        pendings += restored->pending != NULL;
        topics += client_is_duplex(restored) && restored->duplex->subscriptions != NULL;
        headers += client_is_duplex(restored) && restored->duplex->headers != NULL;
        endings += restored->state >= CLIENT_ENDING;
        unused += !restored->used;
        proxied += restored->proxied;
        if (restored->pending != NULL && client_is_duplex(restored) &&
            restored->session == SESSION_WEBSOCKET)
            excess += restored->pending->codec.ws.excess == 5 + 6;
        closing += client_is_duplex(restored) && restored->duplex->close_sent;
        live(restored);
        buf_deinit(&first);
        buf_deinit(&second);
        drop(client, peer);
    }
    cr_assert(queues > 0 && pendings > 0 && topics > 0 && headers > 0);
    cr_assert(endings > 0 && closing > 0 && outs > 0);
    cr_assert_eq(excess, 1, "heads of fragments that bring less than they take");
    cr_assert_eq(proxied, 4, "three that await their PROXY header, and a proxy's own check");
    cr_assert_eq(unused, 8, "those from which nothing has come, and to which nothing was pushed");
}

/* Each of the flags and counters by itself, which no sample has. */
Test(client_save, flags)
{
    struct client *restored;
    int peer;
    struct client *client = make(&samples[5], &peer);
    for (int i = 0; i < 6; i++) {
        struct buf state = {0};
        client->last_request = i == 0;
        client->paused = i == 1;
        client->shut = i == 2;
        client->unread = i == 3;
        client->duplex->pings = i == 4 ? 2 : 0;
        client->duplex->dropped = i == 5 ? 12345 : 0;
        int fd = dup(client->fd);
        cr_assert_eq(restore(&to, fd, saved(client, &state), &restored), 0);
        const struct duplex *duplex = restored->duplex;
        cr_assert_eq(restored->last_request, i == 0);
        cr_assert_eq(restored->paused, i == 1);
        cr_assert_eq(restored->shut, i == 2);
        cr_assert_eq(restored->unread, i == 3);
        cr_assert(duplex->pings == (i == 4 ? 2 : 0) && duplex->dropped == (i == 5 ? 12345 : 0));
        client_discard(restored);
        close(fd);
        shardlet_turn(&to);
        buf_deinit(&state);
    }
    client->last_request = client->paused = client->shut = client->unread = false;
    drop(client, peer);
}

/* What the token of a WebSocket's handshake says goes with it; it has to be an object. */
Test(client_save, claims)
{
    static const struct span texts[] = {{"{\"sub\":\"me\"}", 12}, {"[1]", 3}, {"{", 1}, {"", 0}};
    struct client *restored;
    int peer;
    struct client *client = make(&samples[5], &peer);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
        struct buf state = {0};
        claims_put(client->duplex->claims);
        client->duplex->claims = claims_new(texts[i], 77);
        cr_assert_not_null(client->duplex->claims);
        int fd = dup(client->fd);
        int r = restore(&to, fd, saved(client, &state), &restored);
        cr_assert_eq(r, i == 0 ? 0 : -EBADMSG, "%zu: %d", i, r);
        if (r == 0) {
            const struct claims *claims = restored->duplex->claims;
            cr_assert(claims != NULL && claims->until == 77 && claims->n == texts[0].n);
            cr_assert_eq(memcmp(claims->text, texts[0].p, texts[0].n), 0);
            client_discard(restored);
        }
        close(fd);
        shardlet_turn(&to);
        buf_deinit(&state);
    }
    drop(client, peer);
}

/* The worker that a connection is bound to, and the state that is kept with it, go with it. */
Test(client_save, affinity)
{
    static char longest[CONF_STATE_MAX + 1];
    static const size_t sizes[] = {0, 3, CONF_STATE_MAX, CONF_STATE_MAX + 1};
    struct client *restored;
    int peer;
    struct client *client = make(&samples[5], &peer);
    for (size_t i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
        struct buf state = {0};
        size_t n = sizes[i / 2];
        cr_assert_eq(affinity_keep(client, (struct span){"x", 1}), 0);
        memset(longest, 'a' + (int)i, sizeof(longest));
        cr_assert_eq(affinity_keep(client, (struct span){longest, n}), 0);
        client->duplex->affinity->home = 4711;
        client->duplex->affinity->pool = i % 2 == 0 ? 0 : AFFINITY_NO_POOL;
        int fd = dup(client->fd);
        int r = restore(&to, fd, saved(client, &state), &restored);
        cr_assert_eq(r, n <= CONF_STATE_MAX ? 0 : -EBADMSG, "%zu: %d", i, r);
        if (r == 0) {
            const struct affinity *affinity = restored->duplex->affinity;
            cr_assert(affinity != NULL && affinity->n == n);
            cr_assert_eq(memcmp(affinity->state, longest, n), 0);
            cr_assert_eq(affinity->home, i % 2 == 0 ? 4711u : 0u);
            cr_assert_eq(affinity->pool, i % 2 == 0 ? 0 : AFFINITY_NO_POOL);
            cr_assert_eq(to.ctx.bound, 1u);
            client_discard(restored);
            cr_assert_eq(to.ctx.bound, 0u);
        }
        close(fd);
        shardlet_turn(&to);
        buf_deinit(&state);
    }
    drop(client, peer);
}

/* Cut off anywhere, and every byte changed: it is refused, or lives; nothing crashes or leaks. */
Test(client_save, bad_states, .timeout = 120)
{
    static const unsigned char flips[] = {0x01, 0x02, 0x80, 0xff};
    size_t taken = 0, refused = 0;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct buf state = {0};
        struct client *restored;
        int peer;
        struct client *client = make(&samples[i], &peer);
        struct span whole = saved(client, &state);
        size_t n = MIN(whole.n, (size_t)1500); /* of much that waits, one byte is like another */
        for (size_t cut = 0; cut < n && cut < whole.n; cut++) {
            char *copy = malloc(cut + (cut == 0));
            cr_assert_not_null(copy);
            memcpy(copy, whole.p, cut);
            int fd = dup(client->fd);
            int r = restore(&to, fd, (struct span){copy, cut}, &restored);
            free(copy);
            if (r == 0)
                live(restored);
            else
                close(fd);
            taken += r == 0;
        }
        for (size_t at = 0; at < n * ARRAY_LEN(flips); at++) {
            char *copy = malloc(whole.n);
            cr_assert_not_null(copy);
            memcpy(copy, whole.p, whole.n);
            char *byte = &copy[at / ARRAY_LEN(flips)];
            *byte = (char)((unsigned char)*byte ^ flips[at % ARRAY_LEN(flips)]);
            int fd = dup(client->fd);
            int r = restore(&to, fd, (struct span){copy, whole.n}, &restored);
            free(copy);
            if (r == 0 && at % 2 == 0) {
                live(restored);
            } else {
                if (r == 0)
                    client_discard(restored);
                close(fd);
            }
            refused += r < 0;
        }
        shardlet_turn(&to);
        buf_deinit(&state);
        drop(client, peer);
    }
    /* A state without its last sections is one, too: it has less. */
    cr_assert(taken > 0 && taken < 3 * ARRAY_LEN(samples));
    cr_assert_gt(refused, 1000);
}

/* Sections */

enum { SECTION_HEAD = 6 /* bytes: tag, version, length */, SECTIONS_MAX = 8 };

/* Where each section of a state begins, and where the last one ends. */
static size_t find_sections(struct span state, size_t at[static SECTIONS_MAX + 1])
{
    struct unpack unpack = {.left = state};
    struct unpack_section section;
    size_t n = 0;
    at[0] = 0;
    while (unpack_section(&unpack, &section)) {
        cr_assert_lt(n, SECTIONS_MAX);
        at[++n] = state.n - unpack.left.n;
    }
    cr_assert_eq(unpack_end(&unpack), 0);
    return n;
}

/* The state without its section of that tag. */
static void leave_out(struct span state, uint8_t tag, struct buf *out)
{
    size_t at[SECTIONS_MAX + 1];
    size_t n = find_sections(state, at);
    for (size_t i = 0; i < n; i++) {
        if ((uint8_t)state.p[at[i]] != tag)
            cr_assert_eq(buf_append(out, state.p + at[i], at[i + 1] - at[i]), 0);
    }
    cr_assert_lt(buf_len(out), state.n);
}

static void expect(struct client *client, struct buf *state, int result, const char *what)
{
    struct client *restored;
    int fd = dup(client->fd);
    int r = restore(&to, fd, (struct span){buf_data(state), buf_len(state)}, &restored);
    cr_assert_eq(r, result, "%s: %d", what, r);
    if (r == 0)
        client_discard(restored);
    cr_assert_eq(close(fd), 0);
    shardlet_turn(&to);
}

Test(client_save, sections)
{
    static const struct sample all = {
        "web", SAID(HANDSHAKE("h") WS_FRAME("\x01", "\x83", "abc")), 50, false};
    struct buf state = {0}, other = {0};
    size_t at[SECTIONS_MAX + 1];
    int peer;
    struct client *client = make(&all, &peer);
    struct span whole = saved(client, &state);
    size_t n = find_sections(whole, at);
    cr_assert_geq(n, 5);
    expect(client, &state, 0, "as it was saved");
    for (size_t i = 0; i < n; i++) {
        buf_data(&state)[at[i]] ^= 0x40;
        expect(client, &state, -ENOTSUP, "a section nobody knows");
        buf_data(&state)[at[i]] ^= 0x40;
        buf_data(&state)[at[i] + 1] ^= 0x40;
        expect(client, &state, -ENOTSUP, "a version nobody knows");
        buf_data(&state)[at[i] + 1] ^= 0x40;
        for (size_t j = 0; j < n; j++) {
            /* once more, at the front or at the end */
            cr_assert_eq(buf_append(&other, whole.p, whole.n), 0);
            cr_assert_eq(buf_append(&other, whole.p + at[i], at[i + 1] - at[i]), 0);
            expect(client, &other, -EBADMSG, "a section twice");
            buf_deinit(&other);
            /* with another in its place */
            if (i < j) {
                cr_assert_eq(buf_append(&other, whole.p, at[i]), 0);
                cr_assert_eq(buf_append(&other, whole.p + at[j], at[j + 1] - at[j]), 0);
                cr_assert_eq(buf_append(&other, whole.p + at[i], at[i + 1] - at[i]), 0);
                expect(client, &other, -EBADMSG, "in another order");
                buf_deinit(&other);
            }
        }
        /* one byte more than there should be, where that means anything */
        cr_assert_eq(buf_append(&other, whole.p, at[i + 1]), 0);
        cr_assert_eq(buf_append(&other, "\0", 1), 0);
        buf_data(&other)[at[i] + 2]++;
        cr_assert_eq(buf_append(&other, whole.p + at[i + 1], whole.n - at[i + 1]), 0);
        expect(client, &other, -EBADMSG, "a section that is too long");
        buf_deinit(&other);
    }
    cr_assert_eq(buf_append(&other, whole.p + at[1], whole.n - at[1]), 0);
    expect(client, &other, -EBADMSG, "not what it is all about");
    buf_deinit(&other);
    expect(client, &other, -EBADMSG, "nothing");
    buf_deinit(&state);
    drop(client, peer);
}

/* That nothing has come from a connection is said in a section of its own: a program that does not
 * know it can take all others, and one without it has been used. */
Test(client_save, unused)
{
    struct client *restored;
    int peer;
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct buf state = {0}, less = {0};
        struct client *client = make(&samples[i], &peer);
        bool unused = !client->used;
        cr_assert_eq(
            unused, (samples[i].n == 0 || is_header(&samples[i])) && samples[i].pushes == 0);
        client->active_at = 1;
        struct span whole = saved(client, &state);
        if (unused) {
            cr_assert_eq(restore(&to, client->fd, whole, &restored), 0);
            cr_assert(!restored->used && restored->active_at == 1, "its time goes on");
            client_discard(restored);
            leave_out(whole, 7, &less);
            cr_assert_eq(
                restore(&to, client->fd, (struct span){buf_data(&less), buf_len(&less)}, &restored),
                0);
            cr_assert(restored->used);
            client_discard(restored);
        } else if (client->state == CLIENT_OPEN) {
            client->used = false; /* which cannot be */
            struct buf lie = {0};
            bool told = client->pending != NULL || client_waiting(client) > 0 ||
                        (client->duplex != NULL && client->session == SESSION_WEBSOCKET);
            saved(client, &lie);
            expect(client, &lie, told ? -EBADMSG : 0, "used, and not");
            client->used = true;
            buf_deinit(&lie);
        }
        buf_deinit(&state);
        buf_deinit(&less);
        drop(client, peer);
        shardlet_turn(&to);
    }
}

/* They are restored among those that are there, in the order of their age. */
Test(client_save, unused_in_order)
{
    struct client *made[4], *restored;
    int peers[4];
    uint64_t last = 0;
    size_t n = 0;
    to.ctx.used = &to.clients;
    for (size_t i = 0; i < ARRAY_LEN(made); i++) {
        struct buf state = {0};
        made[i] = make(&samples[0], &peers[i]);
        made[i]->active_at = i == 0 ? 3 : i == 1 ? 1 : i == 2 ? 4 : 2;
        cr_assert_eq(restore(&to, dup(made[i]->fd), saved(made[i], &state), &restored), 0);
        buf_deinit(&state);
    }
    list_for_each (node, &to.ctx.unused) {
        const struct client *client = container_of(node, struct client, node);
        cr_assert_gt(client->active_at, last);
        last = client->active_at;
        n++;
    }
    cr_assert_eq(n, ARRAY_LEN(made));
    to.ctx.used = NULL;
    list_join(&to.clients, &to.ctx.unused);
    list_for_each_safe (node, &to.clients) {
        restored = container_of(node, struct client, node);
        int fd = restored->fd;
        client_discard(restored);
        close(fd);
    }
    for (size_t i = 0; i < ARRAY_LEN(made); i++)
        drop(made[i], peers[i]);
}

Test(client_save, ids)
{
    struct buf state = {0};
    struct client *restored;
    int peer;
    struct client *client = make(&samples[9], &peer);
    struct span whole = saved(client, &state);
    int fd = dup(client->fd), second = dup(client->fd);
    cr_assert_eq(restore(&to, fd, whole, &restored), 0);
    cr_assert_eq(restored->conn.id, client->conn.id);
    cr_assert_eq(restore(&to, second, whole, &restored), -EBADMSG, "it is there already");
    cr_assert_eq(close(second), 0);
    live(container_of(to.clients.prev, struct client, node));
    buf_deinit(&state);
    uint64_t its_id = client->conn.id;
    client->conn.id = 0;
    saved(client, &state);
    expect(client, &state, -EBADMSG, "no id");
    client->conn.id = its_id;
    buf_deinit(&state);
    drop(client, peer);
}

Test(client_save, descriptors)
{
    struct buf state = {0};
    struct client *restored;
    int peer;
    struct client *client = make(&samples[0], &peer);
    struct span whole = saved(client, &state);
    FILE *file = tmpfile(); /* which cannot be polled */
    cr_assert_not_null(file);
    cr_assert_eq(restore(&to, fileno(file), whole, &restored), -EBADMSG);
    cr_assert_eq(fclose(file), 0);
    cr_assert_eq(shardlet_connections(), 1);
    buf_deinit(&state);
    drop(client, peer);
}

/* Configs */

#define POOLS "pools:\n  - {name: app, workers: [\"unix:/nonexistent/app.sock\"]}\n"
#define WEB   "listeners:\n  - name: web\n    address: 127.0.0.1:8080\n    routes:\n"
#define RPC   "      - {path: /rpc, kind: jsonrpc, pool: app}\n"

Test(client_save, other_configs)
{
    static const struct {
        unsigned sample;
        const char *conf;
        int result;
    } rows[] = {
        /* HTTP: bound to nothing but its listener */
        {2, WEB RPC POOLS, 0},
        {2, WEB "      - {path: /, kind: http, pool: app}\n" POOLS, 0},
        {2,
            "limits: {header: 128, headers: 1, body: 1, connections: 1, connections_per_peer: "
            "1}\n" WEB RPC POOLS,
            0},
        {2, "listeners:\n  - {name: web, address: 127.0.0.1:1, protocol: line, pool: app}\n" POOLS,
            -ENOTSUP},
        {2,
            "listeners:\n  - {name: lines, address: 127.0.0.1:1, protocol: line, pool: "
            "app}\n" POOLS,
            -ENOTSUP},
        /* WebSocket: its route, wherever it stands */
        {5, WEB RPC "      - {path: /ws, kind: websocket, pool: app}\n" POOLS, 0},
        {5,
            WEB RPC
            "      - {path: /ws, kind: websocket, pool: app, headers: [a], slow: drop}\n" POOLS,
            0},
        {5, WEB RPC POOLS, -ENOTSUP},
        {5, WEB "      - {path: /ws, kind: http, pool: app}\n" POOLS, -ENOTSUP},
        {5, WEB "      - {path: /w, kind: websocket, pool: app}\n" POOLS, -ENOTSUP},
        {5, WEB "      - {path: /ws/s, kind: websocket, pool: app}\n" POOLS, -ENOTSUP},
        {5, WEB "      - {path: /ws, host: h, kind: websocket, pool: app}\n" POOLS, -ENOTSUP},
        {5, WEB "      - {path: /ws, kind: websocket, pool: app, messages: raw}\n" POOLS, -ENOTSUP},
        {8, WEB "      - {path: /ws, host: events.test, kind: websocket, pool: app}\n" POOLS, 0},
        {8, WEB "      - {path: /ws, kind: websocket, pool: app}\n" POOLS, -ENOTSUP},
        /* line and frame */
        {9,
            "listeners:\n  - {name: lines, address: 127.0.0.1:1, protocol: line, pool: "
            "app}\n" POOLS,
            0},
        {9,
            "limits: {subscriptions: 1, write_buffer: 1}\nlisteners:\n"
            "  - {name: lines, address: 127.0.0.1:1, protocol: line, pool: app, slow: "
            "drop}\n" POOLS,
            0},
        {9,
            "listeners:\n  - {name: lines, address: 127.0.0.1:1, protocol: frame, pool: "
            "app}\n" POOLS,
            -ENOTSUP},
        {9,
            "listeners:\n  - {name: lines, address: 127.0.0.1:1, protocol: line, pool: app, "
            "messages: raw}\n" POOLS,
            -ENOTSUP},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static struct shardlet there;
        struct buf state = {0};
        struct client *restored;
        int peer;
        struct client *client = make(&samples[rows[i].sample], &peer);
        struct span whole = saved(client, &state);
        shardlet_init(&there, rows[i].conf, 2);
        int fd = dup(client->fd);
        int r = restore(&there, fd, whole, &restored);
        cr_assert_eq(r, rows[i].result, "row %zu: %d", i, r);
        if (r == 0) {
            client_start(restored);
            shardlet_turn(&there);
        } else {
            close(fd);
        }
        buf_deinit(&state);
        drop(client, peer);
        shardlet_deinit(&there);
    }
}

#define PER_PEER "limits: {connections_per_peer: 9}\nlisteners:\n"
#define REST     ", routes: [{path: /rpc, kind: jsonrpc, pool: app}]}\n" POOLS
#define TRUST    ", trusted_proxies: [192.0.2.7]"

/*
 * Whose connection one is that a proxy has made is up to the new config: one that is the proxy's is
 * not counted by peer. A header that is on its way is awaited, whatever the new config says.
 */
Test(client_save, proxies)
{
    enum { PLAIN = 0, AWAITS = 22, PARTLY = 23, KNOWN = 25, OWN = 26 };
    static const struct {
        unsigned sample;
        const char *conf;
        bool proxied;
    } rows[] = {
        {AWAITS, PER_PEER "  - {name: proxied, address: 127.0.0.1:1" REST, true},
        {PARTLY, PER_PEER "  - {name: proxied, address: 127.0.0.1:1" REST, true},
        {PARTLY,
            PER_PEER "  - {name: proxied, address: 127.0.0.1:1, proxy_protocol: true" TRUST REST,
            true},
        {KNOWN,
            PER_PEER "  - {name: proxied, address: 127.0.0.1:1, proxy_protocol: true" TRUST REST,
            false},
        {OWN, PER_PEER "  - {name: proxied, address: 127.0.0.1:1, proxy_protocol: true" TRUST REST,
            true},
        {OWN, PER_PEER "  - {name: proxied, address: 127.0.0.1:1" REST, false},
        {PLAIN, PER_PEER "  - {name: web, address: 127.0.0.1:1" REST, false},
        {PLAIN, PER_PEER "  - {name: web, address: 127.0.0.1:1, forwarded: forwarded" TRUST REST,
            true},
        {PLAIN, PER_PEER "  - {name: web, address: 127.0.0.1:1, proxy_protocol: true" TRUST REST,
            false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        static struct shardlet there;
        const struct sample *sample = &samples[rows[i].sample];
        bool awaits = rows[i].sample == AWAITS || rows[i].sample == PARTLY;
        struct buf state = {0};
        struct client *restored;
        char out[1024];
        int peer;
        size_t n = 0;
        struct client *client = make(sample, &peer);
        struct span whole = saved(client, &state);
        shardlet_init(&there, rows[i].conf, 2);
        uint64_t counted = shardlet_peers(); /* the other shardlet's */
        cr_assert_eq(restore(&there, dup(client->fd), whole, &restored), 0, "row %zu", i);
        cr_expect_eq(restored->proxied, rows[i].proxied, "row %zu", i);
        cr_expect_eq(restored->session == SESSION_PROXY, awaits, "row %zu", i);
        bool own = rows[i].sample == PLAIN || rows[i].sample == OWN;
        cr_expect_eq(shardlet_peers() - counted, (uint64_t)(own && !rows[i].proxied), "row %zu", i);
        client_start(restored);
        shardlet_turn(&there);
        if (awaits)
            cr_assert_gt(
                write(peer, PROXY_LINE + sample->n, sizeof(PROXY_LINE) - 1 - sample->n), 0);
        struct span rest = rows[i].sample == OWN ? SPAN("TP/1.1\r\nHost: h\r\n\r\n")
                                                 : SPAN("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        cr_assert_eq(write(peer, rest.p, rest.n), (ssize_t)rest.n);
        shardlet_turn(&there);
        shardlet_read(peer, out, sizeof(out), &n);
        cr_expect_not_null(memmem(out, n, " 404 ", 5), "row %zu: %.*s", i, (int)n, out);
        char text[PEER_TEXT_SIZE];
        client_peer_text(restored, text);
        cr_expect_str_eq(text, own ? "192.0.2.7:13330" : "203.0.113.5:51412", "row %zu", i);
        buf_deinit(&state);
        drop(client, peer);
        shardlet_deinit(&there);
    }
}

/*
 * Of `frame` and `line` the kernel keeps the interval of signs of life, as options of the socket.
 */
Test(client_save, keep_alive)
{
    static const char other[] = "listeners:\n  - {name: lines, address: 127.0.0.1:1, protocol: "
                                "line, pool: app, ping: 7s}\n" POOLS;
    static struct shardlet there;
    struct buf state = {0};
    struct client *restored;
    int peer, seconds = 0, fd = socket(AF_INET, SOCK_STREAM, 0);
    socklen_t size = sizeof(seconds);
    struct client *client = make(&samples[9], &peer);
    struct span whole = saved(client, &state);
    shardlet_init(&there, other, 2);
    cr_assert_eq(restore(&there, fd, whole, &restored), 0);
    cr_assert_eq(getsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, &size), 0);
    cr_assert_eq(seconds, 7);
    client_discard(restored);
    close(fd);
    buf_deinit(&state);
    drop(client, peer);
    shardlet_deinit(&there);
}

/* Memory */

Test(client_save, no_memory)
{
    for (size_t i = 0; i < ARRAY_LEN(samples); i++) {
        struct buf state = {0};
        struct client *restored = NULL;
        int peer, r = -ENOMEM;
        struct client *client = make(&samples[i], &peer);
        for (long n = 0; r != 0; n++) {
            cr_assert_lt(n, 50);
            buf_deinit(&state);
            cr_assert_eq(buf_append(&state, "before", 6), 0);
            mem_fail_after(n);
            r = client_save(client, &state);
            mem_fail_after(-1);
            cr_assert(r == 0 || (r == -ENOMEM && buf_len(&state) == 6));
        }
        buf_consume(&state, 6);
        struct span whole = {buf_data(&state), buf_len(&state)};
        int fd = dup(client->fd);
        cr_assert_eq(restore(&to, fd, whole, &restored), 0); /* what is kept for later is there */
        client_discard(restored);
        shardlet_turn(&to);
        size_t before = mem_in_use();
        r = -ENOMEM;
        for (long n = 0; r != 0; n++) {
            cr_assert_lt(n, 500);
            mem_fail_after(n);
            r = restore(&to, fd, whole, &restored);
            mem_fail_after(-1);
            cr_assert(r == 0 || r == -ENOMEM);
            cr_assert(r == 0 || mem_in_use() == before, "allocation %ld", n);
        }
        live(restored);
        buf_deinit(&state);
        drop(client, peer);
    }
}

/* For how long a connection has been there is carried, where the process before has known it. */
Test(client_save, age)
{
    enum { DAY_S = 24 * 3600 };
    const uint32_t turn = (1U << CLIENT_OPENED_BITS) - 1;
    struct client *restored;
    int peer;
    struct client *client = make(&samples[0], &peer);
    uint64_t now = ctx_now(&from.ctx);
    cr_expect_leq(client_age(client), 1); /* a second may have ended since */
    static const uint64_t ages[] = {0, 1, 59, DAY_S, 90 * DAY_S};
    for (size_t i = 0; i < ARRAY_LEN(ages); i++) {
        struct buf state = {0};
        client->opened = client_opened(now + turn * 1000ULL - ages[i] * 1000);
        cr_expect_eq(client_age(client), (int64_t)ages[i]);
        client->active_at = 5;
        cr_assert_eq(restore(&to, client->fd, saved(client, &state), &restored), 0);
        cr_expect_eq(restored->opened, client->opened);
        cr_expect_eq(restored->active_at, 5);
        client_discard(restored);
        buf_deinit(&state);
    }
    struct buf state = {0};
    client->opened = 0; /* as of a program that does not know it */
    cr_assert_eq(restore(&to, client->fd, saved(client, &state), &restored), 0);
    cr_expect_eq(client_age(restored), -1);
    client_discard(restored);
    buf_deinit(&state);
    cr_expect_eq(client_opened(0), 1);
    cr_expect_eq(client_opened(turn * 1000ULL - 1), turn);
    cr_expect_eq(client_opened(turn * 1000ULL), 1);
    drop(client, peer);
}
