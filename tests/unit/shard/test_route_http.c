#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/ipc/shm_queues.h"
#include "frontd/shard/request/request.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue. */
#define CONF                                                                                       \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /, kind: http, pool: app, timeout: 1h}\n"                                      \
    "      - {path: /other, kind: http, pool: other, timeout: 1h}\n"                               \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/a.sock\"], wait_for_worker: 1h}\n"              \
    "  - {name: other, methods: [m], workers: [\"unix:/nonexistent/o.sock\"]}\n"

#define GET  "GET / HTTP/1.1\r\nHost: h\r\n\r\n"
#define HEAD "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"

static struct shardlet shard;

static void set_up(void)
{
    shardlet_init(&shard, CONF, 0);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(route_http, .init = set_up, .fini = tear_down);

static struct talk begin(struct span bytes)
{
    struct talk talk = talk_open(&shard, "web");
    say(&talk, bytes);
    return talk;
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
}

static struct call *only_call(const struct client *client)
{
    struct request *request = list_first(&client->requests, struct request, node);
    cr_assert(!list_empty(&client->requests) && !list_empty(&request->calls));
    return list_first(&request->calls, struct call, node);
}

/* A worker answers the only call with this result, and a body. */
static void answer(struct talk *talk, const char *result, struct span body)
{
    char text[1024];
    int n = snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s}", result);
    cr_assert_lt(n, (int)sizeof(text));
    talk->n = 0;
    shardlet_answer(only_call(talk->client), (struct span){text, (size_t)n}, body);
    say(talk, SPAN(""));
}

/* The call that a request becomes: its body is the call's, as it is. */
Test(route_http, request)
{
    struct talk talk = begin(SPAN("POST /a%20b?c=%22 HTTP/1.1\r\nHost: h:1\r\nX-Two: \xe4\r\n"
                                  "Connection: x-hop\r\nX-Hop: 1\r\nTe: trailers\r\nx-two: \"\r\n"
                                  "Content-Length: 3\r\n\r\n\x00{\xff"));
    const struct job *job = &only_call(talk.client)->job;
    struct span frame = {buf_data(&job->frame), buf_len(&job->frame)};
    static const char params[] =
        ",\"method\":\"http.request\",\"params\":{\"method\":\"POST\",\"scheme\":\"http\","
        "\"authority\":\"h:1\",\"path\":\"/a%20b\",\"query\":\"c=%22\",\"headers\":[[\"host\","
        "\"h:1\"],[\"x-two\",\"\xc3\xa4\"],[\"x-two\",\"\\\"\"],[\"content-length\",\"3\"]]}}";
    cr_expect(memmem(frame.p, frame.n, params, sizeof(params) - 1) != NULL, "%.*s", (int)frame.n,
        frame.p);
    cr_expect(memcmp(frame.p + frame.n - 3, "\x00{\xff", 3) == 0);
    cr_expect(job->method_len == 12 && memcmp(job->method, "http.request", 12) == 0);
    end(&talk);
}

Test(route_http, pool_takes_no_http)
{
    struct talk talk = begin(SPAN("GET /other HTTP/1.1\r\nHost: h\r\n\r\n"));
    cr_expect(
        has(&talk, "HTTP/1.1 404") && has(&talk, "text/plain"), "%.*s", (int)talk.n, talk.out);
    end(&talk);
}

/* What a worker answers is the answer, but for fields that are the front's own. */
Test(route_http, answer)
{
    static const struct {
        const char *result;
        const char *status;
        const char *contains;
        const char *lacks;
    } rows[] = {
        {"{\"status\":200}", "200 OK", "Content-Length: 4\r\n", "Content-Type"},
        {"{\"status\":404,\"headers\":[]}", "404 Not Found", "\r\n\r\nbody", "X-"},
        {"{\"status\":200,\"headers\":[[\"X-A\",\"\xc3\xa4\"],[\"x-b\",\"\"]]}", "200 OK",
            "X-A: \xe4\r\nx-b: \r\n", "\xc3"},
        {"{\"status\":200,\"headers\":[[\"Connection\",\"close\"],[\"SERVER\",\"s\"],"
         "[\"Transfer-Encoding\",\"chunked\"],[\"Content-Length\",\"9\"]]}",
            "200 OK", "Content-Length: 4\r\n", "close"},
    };
    struct talk talk = begin(SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        say(&talk, SPAN(GET));
        answer(&talk, rows[i].result, SPAN("body"));
        cr_expect(has(&talk, rows[i].status) && has(&talk, rows[i].contains) &&
                      !has(&talk, rows[i].lacks),
            "row %zu: %.*s", i, (int)talk.n, talk.out);
    }
    end(&talk);
}

