#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "frontd/ipc/shm_names.h"
#include "frontd/shard/request/account.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue. */
#define CONF                                                                                       \
    "slow_log: off\nlimits: {calls_per_connection: 3}\n"                                           \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "      - {path: /few, kind: jsonrpc, pool: few, timeout: 1h}\n"                                \
    "      - {path: /, kind: http, pool: app, timeout: 1h}\n"                                      \
    "      - {path: /ws, kind: websocket, pool: app, timeout: 1h}\n"                               \
    "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"                      \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"            \
    "  - {name: few, workers: [\"unix:/nonexistent/few.sock\"], methods: [\"few.*\"]}\n"

#define POST(length)    "POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: " length "\r\n\r\n"
#define GET(path)       "GET " path " HTTP/1.1\r\nHost: h\r\n\r\n"
#define MEMBER(id)      "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"m\"}"
#define ANSWER(id)      "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":0}"
#define APP_ERROR(id)   "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"error\":{\"code\":1,\"message\":\"\"}}"
#define NOTIFICATION    "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}"
#define HTTP_CALL(head) "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":" head "}"

static struct shardlet shard;
static struct account last_call;
static struct account last_request;
static char last_method[64];
static unsigned ncalls;
static unsigned nrequests;

static void on_call(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    cr_assert(ctx == &shard.ctx && observer->call == on_call);
    last_call = *account;
    snprintf(last_method, sizeof(last_method), "%.*s", (int)account->method.n, account->method.p);
    ncalls++;
}

static void on_request(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    cr_assert(ctx == &shard.ctx && observer->request != NULL);
    last_request = *account;
    nrequests++;
}

static struct account_observer first = {.call = on_call, .request = on_request};

static void set_up(void)
{
    shardlet_init(&shard, CONF, 0);
    account_observe(&shard.ctx, &first);
    ncalls = nrequests = 0;
    for (uint16_t kind = 0; kind < EXPECT_KINDS; kind++)
        expect_answered(&shard.ctx.expect, kind, 100); /* so that calls start at once */
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
}

TestSuite(account, .init = set_up, .fini = tear_down);

static struct call *nth_call(unsigned n)
{
    struct list *node = NULL;
    list_for_each (of, &shard.clients) {
        struct client *client = container_of(of, struct client, node);
        list_for_each (request, &client->requests) {
            list_for_each (call, &container_of(request, struct request, node)->calls) {
                if (n-- == 0)
                    node = call;
            }
        }
    }
    cr_assert_not_null(node);
    return container_of(node, struct call, node);
}

static void expect_ends(unsigned calls, enum metric_code call, unsigned requests,
    enum metric_class class, enum metric_code request)
{
    cr_expect_eq(ncalls, calls, "%u calls", ncalls);
    cr_expect_eq(nrequests, requests, "%u requests", nrequests);
    if (calls > 0)
        cr_expect_eq(last_call.code, call, "%s", metric_code_label(last_call.code));
    if (requests > 0) {
        cr_expect_eq(last_request.class, class, "%s", metric_class_label(last_request.class));
        cr_expect_eq(last_request.code, request, "%s", metric_code_label(last_request.code));
    }
    ncalls = nrequests = 0;
}

Test(account, call)
{
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(POST("37") MEMBER("1")));
    uint64_t conn = talk.client->conn.id;
    uint64_t came = nth_call(0)->came_at;
    usleep(2000); /* the next turn reads the clock anew */
    shardlet_turn(&shard);
    shardlet_answer(nth_call(0), SPAN(ANSWER("1")), SPAN(""));
    cr_expect(last_call.came == came);
    cr_expect_geq(last_call.whole, 2000u, "%llu", (unsigned long long)last_call.whole);
    cr_expect(last_call.queued == last_call.whole && last_call.worked == 0, "it was in the queue");
    cr_expect(last_call.client == talk.client && last_call.conn == conn);
    cr_expect(last_call.pool == &shard.pools[0] && last_call.worker->pool == last_call.pool);
    cr_expect_str_eq(last_call.route->path, "/rpc");
    cr_expect_str_eq(last_method, "m");
    cr_expect_eq(last_call.peer.family, AF_INET);
    cr_expect_eq(last_call.bytes_out, sizeof(ANSWER("1")) - 1);
    cr_expect_gt(last_call.bytes_in, sizeof(MEMBER("1")) - 1);
    cr_expect_not_null(last_call.outcome);
    cr_expect(last_request.whole >= 2000 && last_request.call == NULL);
    cr_expect(last_request.bytes_in == 37 && last_request.bytes_out == sizeof(ANSWER("1")) - 1);
    expect_ends(1, METRIC_CODE_OK, 1, METRIC_CLASS_CALL, METRIC_CODE_OK);

    say(&talk, SPAN(POST("37") MEMBER("2")));
    shardlet_answer(nth_call(0), SPAN(APP_ERROR("2")), SPAN(""));
    expect_ends(1, METRIC_CODE_APP, 1, METRIC_CLASS_CALL, METRIC_CODE_APP);
    say(&talk, SPAN(POST("37") MEMBER("3")));
    shardlet_answer(nth_call(0), SPAN("no JSON"), SPAN(""));
    expect_ends(1, METRIC_CODE_BAD_RESPONSE, 1, METRIC_CLASS_CALL, METRIC_CODE_BAD_RESPONSE);
    say(&talk, SPAN(POST("37") MEMBER("4")));
    shardlet_fail(nth_call(0), RPC_WORKER_LOST);
    expect_ends(1, METRIC_CODE_WORKER_LOST, 1, METRIC_CLASS_CALL, METRIC_CODE_WORKER_LOST);
    close(talk.peer);
    shardlet_turn(&shard);
}

static unsigned row_of_method(struct span name)
{
    return share_name_find(shard.ctx.counts.share, METRIC_KIND_method, 0, name);
}

/* Which methods have rows of their own is for workers to say: clients may call anything. */
Test(account, rows_of_methods)
{
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(POST("30") NOTIFICATION));
    CHECK(pool_abandon(&nth_call(0)->job));
    call_job_ops.delivered(&nth_call(0)->job);
    expect_ends(1, METRIC_CODE_OK, 1, METRIC_CLASS_NOTIFICATION, METRIC_CODE_OK);
    cr_expect_eq(row_of_method(SPAN("n")), 0u);
    for (int sent = 0; sent < 2; sent++) {
        say(&talk, SPAN(POST("37") MEMBER("1")));
        nth_call(0)->job.sent_at = sent ? ctx_now_us(&shard.ctx) : 0;
        shardlet_fail(nth_call(0), RPC_DEADLINE_EXCEEDED);
        cr_expect_eq(row_of_method(SPAN("m")) != 0, sent == 1, "%d", sent);
    }
    close(talk.peer);
    shardlet_turn(&shard);
}

