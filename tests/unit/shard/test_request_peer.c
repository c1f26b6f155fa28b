/* Requests whose client is told by a header field of a proxy. The proxy is 192.0.2.7, the peer of
 * all clients of a shardlet. */

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/shard/request/request.h"
#include "frontd/shard/session/duplex.h"
#include "tests/unit/support/talk.h"

#define ROUTES                                                                                     \
    ", routes: [{path: /rpc, kind: jsonrpc, pool: app, meta: [peer]}, {path: /all, kind: http, "   \
    "pool: app, meta: [peer]}, {path: /ws, kind: websocket, pool: app, meta: [peer]}]}\n"
#define CONF                                                                                       \
    "limits: {connections_per_peer: 2, calls_per_connection: 3}\n"                                 \
    "listeners:\n"                                                                                 \
    "  - {name: x, address: 127.0.0.1:8080, forwarded: x-forwarded-for, trusted_proxies: "         \
    "[192.0.2.7, 10.0.0.0/8]" ROUTES                                                               \
    "  - {name: rfc, address: 127.0.0.1:8081, forwarded: forwarded, trusted_proxies: "             \
    "[192.0.2.7, 10.0.0.0/8]" ROUTES                                                               \
    "  - {name: others, address: 127.0.0.1:8082, forwarded: x-forwarded-for, trusted_proxies: "    \
    "[192.0.2.8]" ROUTES "  - {name: none, address: 127.0.0.1:8083" ROUTES "pools:\n"              \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h, balance: "    \
    "hash, hash: peer}\n"

#define CALL  "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"
#define PROXY "192.0.2.7:13330"

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

TestSuite(request_peer, .init = set_up, .fini = tear_down);

/* Sends a POST with that body. fields: whole lines. */
static void post(struct talk *talk, const char *path, const char *fields, const char *body)
{
    char bytes[4096];
    int n = snprintf(bytes, sizeof(bytes),
        "POST %s HTTP/1.1\r\nHost: h\r\n%sContent-Length: %zu"
        "\r\n\r\n%s",
        path, fields, strlen(body), body);
    say(talk, (struct span){bytes, (size_t)n});
}

static struct call *last_call(const struct talk *talk)
{
    struct list *node = talk->client->requests.prev;
    cr_assert_neq(node, &talk->client->requests);
    struct request *request = container_of(node, struct request, node);
    cr_assert(!list_empty(&request->calls));
    return container_of(request->calls.prev, struct call, node);
}

/* The youngest call says that it is from there. Returns its hash. */
static uint64_t expect_peer(const struct talk *talk, const char *peer)
{
    char meta[128];
    const struct call *call = last_call(talk);
    const struct buf *frame = &call->job.frame;
    snprintf(meta, sizeof(meta), "{\"peer\":\"%s\"}", peer);
    cr_expect_not_null(memmem(buf_data(frame), buf_len(frame), meta, strlen(meta)), "%s: %.*s",
        peer, (int)buf_len(frame), buf_data(frame));
    return call->job.hash;
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
}

/* Each request of a connection has a client of its own, which is hashed. */
Test(request_peer, of_each_request)
{
    struct talk talk = talk_open(&shard, "x");
    char own[PEER_TEXT_SIZE];
    post(&talk, "/rpc", "X-Forwarded-For: 203.0.113.5\r\n", CALL);
    uint64_t first = expect_peer(&talk, "203.0.113.5:0");
    post(&talk, "/all", "X-Forwarded-For: 6.6.6.6, 2001:db8::5, 10.0.0.1\r\n", "x");
    uint64_t second = expect_peer(&talk, "[2001:db8::5]:0");
    post(&talk, "/rpc", "x-forwarded-for: 203.0.113.5:4711\r\n", CALL);
    uint64_t third = expect_peer(&talk, "203.0.113.5:4711");
    cr_expect(first == third && first != second, "the port is not hashed");
    client_peer_text(talk.client, own);
    cr_expect_str_eq(own, PROXY, "the connection is the proxy's");
    end(&talk);
}

Test(request_peer, that_is_not_told)
{
    static const char *const fields[] = {"", "X-Forwarded-For: unknown\r\n",
        "Forwarded: for=203.0.113.5\r\n", "X-Real-IP: 203.0.113.5\r\n"};
    for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
        struct talk talk = talk_open(&shard, "x");
        post(&talk, "/rpc", fields[i], CALL);
        expect_peer(&talk, PROXY);
        end(&talk);
    }
}

Test(request_peer, of_rfc_7239)
{
    struct talk talk = talk_open(&shard, "rfc");
    post(
        &talk, "/rpc", "Forwarded: for=\"[2001:db8::5]:4711\";proto=https, for=10.0.0.1\r\n", CALL);
    expect_peer(&talk, "[2001:db8::5]:4711");
    post(&talk, "/rpc", "X-Forwarded-For: 203.0.113.5\r\n", CALL);
    expect_peer(&talk, PROXY);
    end(&talk);
}

