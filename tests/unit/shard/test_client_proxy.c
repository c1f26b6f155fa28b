/* Connections that begin with a PROXY header. Their proxy is 192.0.2.7, the peer of all clients of
 * a shardlet. */

#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/client/acceptor.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/talk.h"

#define TRUSTED ", proxy_protocol: true, trusted_proxies: [192.0.2.7, 10.0.0.0/8]"
#define CONF                                                                                       \
    "limits: {connections_per_peer: 2, first_byte_timeout: 5s}\n"                                  \
    "listeners:\n"                                                                                 \
    "  - {name: web, address: 127.0.0.1:8080" TRUSTED                                              \
    ", routes: [{path: /rpc, kind: jsonrpc, pool: app, meta: [peer]}]}\n"                          \
    "  - {name: frames, address: 127.0.0.1:8081, protocol: frame, pool: app, meta: [peer]" TRUSTED \
    "}\n"                                                                                          \
    "  - {name: chain, address: 127.0.0.1:8082, forwarded: x-forwarded-for" TRUSTED                \
    ", routes: [{path: /rpc, kind: jsonrpc, pool: app, meta: [peer]}]}\n"                          \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"

#define LINE(address) "PROXY TCP4 " address " 192.0.2.1 51412 443\r\n"
#define V2            "\r\n\r\n\0\r\nQUIT\n"
#define BINARY        V2 "\x21\x11\x00\x0c\xcb\x00\x71\x05\xc0\x00\x02\x01\xc8\xd4\x01\xbb"
#define LOCAL         V2 "\x20\x00\x00\x00"
#define CLIENT        "203.0.113.5:51412"
#define PROXY         "192.0.2.7:13330"
#define GET           "GET /none HTTP/1.1\r\nHost: h\r\n\r\n"
#define CALL          "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"
#define POST          "POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n"

static struct shardlet shard;

static void set_up(void)
{
    fake_clock_stop();
    shardlet_init(&shard, CONF, 0);
}

static void tear_down(void)
{
    cr_expect_eq(shardlet_peers(), 0u, "the proxy is never counted");
    shardlet_deinit(&shard);
}

TestSuite(client_proxy, .init = set_up, .fini = tear_down);

static bool is_closed(const struct talk *talk)
{
    char byte;
    ssize_t n = recv(talk->peer, &byte, 1, MSG_DONTWAIT);
    return n == 0 || (n < 0 && errno == ECONNRESET);
}

static void expect_peer(const struct talk *talk, const char *text)
{
    char out[PEER_TEXT_SIZE];
    client_peer_text(talk->client, out);
    cr_expect_str_eq(out, text);
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
}

static struct talk begin(const char *listener, struct span bytes)
{
    struct talk talk = talk_open(&shard, listener);
    say(&talk, bytes);
    return talk;
}

/* The one call in progress has this in its meta. */
static void expect_meta(const struct talk *talk, const char *text)
{
    cr_assert(!list_empty(&talk->client->requests));
    struct request *request = list_first(&talk->client->requests, struct request, node);
    cr_assert(!list_empty(&request->calls));
    const struct buf *frame = &list_first(&request->calls, struct call, node)->job.frame;
    cr_expect_not_null(memmem(buf_data(frame), buf_len(frame), text, strlen(text)), "%.*s",
        (int)buf_len(frame), buf_data(frame));
}

static const struct span headers[] = {
    {LINE("203.0.113.5"), sizeof(LINE("203.0.113.5")) - 1},
    {BINARY, sizeof(BINARY) - 1},
};

Test(client_proxy, a_request_behind_the_header)
{
    struct talk talk = begin("web", SPAN(LINE("203.0.113.5") GET));
    cr_expect(has(&talk, "HTTP/1.1 404"), "%.*s", (int)talk.n, talk.out);
    expect_peer(&talk, CLIENT);
    cr_expect(talk.client->session == SESSION_HTTP1 && !talk.client->proxied);
    cr_expect_null(talk.client->pending);
    end(&talk);
    talk = begin("web", SPAN(BINARY POST "\r\n" CALL));
    expect_meta(&talk, "{\"peer\":\"" CLIENT "\"}");
    end(&talk);
    talk = begin("frames", SPAN(BINARY "\0\0\0\x25" CALL));
    expect_meta(&talk, "{\"peer\":\"" CLIENT "\"}");
    end(&talk);
}

