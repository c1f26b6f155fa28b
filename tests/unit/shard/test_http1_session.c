#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/session/duplex.h"
#include "frontd/shard/session/http1_session.h"
#include "tests/unit/support/move_conf.h"
#include "tests/unit/support/shardlet.h"

/* There is no worker: a call is in progress for a moment, or for an hour, and then has an error. */
#define CONF                                                                                       \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: soon}\n"                                            \
    "      - {path: /late, kind: jsonrpc, pool: late, timeout: 1h}\n"                              \
    "      - {path: /ws, kind: websocket, pool: soon}\n"                                           \
    "pools:\n"                                                                                     \
    "  - {name: soon, workers: [\"unix:/nonexistent/a.sock\"], wait_for_worker: 80ms}\n"           \
    "  - {name: late, workers: [\"unix:/nonexistent/b.sock\"], wait_for_worker: 1h}\n"

#define CALL "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}"
#define POST " HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n" CALL
#define SOON "POST /rpc" POST
#define LATE "POST /late" POST
#define PING WS_FRAME("\x89", "\x82", "hi")
#define PONG "\x8a\x02hi"

enum { TURNS = 5000 }; /* of a millisecond or more, for what has to happen */

static struct shardlet shard;

static void set_up(void)
{
    shardlet_init(&shard, CONF, 0);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(http, .init = set_up, .fini = tear_down);

/* The same bytes, the same outcome, wherever they are cut, and whether answers are out by then. */
static void cut_everywhere(bool answered)
{
    static const char data[] = SOON HANDSHAKE("h") PING;
    enum { SIZE = sizeof(data) - 1, ROOM = 1024 };
    static struct client *clients[SIZE];
    static int peers[SIZE];
    static char out[SIZE][ROOM];
    size_t got[SIZE] = {0}, left, held = 0;
    for (size_t at = 0; at < SIZE; at++) {
        clients[at] = shardlet_client(&shard, "web", &peers[at]);
        cr_assert_eq(write(peers[at], data, at), (ssize_t)at);
    }
    for (int i = 0; i < TURNS; i++) {
        left = 0;
        shardlet_turn(&shard);
        for (size_t at = 0; answered && at < SIZE; at++)
            left += !list_empty(&clients[at]->requests);
        if (left == 0)
            break;
        usleep(1000);
    }
    for (size_t at = 0; at < SIZE; at++)
        cr_assert_eq(write(peers[at], data + at, SIZE - at), (ssize_t)(SIZE - at));
    for (int i = 0; i < TURNS; i++) {
        left = 0;
        shardlet_turn(&shard);
        for (size_t at = 0; at < SIZE; at++) {
            held += clients[at]->held;
            shardlet_read(peers[at], out[at], ROOM, &got[at]);
            left += got[at] < sizeof(PONG) ||
                    memcmp(out[at] + got[at] - sizeof(PONG) + 1, PONG, sizeof(PONG) - 1) != 0;
        }
        if (left == 0)
            break;
        usleep(1000);
    }
    cr_expect(answered || held > 0);
    for (size_t at = 0; at < SIZE; at++) {
        cr_expect(got[at] == got[0] && memcmp(out[at], out[0], got[0]) == 0, "cut at %zu: %.*s", at,
            (int)got[at], out[at]);
        close(peers[at]);
    }
    cr_expect(memmem(out[0], got[0], "-32004", 6) != NULL);
    cr_expect(memmem(out[0], got[0], "HTTP/1.1 101", 12) != NULL);
    shardlet_turn(&shard);
    cr_assert_eq(shard.ctx.open, 0u);
}

Test(http, an_upgrade_behind_a_call)
{
    cut_everywhere(false);
    cut_everywhere(true);
}

/* It waits, what is behind it too, and its connection does not move. */
Test(http, an_upgrade_that_waits)
{
    static const char data[] = LATE HANDSHAKE("h") PING;
    for (int doomed = 0; doomed < 2; doomed++) {
        char out[4096];
        size_t n = 0;
        int peer;
        struct client *client = shardlet_client(&shard, "web", &peer);
        cr_assert_eq(write(peer, data, sizeof(data) - 1), (ssize_t)sizeof(data) - 1);
        for (int i = 0; i < TURNS && !client->held; i++) { /* how large an answer is is a guess */
            shardlet_turn(&shard);
            usleep(1000);
        }
        cr_assert(client->held && client->duplex == NULL && !client_can_move(client));
        struct request *last = container_of(client->requests.prev, struct request, node);
        cr_assert(
            http1_turn(last)->waits && last != list_first(&client->requests, struct request, node));
        cr_expect_eq(buf_len(&http1_turn(last)->text), sizeof(HANDSHAKE("h")) - 1);
        cr_expect_eq(buf_len(&client->pending->bytes), sizeof(PING) - 1);
        cr_expect_geq(client_holds(client), buf_len(&http1_turn(last)->text) + sizeof(PING) - 1);
        shardlet_turn(&shard);
        shardlet_read(peer, out, sizeof(out), &n);
        cr_expect(n == 0 && client->held);
        if (doomed)
            client_doom(client);
        else
            close(peer);
        shardlet_turn(&shard);
        cr_assert_eq(shard.ctx.open, 0u);
        if (doomed)
            close(peer);
    }
}

/* Without memory for its head the connection ends: there is no answer that would be the same. */
Test(http, an_upgrade_that_cannot_wait)
{
    static struct http1_head head;
    int peer;
    head.text = SPAN(HANDSHAKE("h"));
    struct client *client = shardlet_client(&shard, "web", &peer);
    for (int i = 0; i < 2; i++)
        cr_assert_not_null(request_add(client, &shard.conf->listeners[0].routes[0]));
    struct request *request = container_of(client->requests.prev, struct request, node);
    mem_trim();
    mem_fail_after(0);
    http1_hold(request, &head.http);
    mem_fail_after(-1);
    cr_expect(!client->held && !http1_turn(request)->waits && client->state == CLIENT_DOOMED);
    shardlet_turn(&shard);
    cr_assert_eq(shard.ctx.open, 0u);
    close(peer);
}