/* Methods without a row are remembered too, from when there is none for them: not before. */
Test(account, methods_beyond_those_with_rows)
{
    enum { PLACE = 500 };
    struct counts *counts = &shard.ctx.counts;
    struct method_words *other = counts_method(counts, PLACE, SPAN("early"), false);
    cr_expect_null(counts->methods[PLACE].words);
    struct method_words *early = counts_method(counts, PLACE, SPAN("early"), true);
    cr_expect_neq(early, other);
    for (unsigned i = 1; i < METRIC_METHODS_MAX; i++) {
        char name[16];
        size_t n = (size_t)snprintf(name, sizeof(name), "m%u", i);
        cr_expect_neq(counts_method(counts, i, (struct span){name, n}, true), other, "%u", i);
    }
    cr_expect_eq(counts_method(counts, PLACE + 1, SPAN("late"), true), other);
    cr_expect_eq(counts_method(counts, PLACE + 2, SPAN("junk"), false), other);
    cr_expect_eq(counts->methods[PLACE + 1].words, other);
    cr_expect_eq(counts->methods[PLACE + 2].words, other);
    cr_expect_eq(
        counts_method(counts, PLACE, SPAN("late"), true), other, "in the place of another");
    cr_expect_eq(counts_method(counts, PLACE, SPAN("early"), false), early);
}