/* In two pieces, at each byte, and byte by byte. */
Test(client_proxy, every_split)
{
    for (size_t i = 0; i < ARRAY_LEN(headers); i++) {
        char bytes[256];
        size_t n = headers[i].n + sizeof(GET) - 1;
        memcpy(bytes, headers[i].p, headers[i].n);
        memcpy(bytes + headers[i].n, GET, sizeof(GET) - 1);
        for (size_t at = 0; at <= n; at++) {
            struct talk talk = begin("web", (struct span){bytes, at});
            cr_expect_eq(talk.client->session == SESSION_PROXY, at < headers[i].n);
            cr_expect_eq(talk.client->used, at > headers[i].n, "%zu", at);
            say(&talk, (struct span){bytes + at, n - at});
            cr_expect(has(&talk, "HTTP/1.1 404"), "%zu, %zu", i, at);
            expect_peer(&talk, CLIENT);
            end(&talk);
        }
        struct talk talk = talk_open(&shard, "web");
        for (size_t at = 0; at < n; at++)
            say(&talk, (struct span){bytes + at, 1});
        cr_expect(has(&talk, "HTTP/1.1 404"));
        expect_peer(&talk, CLIENT);
        end(&talk);
    }
}

/* What follows may be for a transport that is not there yet: it is left in the socket. */
Test(client_proxy, no_byte_behind_the_header_is_read)
{
    struct talk talk = talk_open(&shard, "web");
    char rest[64];
    cr_assert_eq(write(talk.peer, LINE("203.0.113.5") GET, sizeof(LINE("203.0.113.5") GET) - 1),
        (ssize_t)(sizeof(LINE("203.0.113.5") GET) - 1));
    client_ready(talk.client, EPOLLIN);
    cr_expect_eq(talk.client->session, SESSION_HTTP1);
    ssize_t n = recv(talk.client->fd, rest, sizeof(rest), MSG_PEEK);
    cr_expect(n == sizeof(GET) - 1 && memcmp(rest, GET, sizeof(GET) - 1) == 0);
    end(&talk);
}

/* Workers know of no connection before it is known whose it is. */
Test(client_proxy, a_frame_connection_begins_behind_the_header)
{
    struct talk talk = begin("frames", SPAN("PROXY TCP4 "));
    uint64_t id = talk.client->conn.id;
    cr_expect_null(client_find(&shard.ctx, id));
    say(&talk, SPAN("203.0.113.5 192.0.2.1 51412 443\r\n"));
    cr_expect_eq(client_find(&shard.ctx, id), talk.client);
    cr_expect_not(talk.client->used);
    say(&talk, SPAN("\0\0\0\0"));
    cr_expect(talk.n == 4 && memcmp(talk.out, "\0\0\0\0", 4) == 0, "a heartbeat is echoed");
    end(&talk);
}

Test(client_proxy, the_connections_own_address)
{
    static const struct span own[] = {
        {LOCAL GET, sizeof(LOCAL GET) - 1},
        {"PROXY UNKNOWN\r\n" GET, sizeof("PROXY UNKNOWN\r\n" GET) - 1},
        {V2 "\x21\x00\x00\x00" GET, sizeof(V2 "\x21\x00\x00\x00" GET) - 1},
    };
    for (size_t i = 0; i < ARRAY_LEN(own); i++) {
        struct talk talks[3]; /* more than connections_per_peer */
        for (size_t k = 0; k < ARRAY_LEN(talks); k++) {
            talks[k] = begin("web", own[i]);
            cr_expect(has(&talks[k], "HTTP/1.1 404"));
            expect_peer(&talks[k], PROXY);
        }
        for (size_t k = 0; k < ARRAY_LEN(talks); k++)
            end(&talks[k]);
    }
}

