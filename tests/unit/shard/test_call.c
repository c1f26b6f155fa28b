#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/shard/upstream/call.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/fake_worker.h"
#include "tests/unit/support/said.h"
#include "tests/unit/support/shardlet.h"

#define CONCURRENCY(n) "{\"protocol\":1,\"concurrency\":" n "}"
#define BODY           "{\"jsonrpc\":\"2.0\",\"method\":\"demo\",\"id\":7}"
#define RESULT         "{\"jsonrpc\":\"2.0\",\"result\":1,\"id\":7}"

enum { TIMEOUT_MS = 3000, KILL_AFTER_MS = 5000 };

static struct shardlet shard;
static struct pool *pool;
static struct fake_worker worker;
static struct list calls; /* of the owner */
static int owner;
static bool has_room;

static void on_ended(struct call *call, const struct outcome *outcome)
{
    struct jsonrpc_response response;
    enum rpc_error error = outcome->worker == NULL ? outcome->error
                                                   : call_read_answer(outcome, &response);
    struct span id = call_id(call);
    say("%.*s: %d%s;", (int)id.n, id.p, error, outcome->worker == NULL ? "" : " by a worker");
    if (call->owner == NULL)
        say("not for its owner;");
    else
        cr_assert_eq(call->owner, &owner);
    cr_assert(list_empty(&call->node));
}

static bool on_part(struct call *call, size_t n)
{
    (void)call;
    say("part %zu;", n);
    return has_room;
}

static bool on_begins(struct call *call, const struct outcome *outcome, enum rpc_error *ret_error)
{
    (void)call;
    (void)outcome;
    (void)ret_error;
    return false; /* the parts are gathered */
}

static const struct call_ops ops = {.ended = on_ended, .part = on_part};
static const struct call_parts_ops parts_ops = {.begins = on_begins};

static void set_up(void)
{
    char conf[1024];
    fake_worker_listen(&worker);
    snprintf(conf, sizeof(conf),
        "listeners:\n"
        "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"
        "pools:\n"
        "  - {name: app, workers: [\"unix:%s\"], kill_after: %dms, idempotent: [\"safe.*\"],\n"
        "     wait_for_worker: 1h, worker_timeout: 1h}\n",
        worker.path, KILL_AFTER_MS);
    fake_clock_stop();
    shardlet_init(&shard, conf, 0);
    list_init(&calls);
    has_room = true;
    pool = &shard.pools[0];
    cr_assert_eq(pool_open(pool), 0);
    shardlet_turn(&shard);
    shard.ctx.call_ops = &ops;
    shard.ctx.call_parts_ops = &parts_ops;
}

static void tear_down(void)
{
    while (!list_empty(&calls))
        call_cancel(list_first(&calls, struct call, node));
    shardlet_deinit(&shard);
    fake_worker_end(&worker);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

TestSuite(call, .init = set_up, .fini = tear_down);

static void greet(const char *hello)
{
    struct frame frame;
    cr_assert(fake_worker_accept(&worker));
    cr_assert_eq(fake_worker_next(&worker, &frame), FRAME_HELLO);
    fake_worker_send(&worker, FRAME_HELLO, 0, 0, hello);
    shardlet_turn(&shard);
}

static void pass_time(uint64_t ms)
{
    fake_clock_advance(ms);
    shardlet_turn(&shard);
}

static struct call_spec spec_of(struct span body)
{
    const char *method = memmem(body.p, body.n, "\"method\":\"", 10);
    const char *id = memmem(body.p, body.n, "\"id\":", 5);
    cr_assert_not_null(method);
    method += 10;
    return (struct call_spec){
        .owner = &owner,
        .list = &calls,
        .pool = pool,
        .timeout = TIMEOUT_MS,
        .body = body,
        .method = {method, (size_t)(strchr(method, '"') - method)},
        .id = id == NULL ? (struct span){0} : (struct span){id + 5, strcspn(id + 5, "}")},
        .notify = id == NULL,
        .flow = 1,
    };
}

static struct call *start(const struct call_spec *spec)
{
    cr_assert_eq(call_start(&shard.ctx, spec), 0);
    return list_empty(&calls) ? NULL : container_of(calls.prev, struct call, node);
}

static struct call *start_plain(void)
{
    const struct call_spec spec = spec_of(SPAN(BODY));
    return start(&spec);
}

/* What the worker has got: the type and call of each frame. */
static void expect_sent(const char *text)
{
    char got[256] = "";
    struct frame frame;
    shardlet_turn(&shard);
    while (fake_worker_next(&worker, &frame) != 0)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%u:%llu ", frame.head.type,
            (unsigned long long)frame.head.call);
    cr_expect_str_eq(got, text);
}