/* What never becomes a call is a request all the same. */
Test(account, refused)
{
    static const struct {
        struct span sent;
        enum metric_class class;
        enum metric_code code;
    } cases[] = {
        {{POST("1") "x", sizeof(POST("1") "x") - 1}, METRIC_CLASS_INVALID, METRIC_CODE_PARSE_ERROR},
        {{POST("2") "{}", sizeof(POST("2") "{}") - 1}, METRIC_CLASS_INVALID,
            METRIC_CODE_INVALID_REQUEST},
        {{GET("/rpc"), sizeof(GET("/rpc")) - 1}, METRIC_CLASS_GET, METRIC_CODE_405},
        {{GET("/ws"), sizeof(GET("/ws")) - 1}, METRIC_CLASS_CONNECT, METRIC_CODE_426},
        {{"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 31}, METRIC_CLASS_OPTIONS, METRIC_CODE_2XX},
    };
    struct talk talk = talk_open(&shard, "web");
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        say(&talk, cases[i].sent);
        expect_ends(0, 0, 1, cases[i].class, cases[i].code);
    }
    say(&talk, SPAN("POST /few HTTP/1.1\r\nHost: h\r\nContent-Length: 37\r\n\r\n" MEMBER("1")));
    expect_ends(0, 0, 1, METRIC_CLASS_CALL, METRIC_CODE_METHOD_NOT_FOUND);
    say(&talk, SPAN("nonsense\r\n\r\n"));
    expect_ends(0, 0, 1, METRIC_CLASS_OTHER, METRIC_CODE_400);
    cr_expect_null(last_request.route);
    close(talk.peer);
    shardlet_turn(&shard);
}

Test(account, http)
{
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(GET("/a")));
    shardlet_answer(nth_call(0), SPAN(HTTP_CALL("{\"status\":404}")), SPAN("none"));
    expect_ends(1, METRIC_CODE_4XX, 1, METRIC_CLASS_GET, METRIC_CODE_4XX);
    cr_expect(last_request.bytes_out == 4);
    say(&talk, SPAN(GET("/a")));
    shardlet_answer(nth_call(0), SPAN(APP_ERROR("0")), SPAN(""));
    expect_ends(1, METRIC_CODE_APP, 1, METRIC_CLASS_GET, METRIC_CODE_APP);
    say(&talk, SPAN(GET("/a")));
    shardlet_answer(nth_call(0), SPAN(HTTP_CALL("{\"status\":1}")), SPAN(""));
    expect_ends(1, METRIC_CODE_BAD_RESPONSE, 1, METRIC_CLASS_GET, METRIC_CODE_BAD_RESPONSE);
    say(&talk, SPAN(GET("/a")));
    shardlet_fail(nth_call(0), RPC_DEADLINE_EXCEEDED);
    expect_ends(
        1, METRIC_CODE_DEADLINE_EXCEEDED, 1, METRIC_CLASS_GET, METRIC_CODE_DEADLINE_EXCEEDED);
    close(talk.peer);
    shardlet_turn(&shard);
}

/* Each member of a batch is a call of its own; the batch ends with the last of them. */
Test(account, batch)
{
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(POST("108") "[" MEMBER("1") "," NOTIFICATION "," MEMBER("2") "]"));
    shardlet_fail(nth_call(0), RPC_OVERLOADED);
    cr_expect(ncalls == 1 && nrequests == 0);
    cr_expect_eq(last_call.code, METRIC_CODE_OVERLOADED);
    shardlet_answer(nth_call(1), SPAN(ANSWER("2")), SPAN(""));
    shardlet_fail(nth_call(0), RPC_UNAVAILABLE);
    cr_expect_eq(last_call.class, METRIC_CLASS_NOTIFICATION);
    expect_ends(3, METRIC_CODE_UNAVAILABLE, 1, METRIC_CLASS_BATCH, METRIC_CODE_OK);
    close(talk.peer);
    shardlet_turn(&shard);
}

/* Where the client goes, its calls are over, each once; but its notifications are delivered. */
Test(account, cancelled)
{
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(POST("37") MEMBER("1") POST("30") NOTIFICATION));
    struct call *notification = nth_call(1);
    client_doom(talk.client);
    shardlet_turn(&shard);
    expect_ends(1, METRIC_CODE_CANCELLED, 2, METRIC_CLASS_NOTIFICATION, METRIC_CODE_CANCELLED);
    shardlet_fail(notification, RPC_UNAVAILABLE);
    cr_expect(last_call.client == NULL && last_call.class == METRIC_CLASS_NOTIFICATION);
    expect_ends(1, METRIC_CODE_UNAVAILABLE, 0, 0, 0);
    close(talk.peer);
}

static unsigned others;

/* Hears of one call. */
static void on_one(
    struct ctx *ctx, struct account_observer *observer, const struct account *account)
{
    cr_assert_not_null(account->call);
    others++;
    account_ignore(ctx, observer);
}

Test(account, observers)
{
    struct account_observer one = {.call = on_one};
    struct talk talk = talk_open(&shard, "web");
    account_observe(&shard.ctx, &one);
    for (unsigned i = 0; i < 2; i++) {
        say(&talk, SPAN(POST("37") MEMBER("1")));
        shardlet_answer(nth_call(0), SPAN(ANSWER("1")), SPAN(""));
        cr_expect_eq(others, 1u);
    }
    expect_ends(2, METRIC_CODE_OK, 2, METRIC_CLASS_CALL, METRIC_CODE_OK);
    account_ignore(&shard.ctx, &one); /* once more is no matter */
    account_ignore(&shard.ctx, &first);
    cr_expect_null(shard.ctx.account_observers);
    close(talk.peer);
    shardlet_turn(&shard);
}

/* Where nothing observes all goes the same way. */
Test(account, no_observer)
{
    account_ignore(&shard.ctx, &first);
    struct talk talk = talk_open(&shard, "web");
    say(&talk, SPAN(POST("37") MEMBER("1")));
    shardlet_answer(nth_call(0), SPAN(ANSWER("1")), SPAN(""));
    expect_ends(0, 0, 0, 0, 0);
    close(talk.peer);
    shardlet_turn(&shard);
}
