#include <criterion/criterion.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "frontd/shard/request/request.h"
#include "frontd/shard/request/route_ops.h"
#include "tests/unit/support/talk.h"

/* There is no worker: calls wait in the queue. */
#define CONF                                                                                       \
    "limits: {calls_per_connection: 3}\n"                                                          \
    "listeners:\n"                                                                                 \
    "  - name: web\n"                                                                              \
    "    address: 127.0.0.1:8080\n"                                                                \
    "    routes:\n"                                                                                \
    "      - {path: /rpc, kind: jsonrpc, pool: app, timeout: 1h}\n"                                \
    "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"                      \
    "pools:\n"                                                                                     \
    "  - {name: app, workers: [\"unix:/nonexistent/app.sock\"], wait_for_worker: 1h}\n"

#define POST(length) "POST /rpc HTTP/1.1\r\nHost: h\r\nContent-Length: " length "\r\n\r\n"
#define MEMBER(id)   "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"m\"}"
#define ANSWER(id)   "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":0}"
#define NOTIFICATION "{\"jsonrpc\":\"2.0\",\"method\":\"n\"}"
#define BATCH_OF_5                                                                                 \
    "[" MEMBER("1") "," MEMBER("2") "," MEMBER("3") "," MEMBER("4") "," MEMBER("5") "]"

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

TestSuite(request, .init = set_up, .fini = tear_down);

static struct talk begin(const char *listener, struct span bytes)
{
    struct talk talk = talk_open(&shard, listener);
    say(&talk, bytes);
    return talk;
}

static struct request *nth_request(const struct client *client, unsigned n)
{
    struct list *node = client->requests.next;
    while (n-- > 0)
        node = node->next;
    cr_assert_neq(node, &client->requests);
    return container_of(node, struct request, node);
}

static struct call *first_call(const struct request *request)
{
    cr_assert(!list_empty(&request->calls));
    return list_first(&request->calls, struct call, node);
}

/* Whether nothing is charged to the client any more. */
static bool is_free(const struct client *client)
{
    return list_empty(&client->requests) && client->calls == 0 && client->claimed == 0 &&
           client->held_back == 0 && !client->backlog && shard.pools[0].queue.count == 0 &&
           shard.ctx.requests.used == 0 && shard.ctx.calls.used == 0;
}

static void end(struct talk *talk)
{
    close(talk->peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.ctx.open, 0u);
    cr_expect(shard.ctx.requests.used == 0 && shard.ctx.calls.used == 0);
}

Test(request, claims_return_to_0)
{
    struct talk talk = begin("web", SPAN(POST("37") MEMBER("1")));
    struct call *call = first_call(nth_request(talk.client, 0));
    cr_expect(talk.client->calls == 1 && talk.client->held_back == 0);
    cr_expect_eq(talk.client->claimed, call->claim + call->expected);
    cr_expect_gt(call->claim, sizeof(MEMBER("1")) - 1);
    cr_expect_gt(call->expected, 0u);
    shardlet_answer(call, SPAN(ANSWER("1")), SPAN(""));
    cr_expect(is_free(talk.client));
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "\r\n\r\n" ANSWER("1")), "%.*s", (int)talk.n, talk.out);
    end(&talk);
}

/* With errors, too: those that a pool makes, and that there is no memory for the call. */
Test(request, claims_return_to_0_after_an_error)
{
    struct talk talk = begin("web", SPAN(POST("37") MEMBER("1")));
    shardlet_fail(first_call(nth_request(talk.client, 0)), RPC_WORKER_LOST);
    cr_expect(is_free(talk.client));
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "-32002"), "%.*s", (int)talk.n, talk.out);

    talk.n = 0;
    struct request *request = request_add(talk.client, &shard.conf->listeners[0].routes[0]);
    mem_trim();
    mem_fail_after(0);
    request_message(request, SPAN(MEMBER("2")));
    mem_fail_after(-1);
    cr_expect(list_empty(&talk.client->requests) && talk.client->claimed == 0);
    cr_expect(talk.client->calls == 0 && shard.pools[0].queue.count == 0);
    end(&talk);
}

/* What is answered before its turn is held back, and charged, until it is. */
Test(request, answers_out_of_order)
{
    struct talk talk = begin(
        "web", SPAN(POST("37") MEMBER("1") POST("37") MEMBER("2") POST("37") MEMBER("3")));
    cr_assert_eq(talk.client->calls, 3u);
    shardlet_answer(first_call(nth_request(talk.client, 2)), SPAN(ANSWER("3")), SPAN(""));
    uint32_t one = talk.client->held_back;
    cr_expect_gt(one, sizeof(ANSWER("3")));
    shardlet_answer(first_call(nth_request(talk.client, 1)), SPAN(ANSWER("2")), SPAN(""));
    cr_expect_gt(talk.client->held_back, one);
    cr_expect_geq(client_holds(talk.client), sizeof(ANSWER("2")) + sizeof(ANSWER("3")));
    say(&talk, SPAN(""));
    cr_expect_eq(talk.n, 0);
    shardlet_answer(first_call(nth_request(talk.client, 0)), SPAN(ANSWER("1")), SPAN(""));
    cr_expect(is_free(talk.client));
    say(&talk, SPAN(""));
    const char *first = memmem(talk.out, talk.n, ANSWER("1"), sizeof(ANSWER("1")) - 1);
    const char *second = memmem(talk.out, talk.n, ANSWER("2"), sizeof(ANSWER("2")) - 1);
    const char *third = memmem(talk.out, talk.n, ANSWER("3"), sizeof(ANSWER("3")) - 1);
    cr_expect(first != NULL && first < second && second < third);
    end(&talk);
}

