#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/shard/request/slow_log.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue until they are answered by hand. */
#define CONF                                                                                       \
    "slow_log: 2s\n"                                                                               \
    "limits: {calls_per_connection: 1000}\n"                                                       \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "      - {path: /off, kind: jsonrpc, pool: app, timeout: 1h, slow_log: off}\n"                 \
    "      - {path: /short, kind: jsonrpc, pool: app, timeout: 1s}\n"                              \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"

static struct shardlet shard;
static struct slow_log *slow;

static void set_up(void)
{
    fake_clock_stop();
    shardlet_init(&shard, CONF, 0);
    slow = &shard.parts.slow;
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++)
        expect_answered(&shard.ctx.expect, kind, 100); /* so that calls start at once */
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(slow_log, .init = set_up, .fini = tear_down);

static struct call *the_call(const struct talk *talk)
{
    struct request *request = list_first(&talk->client->requests, struct request, node);
    return list_first(&request->calls, struct call, node);
}

static void send_call(struct talk *talk, const char *path, unsigned method)
{
    char text[256], body[128];
    int n = snprintf(
        body, sizeof(body), "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m%u\"}", method);
    int len = snprintf(text, sizeof(text),
        "POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", path, n, body);
    say(talk, (struct span){text, (size_t)len});
}

/* A call that is answered after so many ms. */
static void call(struct talk *talk, const char *path, unsigned method, uint64_t ms)
{
    send_call(talk, path, method);
    fake_clock_advance(ms);
    shardlet_turn(&shard);
    shardlet_fail(the_call(talk), RPC_WORKER_LOST);
    say(talk, (struct span){0});
    talk->n = 0;
}

static const struct slow_row *row_of(unsigned method)
{
    char name[16];
    size_t n = (size_t)snprintf(name, sizeof(name), "m%u", method);
    for (size_t i = 0; i < SLOW_METHODS; i++) {
        if (slow->rows[i].pool != NULL && slow->rows[i].n == n &&
            memcmp(slow->rows[i].method, name, n) == 0)
            return &slow->rows[i];
    }
    return NULL;
}

/* The one that is there. */
static const struct slow_row *the_row(unsigned method)
{
    const struct slow_row *row = row_of(method);
    CHECK(row != NULL);
    return row;
}

Test(slow_log, at_the_limit)
{
    struct talk talk = talk_open(&shard, "web");
    call(&talk, "/rpc", 1, 1999);
    cr_expect_null(row_of(1));
    call(&talk, "/rpc", 1, 2000);
    cr_expect_not_null(row_of(1));
    call(&talk, "/off", 2, 60000);
    cr_expect_null(row_of(2));
    close(talk.peer);
    shardlet_turn(&shard);
}

Test(slow_log, others_of_the_method_are_counted)
{
    struct talk talk = talk_open(&shard, "web");
    for (unsigned i = 0; i < 3; i++)
        call(&talk, "/rpc", 1, 2000 + 100 * i);
    const struct slow_row *row = row_of(1);
    cr_assert_not_null(row);
    cr_expect_eq(row->more, 2);
    cr_expect_eq(row->late, 0);
    cr_expect_eq(row->longest, 2200 * 1000);
    slow_log_tell(slow, row->since + LOG_LIMIT_MS - 1);
    cr_expect_not_null(row->pool, "not yet");
    slow_log_tell(slow, row->since + LOG_LIMIT_MS);
    cr_expect_null(row->pool);
    call(&talk, "/rpc", 1, 2000);
    cr_expect_eq(the_row(1)->more, 0, "a line again");
    close(talk.peer);
    shardlet_turn(&shard);
}

/* Calls that end by their deadline are slow, however short that is. */
Test(slow_log, deadlines)
{
    struct talk talk = talk_open(&shard, "web");
    for (unsigned i = 0; i < 3; i++) {
        send_call(&talk, "/short", 1);
        fake_clock_advance(1001);
        say(&talk, (struct span){0});
        cr_expect(has(&talk, "-32003"));
        talk.n = 0;
    }
    cr_assert_not_null(row_of(1));
    cr_expect_eq(the_row(1)->more, 2);
    cr_expect_eq(the_row(1)->late, 2);
    call(&talk, "/short", 2, 999);
    cr_expect_null(row_of(2));
    close(talk.peer);
    shardlet_turn(&shard);
}

Test(slow_log, more_methods_than_rows)
{
    struct talk talk = talk_open(&shard, "web");
    for (unsigned i = 0; i < SLOW_METHODS + 2; i++)
        call(&talk, "/rpc", i, 2000 + i);
    cr_expect_not_null(row_of(SLOW_METHODS - 1));
    cr_expect_null(row_of(SLOW_METHODS));
    cr_expect_eq(slow->rest.more, 2);
    cr_expect_eq(slow->rest.longest, (2000 + SLOW_METHODS + 1) * 1000);
    slow_log_tell(slow, slow->rest.since + LOG_LIMIT_MS);
    cr_expect_eq(slow->rest.more, 0);
    cr_expect_null(row_of(0));
    call(&talk, "/rpc", SLOW_METHODS, 2000);
    cr_expect_not_null(row_of(SLOW_METHODS));
    close(talk.peer);
    shardlet_turn(&shard);
}