static void answer(uint64_t call, const char *body)
{
    fake_worker_send(&worker, FRAME_RESPONSE, 0, call, body);
    shardlet_turn(&shard);
}

static size_t load(void)
{
    return share_worker_load(shard.ctx.share, pool->ready[0]->share);
}

Test(call, is_answered)
{
    greet(CONCURRENCY("8"));
    start_plain();
    cr_expect_eq(load(), 1u);
    expect_sent("2:1 ");
    answer(1, RESULT);
    expect_said("7: 0 by a worker;");
    cr_expect(list_empty(&calls) && load() == 0);
    pass_time(TIMEOUT_MS + KILL_AFTER_MS);
    expect_said("");
}

Test(call, answers_that_are_none)
{
    static const struct {
        const char *body;
        const char *said;
    } cases[] = {
        {"{", "7: -32007 by a worker;"},
        {"[]", "7: -32007 by a worker;"},
        {"{\"jsonrpc\":\"2.0\",\"id\":7}", "7: -32007 by a worker;"},
        {"{\"jsonrpc\":\"2.0\",\"error\":{\"code\":1,\"message\":\"\"},\"id\":7}",
            "7: 0 by a worker;"},
    };
    greet(CONCURRENCY("8"));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        start_plain();
        shardlet_turn(&shard);
        answer(i + 1, cases[i].body);
        expect_said(cases[i].said);
    }
}

Test(call, has_a_frame_of_what_it_is_made_of)
{
    struct frame frame;
    char meta[] = "{\"deadline_ms\":0000000000}";
    const char *body =
        "{\"jsonrpc\":\"2.0\",\"method\":\"de\\u006do\",\"id\":                   0}";
    struct call_spec spec = spec_of((struct span){body, strlen(body)});
    spec.meta = SPAN(meta);
    spec.meta.n = strlen(meta);
    spec.left_at = (size_t)(strchr(meta, '0') - meta);
    spec.blob = SPAN("blob");
    spec.conn = 99;
    spec.binary = true;
    spec.http = true;
    spec.method_escaped = true;
    greet(CONCURRENCY("8"));
    struct call *call = start(&spec);
    cr_expect(call->job.method_len == 4 && memcmp(call->job.method, "demo", 4) == 0);
    shardlet_turn(&shard);
    cr_assert_eq(fake_worker_next(&worker, &frame), FRAME_REQUEST);
    cr_expect(frame.head.conn == 99 && frame.head.call == 1);
    cr_expect_eq(frame.head.flags, FRAME_F_BINARY);
    cr_expect(frame.meta.n == strlen(meta) &&
              memcmp(frame.meta.p, "{\"deadline_ms\":      3000}", frame.meta.n) == 0);
    cr_expect(
        frame.body.n == strlen(body) && memcmp(frame.body.p + frame.body.n - 4, "  1}", 4) == 0,
        "the call's id");
    cr_expect(frame.blob.n == 4 && memcmp(frame.blob.p, "blob", 4) == 0);
}

Test(call, waits_until_its_deadline)
{
    start_plain();
    pass_time(TIMEOUT_MS - 1);
    expect_said("");
    pass_time(1);
    expect_said("7: -32003;");
    cr_expect_eq(pool->queue.count, 0u);
    greet(CONCURRENCY("8"));
    expect_sent("");
}

Test(call, whose_deadline_passes_at_the_worker_is_cancelled)
{
    greet(CONCURRENCY("8"));
    start_plain();
    pass_time(TIMEOUT_MS);
    expect_said("7: -32003;");
    expect_sent("2:1 4:1 ");
    cr_expect_eq(load(), 1u, "until the worker has answered");
    answer(1, RESULT);
    expect_said("");
    cr_expect_eq(load(), 0u);
}

Test(call, that_is_never_answered_gives_its_slot_back)
{
    greet(CONCURRENCY("8"));
    start_plain();
    pass_time(TIMEOUT_MS);
    expect_said("7: -32003;");
    expect_sent("2:1 4:1 ");
    pass_time(KILL_AFTER_MS - 1);
    cr_expect_eq(load(), 1u);
    pass_time(1);
    cr_expect_eq(load(), 0u);
    cr_expect_eq(pool->nready, 1u);
    answer(1, RESULT);
    expect_said("");
    cr_expect_eq(load(), 0u);
}