/* What a client that is no proxy says of itself is not believed. */
Test(request_peer, that_is_made_up)
{
    static const char *const listeners[] = {"others", "none"};
    for (size_t i = 0; i < ARRAY_LEN(listeners); i++) {
        struct talk talk = talk_open(&shard, listeners[i]);
        post(&talk, "/rpc", "X-Forwarded-For: 203.0.113.5\r\nForwarded: for=203.0.113.5\r\n", CALL);
        expect_peer(&talk, PROXY);
        cr_expect_eq(shardlet_peers(), 1u, "and it is counted");
        end(&talk);
    }
}

/* Members of a batch that wait have the client of their request, whatever comes after it. */
Test(request_peer, of_members_that_wait)
{
    struct talk talk = talk_open(&shard, "x");
    post(
        &talk, "/rpc", "X-Forwarded-For: 203.0.113.5\r\n", "[" CALL "," CALL "," CALL "," CALL "]");
    uint64_t first = expect_peer(&talk, "203.0.113.5:0");
    cr_expect_eq(talk.client->calls, 3u);
    shardlet_answer(
        last_call(&talk), SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":0}"), SPAN(""));
    say(&talk, SPAN(""));
    cr_expect_eq(talk.client->calls, 3u, "the last one was started");
    cr_expect_eq(expect_peer(&talk, "203.0.113.5:0"), first);
    end(&talk);
}

#define UPGRADE(field)                                                                             \
    "GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"                 \
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" field "\r\n"
#define MESSAGE "\x81\xa5\0\0\0\0" CALL

static struct talk upgrade(const char *listener, struct span bytes)
{
    struct talk talk = talk_open(&shard, listener);
    say(&talk, bytes);
    return talk;
}

/* A WebSocket keeps the client of its handshake, and is counted as that client's. */
Test(request_peer, of_a_websocket)
{
    const struct span shake = SPAN(UPGRADE("X-Forwarded-For: 203.0.113.5\r\n"));
    char text[PEER_TEXT_SIZE];
    struct talk first = upgrade("x", shake), second = upgrade("x", shake);
    struct talk third = upgrade("x", shake);
    struct talk other = upgrade("x", SPAN(UPGRADE("X-Forwarded-For: 203.0.113.6\r\n")));
    cr_expect(has(&first, " 101 ") && has(&second, " 101 ") && has(&other, " 101 "));
    cr_expect(
        has(&third, " 429 ") && !client_is_duplex(third.client), "%.*s", (int)third.n, third.out);
    cr_expect_eq(shardlet_peers(), 0u, "the proxy is not counted");
    say(&first, SPAN(MESSAGE));
    expect_peer(&first, "203.0.113.5:0");
    client_peer_text(first.client, text);
    cr_expect_str_eq(text, "203.0.113.5:0");
    post(&third, "/rpc", "X-Forwarded-For: 203.0.113.9\r\n", CALL);
    expect_peer(&third, "203.0.113.9:0"); /* HTTP goes on, for others too */

    close(second.peer);
    shardlet_turn(&shard);
    struct talk fourth = upgrade("x", shake);
    cr_expect(has(&fourth, " 101 "), "one has gone");
    close(first.peer);
    close(third.peer);
    close(fourth.peer);
    end(&other);
    first = upgrade("x", shake);
    second = upgrade("x", shake);
    cr_expect(has(&first, " 101 ") && has(&second, " 101 "), "nothing is left of those before");
    close(first.peer);
    end(&second);
}

/* One that waits for requests before it has the client of its own head. */
Test(request_peer, of_a_websocket_behind_a_request)
{
    struct talk talk = talk_open(&shard, "x");
    char text[PEER_TEXT_SIZE];
    post(&talk, "/rpc", "X-Forwarded-For: 203.0.113.5\r\n", CALL);
    struct call *call = last_call(&talk);
    say(&talk, SPAN(UPGRADE("X-Forwarded-For: 203.0.113.6\r\n")));
    cr_expect_eq(talk.n, 0u);
    shardlet_answer(call, SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":0}"), SPAN(""));
    say(&talk, SPAN(""));
    cr_expect(has(&talk, " 101 "));
    client_peer_text(talk.client, text);
    cr_expect_str_eq(text, "203.0.113.6:0");
    end(&talk);
}

/* Nothing is told of the client: the connection stays the proxy's, which is not counted. */
Test(request_peer, of_a_websocket_that_is_not_told)
{
    struct talk talks[3];
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        talks[i] = upgrade("x", SPAN(UPGRADE("")));
        cr_expect(has(&talks[i], " 101 "));
        say(&talks[i], SPAN(MESSAGE));
        expect_peer(&talks[i], PROXY);
    }
    for (size_t i = 0; i + 1 < ARRAY_LEN(talks); i++)
        close(talks[i].peer);
    end(&talks[2]);
}
