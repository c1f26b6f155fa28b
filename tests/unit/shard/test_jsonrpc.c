#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/shard/request/request.h"
#include "frontd/shard/routes/jsonrpc.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue. */
#define CONF                                                                                       \
    "limits: {batch: 4}\n"                                                                         \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pools: [one, two], timeout: 1h}\n"                        \
    "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pools: [one, two]}\n"              \
    "pools:\n"                                                                                     \
    "  - {name: one, methods: [a.*, m], workers: [\"unix:/nonexistent/1.sock\"], "                 \
    "wait_for_worker: 1h}\n"                                                                       \
    "  - {name: two, methods: [a.b.*], workers: [\"unix:/nonexistent/2.sock\"], "                  \
    "wait_for_worker: 1h}\n"

#define CALL(id, method) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\"}"
#define NOTIFY(method)   "{\"jsonrpc\":\"2.0\",\"method\":\"" method "\"}"
#define RESULT(id)       "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":{\"n\": 1.0}}"

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

TestSuite(jsonrpc, .init = set_up, .fini = tear_down);

static struct talk begin(const char *listener, struct span bytes)
{
    struct talk talk = talk_open(&shard, listener);
    say(&talk, bytes);
    return talk;
}

static void say_line(struct talk *talk, const char *line)
{
    say(talk, (struct span){line, strlen(line)});
    say(talk, SPAN("\n"));
}

static void post(struct talk *talk, const char *body)
{
    char text[1024];
    int n = snprintf(text, sizeof(text),
        "POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    cr_assert_lt(n, (int)sizeof(text));
    say(talk, (struct span){text, (size_t)n});
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
}

static struct call *first_call(const struct client *client)
{
    struct request *request = list_first(&client->requests, struct request, node);
    cr_assert(!list_empty(&client->requests) && !list_empty(&request->calls));
    return list_first(&request->calls, struct call, node);
}

/* What no worker is asked about, and which id its error has. */
Test(jsonrpc, errors)
{
    static const struct {
        const char *body;
        const char *code;
        const char *id;
    } rows[] = {
        {"{", "-32700", "null"},
        {"{} {}", "-32700", "null"},
        {"1", "-32600", "null"},
        {"{}", "-32600", "null"},
        {"[]", "-32600", "null"},
        {"{\"jsonrpc\":\"1.0\",\"id\":7,\"method\":\"m\"}", "-32600", "7"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7}", "-32600", "7"},
        {"[{\"jsonrpc\":\"2.0\",\"id\":\"x\"}]", "-32600", "\"x\""},
        {CALL("1", "none"), "-32601", "1"},
        {CALL("\"\\u0061\"", "frontd.connect"), "-32601", "\"\\u0061\""},
        {"[1,2,3,4,5]", "-32005", "null"},
    };
    struct talk talk = begin("lines", SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char id[32];
        snprintf(id, sizeof(id), "\"id\":%s}", rows[i].id);
        talk.n = 0;
        say_line(&talk, rows[i].body);
        cr_expect(has(&talk, rows[i].code) && has(&talk, id), "%s: %.*s", rows[i].body, (int)talk.n,
            talk.out);
        cr_expect_eq(talk.client->calls, 0u);
    }
    say_line(&talk, CALL("1", "m"));
    cr_expect_eq(talk.client->calls, 1u, "and it goes on");
    end(&talk);
}

/*
 * The best pattern of the route's pools takes a method; an escaped one is the method that it says.
 */
Test(jsonrpc, pools)
{
    static const struct {
        const char *method;
        unsigned pool;
    } rows[] = {{"m", 0}, {"a.x", 0}, {"a.b.x", 1}, {"\\u0061.b.x", 1}};
    struct talk talk = begin("lines", SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char line[128];
        snprintf(line, sizeof(line), CALL("1", "%s"), rows[i].method);
        say_line(&talk, line);
        struct call *call = first_call(talk.client);
        const struct buf *frame = &call->job.frame;
        cr_expect_eq(call->job.pool, &shard.pools[rows[i].pool], "%s", rows[i].method);
        cr_expect(memmem(buf_data(frame), buf_len(frame), line, strlen(line)) != NULL,
            "as the client has written it");
        shardlet_fail(call, RPC_WORKER_LOST);
        shardlet_turn(&shard);
    }
    end(&talk);
}

/* A worker's answer goes to the client byte for byte, but for the id, which is the client's. */
Test(jsonrpc, relay)
{
    static const struct {
        const char *answer;
        const char *relayed; /* NULL: it is none, which the client is told */
    } rows[] = {
        {RESULT("1e0"), RESULT("1e0")},
        {RESULT("1"), RESULT("1e0")},
        {"{\"id\" : 1 , \"result\":[] , \"jsonrpc\":\"2.0\"}",
            "{\"id\" : 1e0 , \"result\":[] , \"jsonrpc\":\"2.0\"}"},
        {"{\"jsonrpc\":\"2.0\",\"id\":1e0,\"error\":{\"code\":5,\"message\":\"no\"}}",
            "{\"jsonrpc\":\"2.0\",\"id\":1e0,\"error\":{\"code\":5,\"message\":\"no\"}}"},
        {"{", NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1e0}", NULL},
        {"{\"jsonrpc\":\"2.0\",\"id\":1e0,\"result\":1,\"error\":{}}", NULL},
    };
    struct talk talk = begin("lines", SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        say_line(&talk, CALL("1e0", "m"));
        talk.n = 0;
        const char *answer = rows[i].answer;
        shardlet_answer(
            first_call(talk.client), (struct span){answer, strlen(answer)}, (struct span){0});
        say(&talk, SPAN(""));
        talk.out[talk.n] = '\0';
        if (rows[i].relayed == NULL)
            cr_expect(has(&talk, "-32007") && has(&talk, "\"id\":1e0}"), "%s", talk.out);
        else
            cr_expect(strncmp(talk.out, rows[i].relayed, talk.n - 1) == 0 &&
                          talk.n == strlen(rows[i].relayed) + 1,
                "row %zu: %s", i, talk.out);
    }
    end(&talk);
}

/* The answers of a batch are in the order in which they come; what has none leaves no gap. */
Test(jsonrpc, batch)
{
    struct talk talk = begin("web", SPAN(""));
    post(&talk, "[" CALL("1", "m") "," NOTIFY("m") ",7," CALL("3", "a.b.c") "]");
    struct request *request = list_first(&talk.client->requests, struct request, node);
    cr_assert_eq(talk.client->calls, 3u);
    struct call *last = container_of(request->calls.prev, struct call, node);
    shardlet_answer(last, SPAN(RESULT("3")), SPAN(""));
    struct call *first = list_first(&request->calls, struct call, node);
    struct call *second = container_of(first->node.next, struct call, node);
    cr_assert(second->job.notify);
    cr_assert(pool_abandon(&second->job));
    call_job_ops.delivered(&second->job);
    say(&talk, SPAN(""));
    cr_expect_eq(talk.n, 0);
    shardlet_fail(first, RPC_WORKER_LOST);
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "HTTP/1.1 200") && has(&talk, "\r\n\r\n[{"));
    const char *invalid = memmem(talk.out, talk.n, "-32600", 6);
    const char *third = memmem(talk.out, talk.n, RESULT("3"), sizeof(RESULT("3")) - 1);
    const char *lost = memmem(talk.out, talk.n, "-32002", 6);
    cr_expect(invalid != NULL && invalid < third && third < lost, "%.*s", (int)talk.n, talk.out);
    end(&talk);
}

/* Notifications alone have no answer; over HTTP that is 204. */
Test(jsonrpc, notifications)
{
    struct talk talk = begin("web", SPAN(""));
    post(&talk, NOTIFY("m"));
    cr_assert_eq(talk.n, 0);
    struct call *call = first_call(talk.client);
    cr_assert(call->job.notify && pool_abandon(&call->job));
    call_job_ops.delivered(&call->job);
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "HTTP/1.1 204"));
    talk.n = 0;
    post(&talk, NOTIFY("none"));
    cr_expect(has(&talk, "HTTP/1.1 204"), "nor has one that no pool takes");
    talk.n = 0;
    post(&talk, "[" NOTIFY("none") "]");
    cr_expect(has(&talk, "HTTP/1.1 204"));
    end(&talk);
}

/* Responses answer what a worker has pushed, where the route says so; here none does. */
Test(jsonrpc, responses_are_dropped)
{
    struct talk talk = begin("lines", SPAN(RESULT("1") "\n"));
    cr_expect_eq(talk.n, 0, "they have no answer");
    cr_expect_eq(shard.ctx.jsonrpc->dropped, 1u);
    say_line(&talk, "[" RESULT("1") "," CALL("2", "none") "]");
    cr_expect(has(&talk, "[{") && has(&talk, "-32601") && !has(&talk, "},{"));
    cr_expect_eq(shard.ctx.jsonrpc->dropped, 2u);
    end(&talk);
}