Test(client_proxy, what_is_no_header)
{
    static const struct span wrong[] = {
        {GET, sizeof(GET) - 1},
        {"\x16\x03\x01\x02\x00", 5},
        {"PROXY TCP4 203.0.113.5 192.0.2.1 51412\r\n", 40},
        {"PROXY TCP4 203.0.113.5\r\nX", 25},
        {V2 "\x21\x11\x00\x02xx", 18},
    };
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        struct talk talk = begin("web", wrong[i]);
        cr_expect(is_closed(&talk) && talk.n == 0, "%zu", i);
        cr_expect_eq(shard.ctx.open, 0u);
        end(&talk);
    }
    struct talk talk = begin("web", SPAN("PROXY"));
    cr_expect_not(is_closed(&talk));
    say(&talk, SPAN("X"));
    cr_expect(is_closed(&talk), "when it is known");
    end(&talk);
}

Test(client_proxy, an_end_before_the_header)
{
    struct talk talk = begin("web", SPAN(""));
    shutdown(talk.peer, SHUT_WR);
    shardlet_turn(&shard);
    cr_expect(is_closed(&talk));
    end(&talk);
    talk = begin("web", SPAN("PROXY"));
    shutdown(talk.peer, SHUT_WR);
    shardlet_turn(&shard);
    cr_expect(is_closed(&talk));
    end(&talk);
}

static void pass(uint64_t ms)
{
    fake_clock_advance(ms);
    shardlet_turn(&shard);
}

/* It has first_byte_timeout, however its bytes come; then the client has it for its first byte. */
Test(client_proxy, a_header_that_does_not_come)
{
    struct talk silent = begin("web", SPAN(""));
    struct talk slow = begin("web", SPAN("PROXY TCP4 "));
    struct talk other = begin("web", SPAN("PROXY TCP4 "));
    struct talk frames = begin("frames", SPAN("PROXY TCP4 "));
    pass(4900);
    say(&slow, SPAN("203.0"));
    say(&other, SPAN("203.0.113.5 192.0.2.1 51412 443\r\n"));
    say(&frames, SPAN("203.0.113.5 192.0.2.1 51412 443\r\n"));
    cr_expect(!is_closed(&silent) && !is_closed(&slow));
    pass(200);
    cr_expect(is_closed(&silent) && is_closed(&slow));
    cr_expect(!is_closed(&other) && !is_closed(&frames));
    pass(4600);
    cr_expect(!is_closed(&other) && !is_closed(&frames));
    pass(400);
    cr_expect(is_closed(&other) && is_closed(&frames));
    end(&silent);
    end(&slow);
    end(&other);
    end(&frames);
}

/* A request that comes slowly has its own times. */
Test(client_proxy, a_used_connection_may_be_silent)
{
    struct talk talk = begin("web", SPAN(LINE("203.0.113.5") GET));
    pass(60 * 1000);
    cr_expect_not(is_closed(&talk));
    end(&talk);
}

/* It is the client of the header that is counted, from then on. */
Test(client_proxy, connections_per_peer)
{
    struct talk first = begin("web", SPAN(LINE("203.0.113.5")));
    struct talk second = begin("frames", SPAN(LINE("203.0.113.5")));
    struct talk third = begin("web", SPAN(LINE("203.0.113.5") GET));
    struct talk other = begin("web", SPAN(LINE("203.0.113.6") GET));
    struct talk waits = begin("web", SPAN("PROXY TCP4 203.0.113.5 "));
    cr_expect(!is_closed(&first) && !is_closed(&second));
    cr_expect(is_closed(&third) && third.n == 0);
    cr_expect(has(&other, "HTTP/1.1 404"));
    end(&first);
    say(&waits, SPAN("192.0.2.1 51412 443\r\n" GET));
    cr_expect(has(&waits, "HTTP/1.1 404"), "one has gone");
    third = begin("web", SPAN(LINE("203.0.113.5") GET));
    cr_expect(is_closed(&third));
    end(&second);
    end(&third);
    end(&other);
    end(&waits);
    first = begin("web", SPAN(LINE("203.0.113.5") GET));
    second = begin("web", SPAN(LINE("203.0.113.5") GET));
    cr_expect(has(&first, "404") && has(&second, "404"), "nothing is left of those before");
    end(&first);
    end(&second);
}