Test(call, that_is_never_answered_costs_a_worker_with_one_call_at_a_time)
{
    greet(CONCURRENCY("1"));
    start_plain();
    pass_time(TIMEOUT_MS);
    expect_said("7: -32003;");
    pass_time(KILL_AFTER_MS - 1);
    cr_expect_eq(pool->nready, 1u);
    pass_time(1);
    cr_expect_eq(pool->nready, 0u);
    expect_said("");
}

Test(call, cancelled_before_it_is_sent)
{
    call_cancel(start_plain());
    cr_expect(pool->queue.count == 0 && list_empty(&calls));
    greet(CONCURRENCY("8"));
    expect_sent("");
    expect_said("");
}

Test(call, cancelled_after_it_was_sent)
{
    greet(CONCURRENCY("8"));
    struct call *call = start_plain();
    expect_sent("2:1 ");
    call_cancel(call);
    expect_sent("4:1 ");
    cr_expect_eq(load(), 1u);
    pass_time(KILL_AFTER_MS);
    cr_expect_eq(load(), 0u);
    answer(1, RESULT);
    expect_said("");
}

Test(call, a_notification_is_delivered_though_its_owner_has_gone)
{
    const struct call_spec spec = spec_of(SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"demo\"}"));
    start(&spec);
    call_cancel(start(&spec));
    greet(CONCURRENCY("8"));
    expect_said("null: 0;null: 0;not for its owner;");
    expect_sent("2:1 2:2 ");
}

Test(call, a_notification_has_a_deadline)
{
    const struct call_spec spec = spec_of(SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"demo\"}"));
    call_cancel(start(&spec));
    pass_time(TIMEOUT_MS);
    cr_expect_eq(pool->queue.count, 0u);
    expect_said("null: -32003;not for its owner;");
}

Test(call, is_tried_elsewhere_where_it_is_idempotent)
{
    struct call_spec spec = spec_of(SPAN("{\"jsonrpc\":\"2.0\",\"method\":\"safe.one\",\"id\":8}"));
    greet(CONCURRENCY("8"));
    start(&spec);
    start_plain();
    expect_sent("2:1 2:2 ");
    fake_worker_hang_up(&worker);
    shardlet_turn(&shard);
    expect_said("7: -32002;");
    pass_time(100);
    greet(CONCURRENCY("8"));
    expect_sent("2:1 ");
    answer(1, RESULT);
    expect_said("8: 0 by a worker;");
}

Test(call, has_no_room_for_a_part)
{
    greet(CONCURRENCY("8"));
    start_plain();
    expect_sent("2:1 ");
    fake_worker_send_blob(&worker, FRAME_RESPONSE, FRAME_F_MORE, 1, 10);
    shardlet_turn(&shard);
    expect_said("part 10;");
    has_room = false;
    fake_worker_send_blob(&worker, FRAME_DATA, FRAME_F_MORE, 1, 20);
    shardlet_turn(&shard);
    expect_said("part 20;7: -32001;");
    expect_sent("4:1 ");
    fake_worker_send_blob(&worker, FRAME_DATA, 0, 1, 30);
    shardlet_turn(&shard);
    expect_said("");
    cr_expect_eq(load(), 0u);
}

/* Whichever allocation fails, a call is started, or it is not, or it ends; nothing leaks. */
Test(call, without_memory)
{
    const char *body = "{\"jsonrpc\":\"2.0\",\"method\":\"de\\u006do\",\"id\":7}";
    struct call_spec spec = spec_of((struct span){body, strlen(body)});
    bool started = false;
    spec.method_escaped = true;
    greet(CONCURRENCY("0"));
    for (long n = 0; !started; n++) {
        mem_fail_after(n);
        int r = call_start(&shard.ctx, &spec);
        mem_fail_after(-1);
        cr_assert(r == 0 || r == -ENOMEM);
        started = r == 0 && !list_empty(&calls);
        if (r == 0 && !started)
            expect_said("7: -32001;");
        else
            expect_said("");
        if (!started)
            cr_expect_eq(shard.ctx.calls.used, (size_t)0, "%ld", n);
        cr_assert_lt(n, 50);
    }
    expect_sent("2:1 ");
}
