#include "frontd/shard/pressure.h"

#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/shard/session/http2_session.h"
#include "frontd/shard/turn.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/h2_bytes.h"
#include "tests/unit/support/shardlet.h"

#define CONF                                                                                       \
    "limits: {memory: 16MiB, write_buffer: 1MiB, body_timeout: 1h, idle_timeout: 1h}\n"            \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    h2c: true\n"                                                                              \
    "    routes:\n"                                                                                \
    "      - {path: /h, kind: http, pool: app, timeout: 1h}\n"                                     \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/a.sock\"], wait_for_worker: 1h}\n"

enum {
    STALLED_MAX = 100,
    ANSWER = 500000, /* bytes that wait for each */
    REFUSED_MS = 3000,
    STEP_MS = 100,
};

static struct shardlet shard;
static int peers[STALLED_MAX];
static unsigned stalled;

static void set_up(void)
{
    fake_clock_stop();
    shardlet_init(&shard, CONF, 0);
    stalled = 0;
}

static void tear_down(void)
{
    while (stalled > 0)
        close(peers[--stalled]);
    shardlet_turn(&shard);
    shardlet_deinit(&shard);
}

TestSuite(pressure, .init = set_up, .fini = tear_down);

static void pass(uint64_t ms)
{
    fake_clock_advance(ms);
    uv_run(&shard.ctx.loop, UV_RUN_NOWAIT);
    turn_expire(&shard.ctx);
    turn_end(&shard.ctx, &shard.clients);
}

static bool is_short(void)
{
    return shard.ctx.memory.level >= MEMORY_SHORT;
}

/* A client of HTTP/2 that has a large answer waiting, and whose windows stay shut. */
static void stall(void)
{
    static char blob[ANSWER];
    static const char text[] = H2_PREFACE H2_HEAD(
        "\x06", "\x04", "\0", "\0") "\0\x04\0\0\0\0" H2_HEAD("\x09", "\x01", "\x05",
        "\x01") "\x82\x86\x04\x02/h\x01\x01h";
    cr_assert_lt(stalled, (unsigned)STALLED_MAX);
    struct client *client = shardlet_client(&shard, "web", &peers[stalled]);
    cr_assert_eq(write(peers[stalled++], text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
    shardlet_turn(&shard);
    struct h2_stream *stream = h2_conn_find(&client->http2->conn, 1);
    cr_assert_not_null(stream);
    struct request *request = http2_stream_of(stream)->request;
    cr_assert(request != NULL && !list_empty(&request->calls), "a request is refused");
    shardlet_answer(list_first(&request->calls, struct call, node),
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"status\":200}}"),
        (struct span){blob, sizeof(blob)});
    pass(0);
}

/* For how many ms requests are refused, in steps, once so many clients stall. */
static unsigned refused_ms(void)
{
    unsigned ms = 0;
    while (!is_short())
        stall();
    cr_assert_eq(shard.ctx.memory.level, MEMORY_SHORT);
    for (; is_short() && ms < 10 * REFUSED_MS; ms += STEP_MS)
        pass(STEP_MS);
    return ms;
}

static bool is_all(unsigned ms)
{
    return ms >= REFUSED_MS && ms <= REFUSED_MS + 3 * STEP_MS;
}

/* Others come for what is freed: requests are not refused for as long again. */
Test(pressure, refused_once)
{
    cr_expect(is_all(refused_ms()));
    for (int i = 0; i < 5; i++)
        cr_expect_leq(refused_ms(), 3u * STEP_MS, "time %d", i);
    pass(REFUSED_MS);
    cr_expect(is_all(refused_ms()), "after a time without");
}