/* The header tells of a proxy behind the proxy, which tells of clients with their requests. */
Test(client_proxy, then_x_forwarded_for)
{
    struct talk talks[3]; /* more than connections_per_peer */
    for (size_t i = 0; i < ARRAY_LEN(talks); i++) {
        talks[i] = begin(
            "chain", SPAN(LINE("10.0.0.1") POST "X-Forwarded-For: 203.0.113.5\r\n\r\n" CALL));
        expect_peer(&talks[i], "10.0.0.1:51412");
        expect_meta(&talks[i], "{\"peer\":\"203.0.113.5:0\"}");
    }
    for (size_t i = 0; i < ARRAY_LEN(talks); i++)
        end(&talks[i]);
    struct talk talk = begin(
        "chain", SPAN(LINE("203.0.113.6") POST "X-Forwarded-For: 203.0.113.5\r\n\r\n" CALL));
    expect_meta(&talk, "{\"peer\":\"203.0.113.6:51412\"}"); /* it is no proxy, and not believed */
    end(&talk);
}

/* A header makes no connection used: it goes before others that have more. */
Test(client_proxy, makes_room_for_others)
{
    struct acceptor acceptor;
    cr_assert_eq(acceptor_init(&acceptor, &shard.ctx, 0), 0);
    struct talk part = begin("web", SPAN("PROXY TCP4 "));
    struct talk whole = begin("web", SPAN(LINE("203.0.113.5")));
    struct talk used = begin("web", SPAN(LINE("203.0.113.5") GET));
    struct talk unread = talk_open(&shard, "web");
    cr_expect_eq(acceptor_make_room(&acceptor, 4), 0u, "each has a time of grace");
    pass(100);
    cr_assert_eq(write(unread.peer, "PROXY TCP4 ", 11), 11);
    cr_expect_eq(acceptor_make_room(&acceptor, 4), 2u);
    cr_expect(is_closed(&part) && is_closed(&whole));
    cr_expect(!is_closed(&used) && !is_closed(&unread), "something is there to be read");
    say(&unread, SPAN("203.0.113.6 192.0.2.1 51412 443\r\n"));
    cr_expect_not(unread.client->used, "it was only the header");
    cr_expect_eq(acceptor_make_room(&acceptor, 4), 0u, "which is as if it came now");
    pass(100);
    cr_expect_eq(acceptor_make_room(&acceptor, 4), 1u);
    cr_expect(is_closed(&unread));
    end(&part);
    end(&whole);
    end(&unread);
    end(&used);
    acceptor_close(&acceptor);
    list_join(&shard.clients, &acceptor.clients);
    acceptor_deinit(&acceptor);
}

/* A process that ends does not wait for a header. */
Test(client_proxy, is_drained)
{
    struct talk talk = begin("web", SPAN("PROXY TCP4 "));
    client_drain(talk.client);
    shardlet_turn(&shard);
    cr_expect(is_closed(&talk));
    end(&talk);
}

Test(client_proxy, without_memory)
{
    for (long n = 0; n < 8; n++) {
        struct talk talk = talk_open(&shard, "frames");
        mem_trim();
        mem_fail_after(n);
        say(&talk, SPAN("PROXY TCP4 "));
        if (!is_closed(&talk))
            say(&talk, SPAN("203.0.113.5 192.0.2.1 51412 443\r\n\0\0\0\0"));
        mem_fail_after(-1);
        shardlet_turn(&shard);
        shardlet_read(talk.peer, talk.out, sizeof(talk.out), &talk.n);
        cr_expect(is_closed(&talk) || talk.n == 4, "%ld", n);
        end(&talk);
    }
}
