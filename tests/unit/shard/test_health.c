#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/ipc/metrics.h"
#include "frontd/ipc/shm_health.h"
#include "frontd/shard/upstream/asker.h"
#include "frontd/shard/upstream/slow_start.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/fake_worker.h"
#include "tests/unit/support/shardlet.h"

enum { WORKERS = 4, JOBS = 256, EJECTED_MS = 10000 };

static struct shardlet shard;
static struct pool *pool;
static struct fake_worker workers[WORKERS];
static struct job jobs[JOBS];
static size_t given; /* jobs so far */

static void on_answered(struct job *job, struct worker *worker, const struct frame *frame)
{
    (void)job;
    if (frame->body.n != 2) /* as call_read_answer() does */
        fault_answer(&worker->faults, SPAN("m"), RPC_BAD_RESPONSE, "no JSON");
}

static void on_delivered(struct job *job)
{
    (void)job;
}

static void on_failed(struct job *job, enum rpc_error error)
{
    (void)job;
    (void)error;
}

static const struct job_ops ops = {
    .answered = on_answered, .delivered = on_delivered, .failed = on_failed};

static void greet(size_t n, const char *hello)
{
    struct frame frame;
    if (workers[n].fd < 0)
        cr_assert(fake_worker_accept(&workers[n]));
    cr_assert_eq(fake_worker_next(&workers[n], &frame), FRAME_HELLO);
    fake_worker_send(&workers[n], FRAME_HELLO, 0, 0, hello);
    shardlet_turn(&shard);
}

/* A pool with the first `n` workers. keys: more of it. */
static void begin_with(size_t n, const char *keys, const char *hello)
{
    char conf[2048];
    char list[1024];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        int more = snprintf(
            list + len, sizeof(list) - len, "%s\"unix:%s\"", i == 0 ? "" : ", ", workers[i].path);
        cr_assert(more > 0 && len + (size_t)more < sizeof(list));
        len += (size_t)more;
    }
    snprintf(conf, sizeof(conf),
        "listeners:\n"
        "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"
        "pools:\n"
        "  - {name: app, workers: [%s], queue: 100, %s}\n",
        list, keys);
    fake_clock_stop();
    shardlet_init(&shard, conf, 0);
    pool = &shard.pools[0];
    pool->ops = &ops;
    cr_assert_eq(pool_open(pool), 0);
    shardlet_turn(&shard);
    for (size_t i = 0; i < n; i++)
        greet(i, hello);
}

static void begin(size_t n)
{
    begin_with(n, "health: {failures: 3, ejected: 10s}", "{\"protocol\":1,\"concurrency\":8}");
}

static void set_up(void)
{
    memset(jobs, 0, sizeof(jobs));
    given = 0;
    for (size_t i = 0; i < JOBS; i++) {
        const struct frame_head head = {.type = FRAME_REQUEST, .length = 2};
        frame_head_write(&head, (uint8_t *)buf_room(&jobs[i].frame, FRAME_HEAD_SIZE));
        buf_added(&jobs[i].frame, FRAME_HEAD_SIZE);
        cr_assert_eq(buf_append(&jobs[i].frame, "{}", 2), 0);
    }
    for (size_t i = 0; i < WORKERS; i++)
        fake_worker_listen(&workers[i]);
}