/* All that it has is given back: its calls, an answer that is held back, members that wait. */
Test(request, abandon)
{
    struct talk talk = begin("web", SPAN(POST("37") MEMBER("1") POST("37") MEMBER("2")));
    cr_assert_eq(talk.client->calls, 2u);
    request_abandon(nth_request(talk.client, 1));
    cr_expect(talk.client->calls == 1 && shard.pools[0].queue.count == 1);
    request_abandon_all(talk.client);
    cr_expect(is_free(talk.client));
    end(&talk);

    talk = begin("web", SPAN(POST("37") MEMBER("1") POST("37") MEMBER("2")));
    shardlet_answer(first_call(nth_request(talk.client, 1)), SPAN(ANSWER("2")), SPAN(""));
    cr_assert_gt(talk.client->held_back, 0u);
    client_doom(talk.client); /* which abandons them as it is closed */
    end(&talk);

    talk = begin("web", SPAN(POST("191") BATCH_OF_5));
    cr_assert(nth_request(talk.client, 0)->rest != NULL && talk.client->calls == 3);
    request_abandon_all(talk.client);
    cr_expect(talk.client->calls == 0 && talk.client->claimed == 0);
    cr_expect_eq(shard.pools[0].queue.count, 0);
    end(&talk);
}

/* Members beyond calls_per_connection wait, and are started as others end. */
Test(request, batch_rest)
{
    struct talk talk = begin("web", SPAN(POST("191") BATCH_OF_5));
    struct request *request = nth_request(talk.client, 0);
    size_t claims = 0;
    cr_assert(talk.client->calls == 3 && talk.client->backlog && request->rest != NULL);
    list_for_each (node, &request->calls) {
        struct call *call = container_of(node, struct call, node);
        claims += call->claim + call->expected;
    }
    const struct route_ops *ops = shard.ctx.routes[request->route->kind];
    cr_expect_gt(ops->rest_size(request), 2 * (sizeof(MEMBER("4")) - 1));
    cr_expect_eq(talk.client->claimed, claims + ops->rest_size(request));
    cr_expect_geq(client_holds(talk.client), ops->rest_size(request));

    shardlet_answer(first_call(request), SPAN(ANSWER("1")), SPAN(""));
    cr_expect_eq(talk.client->held_back, request->gathered);
    shardlet_turn(&shard);
    cr_expect(talk.client->calls == 3 && talk.client->backlog, "one more, one waits");
    shardlet_answer(first_call(request), SPAN(ANSWER("2")), SPAN(""));
    shardlet_turn(&shard);
    cr_expect(talk.client->calls == 3 && !talk.client->backlog && request->rest == NULL);
    shardlet_fail(first_call(request), RPC_WORKER_LOST);
    shardlet_answer(first_call(request), SPAN(ANSWER("4")), SPAN(""));
    say(&talk, SPAN(""));
    cr_expect_eq(talk.n, 0, "one is missing");
    shardlet_answer(first_call(request), SPAN(ANSWER("5")), SPAN(""));
    cr_expect(is_free(talk.client));
    say(&talk, SPAN(""));
    cr_expect(has(&talk, "[" ANSWER("1") "," ANSWER("2") ",{") && has(&talk, "-32002") &&
                  has(&talk, "," ANSWER("4") "," ANSWER("5") "]"),
        "%.*s", (int)talk.n, talk.out);
    end(&talk);
}

/* A client that is gone need not be waited for where nothing but notifications is left. */
Test(request, awaited)
{
    const struct requests_ops *ops = shard.ctx.requests_ops;
    struct talk talk = begin("lines", SPAN(NOTIFICATION "\n"));
    cr_assert(talk.client->calls == 1 && !ops->awaited(talk.client));
    say(&talk, SPAN(MEMBER("1") "\n"));
    cr_expect(talk.client->calls == 2 && ops->awaited(talk.client));
    shardlet_answer(first_call(nth_request(talk.client, 1)), SPAN(ANSWER("1")), SPAN(""));
    cr_expect_not(ops->awaited(talk.client));
    request_abandon_all(talk.client);
    close(talk.peer);
    shardlet_turn(&shard);
    cr_expect_eq(shard.pools[0].queue.count, 1, "it is on its way, whatever becomes of its client");
}

/* An answer about as large as was expected has its room; a larger one has what write_buffer has. */
Test(request, fits)
{
    struct talk talk = begin("web", SPAN(POST("37") MEMBER("1")));
    struct request *request = nth_request(talk.client, 0);
    size_t limit = shard.conf->limits.write_buffer;
    request->promised = (uint32_t)(2 * limit);
    cr_expect(request_fits(request, 2 * limit));
    char *room = client_room(talk.client, 2 * limit); /* more than the socket takes */
    cr_assert_not_null(room);
    memset(room, 'x', 2 * limit);
    cr_expect(request_fits(request, 2 * limit), "it was expected");
    cr_expect_not(request_fits(request, 3 * limit));
    request->promised = 0;
    cr_expect_not(request_fits(request, limit));
    close(talk.peer);
    shardlet_turn(&shard);
}