/* The length of a body that is not sent is the worker's to say; else it is what is sent. */
Test(route_http, length)
{
    static const struct {
        const char *request;
        const char *result;
        const char *contains;
        const char *lacks;
    } rows[] = {
        {HEAD, "{\"status\":200,\"headers\":[[\"content-length\",\"77\"]]}",
            "Content-Length: 77\r\n", "body"},
        {HEAD, "{\"status\":200}", "Content-Length: 4\r\n", "body"},
        {GET, "{\"status\":200,\"headers\":[[\"content-length\",\"77\"]]}", "Content-Length: 4\r\n",
            "77"},
        {GET, "{\"status\":304,\"headers\":[[\"content-length\",\"77\"]]}",
            "Content-Length: 77\r\n", "body"},
        {GET, "{\"status\":304}", "304 Not Modified", "Content-Length"},
        {GET, "{\"status\":204}", "204 No Content", "Content-Length"},
        {GET, "{\"status\":205}", "Content-Length: 0\r\n", "body"},
    };
    struct talk talk = begin(SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        say(&talk, (struct span){rows[i].request, strlen(rows[i].request)});
        answer(&talk, rows[i].result, SPAN("body"));
        cr_expect(has(&talk, rows[i].contains) && !has(&talk, rows[i].lacks), "row %zu: %.*s", i,
            (int)talk.n, talk.out);
    }
    end(&talk);
}

/* An answer that is none of HTTP becomes 502, and nothing of it gets through. */
Test(route_http, bad_answers)
{
    static const char *const results[] = {
        "null",
        "{}",
        "{\"status\":\"200\"}",
        "{\"status\":199}",
        "{\"status\":600}",
        "{\"status\":200,\"headers\":{}}",
        "{\"status\":200,\"headers\":[\"X-Bad\"]}",
        "{\"status\":200,\"headers\":[[\"X-Bad\"]]}",
        "{\"status\":200,\"headers\":[[\"X-Bad\",\"a\",\"b\"]]}",
        "{\"status\":200,\"headers\":[[\"X-Bad\",1]]}",
        "{\"status\":200,\"headers\":[[\"\",\"a\"]]}",
        "{\"status\":200,\"headers\":[[\"X Bad\",\"a\"]]}",
        "{\"status\":200,\"headers\":[[\"X-Bad\",\"a\\r\\nb: c\"]]}",
        "{\"status\":200,\"headers\":[[\"X-Bad\",\"\\u0100\"]]}",
        "{\"status\":200,\"headers\":[[\"content-length\",\"-1\"]]}",
        "{\"status\":200,\"headers\":[[\"content-length\",\"\"]]}",
    };
    struct talk talk = begin(SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(results); i++) {
        say(&talk, SPAN(GET));
        answer(&talk, results[i], SPAN("body"));
        cr_expect(has(&talk, "HTTP/1.1 502") && !has(&talk, "X-Bad") && !has(&talk, "body"),
            "%s: %.*s", results[i], (int)talk.n, talk.out);
    }
    end(&talk);
}

/* Errors are lines of text, each with its status. */
Test(route_http, errors)
{
    static const struct {
        enum rpc_error error;
        const char *status;
    } rows[] = {
        {RPC_WORKER_LOST, "502"},
        {RPC_UNAVAILABLE, "503"},
        {RPC_OVERLOADED, "503"},
        {RPC_DEADLINE_EXCEEDED, "504"},
    };
    struct talk talk = begin(SPAN(""));
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char status[16];
        snprintf(status, sizeof(status), "HTTP/1.1 %s", rows[i].status);
        say(&talk, SPAN(GET));
        talk.n = 0;
        shardlet_fail(only_call(talk.client), rows[i].error);
        say(&talk, SPAN(""));
        cr_expect(has(&talk, status) && has(&talk, "text/plain") && !has(&talk, "jsonrpc"), "%.*s",
            (int)talk.n, talk.out);
        cr_expect_eq(has(&talk, "Retry-After: 1\r\n"), rows[i].error == RPC_OVERLOADED);
    }
    end(&talk);
}

/* What the pool has measured says when to come again, and why it has refused is counted. */
Test(route_http, when_to_come_again)
{
    struct talk talk = begin(SPAN(GET));
    struct pool *pool = &shard.pools[0];
    struct call *call = only_call(talk.client);
    const struct pair_words *counts = call->counts;
    pool->slots = 2;
    for (int i = 0; i < SERVICE_WINDOW; i++)
        service_note(&pool->service, 7000000, ctx_now(&shard.ctx));
    for (int i = 0; i < 3; i++)
        cr_assert(share_queue_add(shard.ctx.share, shard.ctx.seat, pool->row, 9));
    call->job.refused = JOB_REFUSED_WAIT;
    talk.n = 0;
    shardlet_fail(call, RPC_OVERLOADED);
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "HTTP/1.1 503") && has(&talk, "\r\nRetry-After: 11\r\n"), "%.*s",
        (int)talk.n, talk.out);
    cr_expect_eq(counts->refused[METRIC_POOL_REFUSAL_WAIT], 1u);
    cr_expect_eq(counts->refused[METRIC_POOL_REFUSAL_LATE], 0u);
    say(&talk, SPAN(GET));
    call = only_call(talk.client);
    talk.n = 0;
    shardlet_fail(call, RPC_DEADLINE_EXCEEDED);
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "HTTP/1.1 504") && !has(&talk, "Retry-After"));
    for (int i = 0; i < 3; i++)
        share_queue_remove(shard.ctx.share, shard.ctx.seat, pool->row);
    pool->slots = 0;
    end(&talk);
}

/* A worker's JSON-RPC error says nothing that a client of HTTP could be told. */
Test(route_http, error_of_a_worker)
{
    struct talk talk = begin(SPAN(GET));
    shardlet_answer(only_call(talk.client),
        SPAN("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":1,\"message\":\"secret\"}}"),
        SPAN("body"));
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "HTTP/1.1 500") && !has(&talk, "secret") && !has(&talk, "body"));
    end(&talk);
}