static void tear_down(void)
{
    shardlet_deinit(&shard);
    for (size_t i = 0; i < JOBS; i++)
        buf_deinit(&jobs[i].frame);
    for (size_t i = 0; i < WORKERS; i++)
        fake_worker_end(&workers[i]);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

TestSuite(health, .init = set_up, .fini = tear_down);

static void pass_time(uint64_t ms)
{
    fake_clock_advance(ms);
    shardlet_turn(&shard);
    pool_beat(pool);
    shardlet_turn(&shard);
}

static size_t number_of(const struct worker *worker)
{
    size_t n = 0;
    while (strcmp(worker->text + 5, workers[n].path) != 0)
        n++;
    return n;
}

static struct worker *worker_at(size_t n)
{
    char text[256];
    snprintf(text, sizeof(text), "unix:%s", workers[n].path);
    return worker_find(pool, text);
}

static struct job *submit(void)
{
    struct job *job = &jobs[given++];
    cr_assert_leq(given, (size_t)JOBS);
    job->flow = given;
    job->method = "m";
    job->method_len = 1;
    job->expires = ctx_now(pool->ctx) + 1000;
    pool_submit(pool, job);
    return job;
}

/* Takes what was sent to the worker. Returns the last call among it. */
static uint64_t read_call(size_t n)
{
    struct frame frame;
    uint64_t call = 0;
    unsigned type;
    while ((type = fake_worker_next(&workers[n], &frame)) != 0) {
        if (type == FRAME_REQUEST)
            call = frame.head.call;
    }
    return call;
}

static void answer(struct job *job, const char *body)
{
    size_t n = number_of(job->worker);
    uint64_t call = job->sent.id;
    read_call(n);
    fake_worker_send(&workers[n], FRAME_RESPONSE, 0, call, body);
    shardlet_turn(&shard);
}

/* Gives the worker a job; what is given to others meanwhile is answered. */
static struct job *give(size_t n)
{
    size_t first = given;
    struct job *job;
    do {
        job = submit();
        cr_assert_eq(job->state, JOB_SENT);
        shardlet_turn(&shard);
    } while (number_of(job->worker) != n);
    for (size_t i = first; &jobs[i] != job; i++)
        answer(&jobs[i], "{}");
    return job;
}

static void fail(size_t n, unsigned times)
{
    for (unsigned i = 0; i < times; i++)
        answer(give(n), "garbage");
}

static bool is_out(size_t n)
{
    return worker_at(n)->out && !worker_at(n)->ready;
}

Test(health, a_worker_is_left_out_after_failures_in_a_row)
{
    begin(2);
    fail(0, 2);
    cr_expect_not(is_out(0));
    answer(give(0), "{}"); /* the row begins anew */
    fail(0, 2);
    cr_expect_not(is_out(0));
    fail(0, 1);
    cr_expect(is_out(0));
    cr_expect_eq(pool->nready, 1u);
    cr_expect_eq(atomic_load(share_front(pool->ctx->share, 0)->ejected), 1u);
    for (size_t i = 0; i < 8; i++) {
        struct job *job = submit();
        cr_assert_eq(job->state, JOB_SENT);
        cr_expect_eq(number_of(job->worker), 1u);
    }
    cr_expect_eq(read_call(0), 0u);
}

Test(health, never_where_it_is_off)
{
    begin_with(2, "health: {failures: 0}", "{\"protocol\":1,\"concurrency\":8}");
    fail(0, 8);
    cr_expect_not(is_out(0));
}

Test(health, by_default_after_five)
{
    begin_with(2, "kill_after: 60s", "{\"protocol\":1,\"concurrency\":8}");
    fail(0, 4);
    cr_expect_not(is_out(0));
    fail(0, 1);
    cr_expect(is_out(0));
    pass_time(EJECTED_MS - 1);
    cr_expect(is_out(0));
    pass_time(1);
    cr_expect_not(is_out(0));
}

Test(health, one_call_is_tried_and_brings_it_back)
{
    begin(2);
    fail(0, 3);
    pass_time(EJECTED_MS - 1);
    cr_expect(is_out(0));
    pass_time(1);
    cr_expect(!is_out(0) && worker_at(0)->trying);
    struct job *tried = give(0);
    cr_expect(is_out(0));
    for (size_t i = 0; i < 6; i++)
        cr_expect_eq(number_of(submit()->worker), 1u);
    answer(tried, "{}");
    cr_expect(!is_out(0) && !worker_at(0)->trying);
    give(0);
    give(0);
    cr_expect_not(is_out(0));
}

Test(health, a_failure_of_the_call_that_is_tried_doubles_the_time)
{
    begin(2);
    fail(0, 3);
    uint64_t ms = EJECTED_MS;
    for (unsigned i = 0; i < 8; i++) {
        pass_time(ms - 1);
        cr_assert(is_out(0), "%u", i);
        pass_time(1);
        cr_assert_not(is_out(0), "%u", i);
        fail(0, 1);
        cr_assert(is_out(0), "%u", i);
        ms = MIN(ms * 2, (uint64_t)SHARE_HEALTH_LONGEST_MS);
    }
    cr_expect_eq(ms, (uint64_t)SHARE_HEALTH_LONGEST_MS);
}

Test(health, it_grows_where_it_fails_again_soon_and_is_forgotten_later)
{
    begin(2);
    fail(0, 3);
    pass_time(EJECTED_MS);
    answer(give(0), "{}");
    fail(0, 3);
    pass_time(EJECTED_MS);
    cr_expect(is_out(0)); /* for 20 s */
    pass_time(EJECTED_MS);
    answer(give(0), "{}");
    pass_time(SHARE_HEALTH_LONGEST_MS + 1);
    fail(0, 3);
    pass_time(EJECTED_MS);
    cr_expect_not(is_out(0));
}

Test(health, a_cancelled_call_says_nothing)
{
    begin(2);
    for (size_t i = 0; i < 5; i++)
        pool_abandon(give(0));
    cr_expect_not(is_out(0));
}

Test(health, another_call_is_tried_where_the_first_is_cancelled)
{
    begin(2);
    fail(0, 3);
    pass_time(EJECTED_MS);
    struct job *tried = give(0);
    cr_expect(is_out(0));
    pool_abandon(tried);
    cr_expect(!is_out(0) && worker_at(0)->trying);
    answer(give(0), "{}");
    cr_expect_not(worker_at(0)->trying);
}

Test(health, deadlines_that_pass_are_failures)
{
    begin(2);
    struct job *late[3];
    for (size_t i = 0; i < 3; i++)
        late[i] = give(0);
    fake_clock_advance(1000);
    shardlet_turn(&shard);
    for (size_t i = 0; i < 2; i++)
        pool_abandon(late[i]);
    cr_expect_not(is_out(0));
    pool_abandon(late[2]);
    cr_expect(is_out(0));
    answer(late[0], "{}"); /* too late: no success */
    cr_expect(is_out(0));
}

/* Deadlines that pass when the worker has had the calls for `ms`, in a pool where calls take 100.
 */
static void pass_deadlines(uint32_t calls, uint64_t ms, bool known)
{
    for (uint32_t i = 0; i < calls; i++) {
        struct job *job = give(0);
        fake_clock_advance(ms);
        shardlet_turn(&shard);
        job->expires = ctx_now(pool->ctx);
        pool->service = (struct service){
            .mean_ns = 100000000, .noted_at = ctx_now(pool->ctx), .known = known};
        pool_abandon(job);
        answer(job, "{}"); /* its slot is free again; what is too late is no success */
    }
}

Test(health, a_call_that_came_with_little_time_left_is_no_failure)
{
    begin(2);
    pass_deadlines(3, 99, true);
    cr_expect_not(is_out(0));
    pass_deadlines(2, 100, true);
    pass_deadlines(3, 99, true);
    cr_expect_not(is_out(0));
    pass_deadlines(1, 99, false); /* it is not known that this is little */
    cr_expect(is_out(0));
}

/* Its process ends with calls in progress, and another one takes its place. */
static void crash(size_t n, unsigned pid, unsigned calls)
{
    char hello[96];
    for (unsigned i = 0; i < calls; i++)
        give(n);
    read_call(n);
    fake_worker_hang_up(&workers[n]);
    shardlet_turn(&shard);
    for (unsigned i = 0; i < 50 && worker_at(n)->channel.state != CHANNEL_GREETING; i++) {
        fake_clock_advance(100);
        shardlet_turn(&shard);
    }
    snprintf(hello, sizeof(hello), "{\"protocol\":1,\"concurrency\":8,\"pid\":%u}", pid);
    greet(n, hello);
}

Test(health, the_loss_of_a_process_is_one_failure_however_many_calls_it_had)
{
    begin_with(2, "health: {failures: 3}", "{\"protocol\":1,\"concurrency\":8,\"pid\":100}");
    crash(0, 101, 5);
    cr_expect_not(is_out(0));
    crash(0, 102, 1);
    crash(0, 103, 0); /* without calls it is none */
    cr_expect_not(is_out(0));
    crash(0, 104, 1);
    cr_expect(is_out(0)); /* also as another process */
}

Test(health, at_most_half_of_a_pool)
{
    begin(4);
    for (size_t i = 0; i < 3; i++)
        fail(i, 3);
    cr_expect(is_out(0) && is_out(1) && !is_out(2) && !is_out(3));
    cr_expect_eq(pool->nout, 2u);
}

Test(health, half_of_three_is_one)
{
    begin(3);
    fail(0, 3);
    fail(1, 3);
    cr_expect(is_out(0) && !is_out(1));
}

Test(health, the_only_worker_stays)
{
    begin(1);
    fail(0, 10);
    cr_expect_not(is_out(0));
    cr_expect_eq(submit()->state, JOB_SENT);
}

Test(health, one_that_is_left_out_comes_back_where_others_go)
{
    begin(2);
    fail(0, 3);
    cr_expect(is_out(0));
    fake_worker_hang_up(&workers[1]);
    shardlet_turn(&shard);
    cr_expect_not(is_out(0));
    cr_expect_eq(submit()->state, JOB_SENT);
}

/* And is left out again with the first other one that comes, before it gets a call. */
Test(health, one_that_came_back_goes_where_others_come)
{
    begin(2);
    fail(0, 3);
    fake_worker_hang_up(&workers[1]);
    shardlet_turn(&shard);
    cr_assert_not(is_out(0));
    fake_clock_advance(100); /* it is dialled again */
    shardlet_turn(&shard);
    greet(1, "{\"protocol\":1,\"concurrency\":8}");
    cr_expect(worker_at(1)->ready && is_out(0));
    for (size_t i = 0; i < 6; i++)
        cr_expect_eq(number_of(submit()->worker), 1u);
}

Test(health, what_only_one_takes_keeps_it)
{
    begin_with(
        2, "health: {failures: 3}", "{\"protocol\":1,\"methods\":[\"m\"],\"concurrency\":8}");
    fail(0, 3);
    cr_expect(is_out(0)); /* the other one takes the same */
    pass_time(EJECTED_MS);
    answer(give(0), "{}");
    cr_expect_not(is_out(0));
    worker_at(0)->methods[0][0] = 'n'; /* what the other one does not take */
    cr_expect_not(worker_takes(worker_at(1), SPAN("n")));
    for (size_t i = 0; i < 3; i++)
        health_bad(worker_at(0), 0);
    cr_expect_not(is_out(0));
}

Test(health, a_hash_leads_elsewhere_while_its_worker_is_left_out)
{
    begin_with(2, "health: {failures: 3}, balance: hash, hash: conn",
        "{\"protocol\":1,\"concurrency\":1}");
    while (number_of(submit()->worker) != 0) {
        answer(&jobs[given - 1], "{}");
        jobs[given - 1].hash += 7919;
        jobs[given].hash = jobs[given - 1].hash;
        given--;
    }
    uint64_t hash = jobs[given - 1].hash;
    jobs[given].hash = hash;
    struct job *waits = submit();
    cr_expect_eq(waits->state, JOB_QUEUED);
    answer(&jobs[given - 2], "garbage");
    answer(waits, "garbage");
    jobs[given].hash = jobs[given + 1].hash = hash;
    struct job *third = submit();
    waits = submit();
    answer(third, "garbage");
    cr_expect(is_out(0));
    cr_expect(waits->state == JOB_SENT && number_of(waits->worker) == 1);
}

Test(health, another_shard_says_so_too)
{
    begin(2);
    struct share *share = pool->ctx->share;
    int entry = worker_at(0)->health;
    cr_expect_eq(share_health_eject(share, entry, ctx_now(pool->ctx), 1000, false), 1000u);
    cr_expect_not(is_out(0));
    pool_wake(pool);
    cr_expect(is_out(0));
    pass_time(1000);
    cr_expect_not(is_out(0));
    /* The other shard has the call that is tried. */
    cr_expect(share_health_try(share, entry, ctx_now(pool->ctx), ctx_now(pool->ctx) + 500));
    for (size_t i = 0; i < 6; i++)
        cr_expect_eq(number_of(submit()->worker), 1u);
    pass_time(501); /* and is not heard of again */
    cr_expect_not(is_out(0));
    answer(give(0), "{}");
    cr_expect_eq(share_health_state(share, entry, ctx_now(pool->ctx)), SHARE_HEALTH_WELL);
}

Test(health, what_is_written_wrongly_leaves_out_for_no_longer)
{
    begin(2);
    struct share *share = pool->ctx->share;
    int entry = worker_at(0)->health;
    uint64_t now = ctx_now(pool->ctx);
    share_health_eject(share, entry, now + SHARE_HEALTH_LONGEST_MS, 1, false);
    cr_expect_eq(share_health_state(share, entry, now), SHARE_HEALTH_WELL);
    pool_wake(pool);
    cr_expect_not(is_out(0));
}

Test(health, a_notification_is_no_trial)
{
    begin(2);
    fail(0, 3);
    pass_time(EJECTED_MS);
    while (worker_at(0)->trying) {
        jobs[given].notify = true;
        submit();
        given--;
    }
    cr_expect_not(is_out(0));
    jobs[given].notify = false;
    fail(0, 1);
    cr_expect(is_out(0));
    pass_time(EJECTED_MS);
    cr_expect(is_out(0));
}

Test(health, a_drained_worker_is_not_left_out)
{
    begin(2);
    fail(0, 3);
    cr_expect_eq(pool->nout, 1u);
    pool_worker_unready(pool, worker_at(0));
    cr_expect_eq(pool->nout, 0u);
    pool_hold_back(pool); /* it is drained no more */
    cr_expect(is_out(0));
}

Test(health, an_answer_of_a_client_finds_the_worker_that_has_asked)
{
    begin_with(
        2, "health: {failures: 3}", "{\"protocol\":1,\"concurrency\":8,\"responses\":\"w\"}");
    worker_at(0)->responses[0] = 'v';
    fail(0, 3);
    cr_expect(is_out(0));
    cr_expect_eq(asker_find(pool, SPAN("\"v1\""), NULL), worker_at(0));
}

enum { SLOW_MS = 10000 };

/* Four workers that have been there for long, and then one that has just come. */
static void begin_with_a_new_one(const char *keys)
{
    begin_with(4, keys, "{\"protocol\":1,\"concurrency\":8,\"pid\":100}");
    pool->random = 0x9e3779b97f4a7c15ULL; /* the same draws each time */
    pass_time(SLOW_MS);
    cr_assert_not(slow_start_goes_on(pool));
    crash(3, 101, 0);
    cr_assert(slow_start_goes_on(pool));
}

/* Of that many calls, one after the other, those that the worker gets. */
static unsigned count_calls(size_t n, unsigned calls, uint64_t hash)
{
    unsigned count = 0;
    for (unsigned i = 0; i < calls; i++) {
        struct job *job = &jobs[given % JOBS];
        job->hash = hash;
        submit();
        cr_assert_eq(job->state, JOB_SENT);
        count += number_of(job->worker) == n;
        answer(job, "{}");
        cr_assert_eq(job->state, JOB_IDLE);
        given %= JOBS - 1;
    }
    return count;
}

Test(slow_start, the_part_of_a_new_worker_rises, .init = set_up, .fini = tear_down)
{
    begin_with_a_new_one("slow_start: 10s");
    unsigned at_first = count_calls(3, 1000, 0); /* 25 of them, about */
    pass_time(SLOW_MS / 2);
    unsigned later = count_calls(3, 1000, 0); /* 125 */
    pass_time(SLOW_MS / 2);
    cr_assert_not(slow_start_goes_on(pool));
    unsigned at_last = count_calls(3, 1000, 0); /* 250 */
    cr_expect(at_first > 5 && at_first < 60, "%u", at_first);
    cr_expect(later > 80 && later < 170, "%u", later);
    cr_expect(at_last > 200 && at_last < 300, "%u", at_last);
}

Test(slow_start, off_by_default, .init = set_up, .fini = tear_down)
{
    begin_with(4, "kill_after: 60s", "{\"protocol\":1,\"concurrency\":8,\"pid\":100}");
    pool->random = 0x9e3779b97f4a7c15ULL;
    pass_time(SLOW_MS);
    crash(3, 101, 0);
    cr_assert_not(slow_start_goes_on(pool));
    unsigned count = count_calls(3, 1000, 0);
    cr_expect(count > 200 && count < 300, "%u", count);
}

/* All have come at once: each has its part, by load. */
Test(slow_start, none_is_passed_over_where_all_are_new, .init = set_up, .fini = tear_down)
{
    struct queue_set held = {0};
    begin_with(4, "slow_start: 10s", "{\"protocol\":1,\"concurrency\":8,\"pid\":100}");
    cr_assert(slow_start_goes_on(pool));
    for (unsigned i = 0; i < 100; i++)
        slow_start_draw(pool, &held);
    for (uint32_t i = 0; i < pool->nready; i++)
        cr_expect_not(queue_set_has(&held, i));
}

/* No call waits while the new one has a slot; those beyond wait, and are served in their order. */
Test(slow_start, no_call_waits_for_it, .init = set_up, .fini = tear_down)
{
    begin_with_a_new_one("slow_start: 10s");
    for (unsigned i = 0; i < 4 * 8; i++)
        cr_expect_eq(submit()->state, JOB_SENT);
    cr_expect_eq(pool->queue.count, 0u);
    struct job *next = submit();
    struct job *last = submit();
    cr_expect(next->state == JOB_QUEUED && last->state == JOB_QUEUED);
    for (size_t i = 0; i < 4 * 8 && next->state == JOB_QUEUED; i++) {
        if (number_of(jobs[i].worker) == 3) /* its slots go to those that wait */
            answer(&jobs[i], "{}");
    }
    cr_expect(next->state == JOB_SENT && number_of(next->worker) == 3);
    cr_expect_eq(last->state, JOB_QUEUED);
}

/* With bounded load its keys go to their next worker meanwhile, all to the same one. */
Test(slow_start, with_bounded_load, .init = set_up, .fini = tear_down)
{
    begin_with_a_new_one("slow_start: 10s, balance: bounded, hash: peer");
    pass_time(SLOW_MS);
    uint64_t hash = 1;
    while (count_calls(3, 1, hash) == 0)
        hash++;
    cr_assert_eq(count_calls(3, 100, hash), 100u);
    crash(3, 102, 0);
    unsigned counts[4];
    for (size_t n = 0; n < 4; n++)
        counts[n] = count_calls(n, 100, hash);
    cr_expect(counts[3] > 0 && counts[3] < 30, "%u", counts[3]);
    unsigned others = (counts[0] != 0) + (counts[1] != 0) + (counts[2] != 0);
    cr_expect_eq(others, 1u);
}

Test(slow_start, of_one_that_comes_back, .init = set_up, .fini = tear_down)
{
    begin_with(2, "slow_start: 10s, health: {failures: 3, ejected: 10s}",
        "{\"protocol\":1,\"concurrency\":8}");
    pass_time(SLOW_MS);
    fail(0, 3);
    pass_time(EJECTED_MS);
    cr_assert_not(slow_start_goes_on(pool));
    answer(give(0), "{}");
    cr_expect(!is_out(0) && slow_start_goes_on(pool));
    cr_expect_eq(share_worker_came(pool->ctx->share, worker_at(0)->share), ctx_now(pool->ctx));
    pass_time(SLOW_MS);
    cr_expect_not(slow_start_goes_on(pool));
}
