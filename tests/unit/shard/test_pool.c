#include <criterion/criterion.h>
#include <string.h>

#include "common/alloc.h"
#include "frontd/ipc/shm_holds.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_workers.h"
#include "frontd/shard/upstream/pool.h"
#include "frontd/shard/upstream/worker.h"
#include "tests/unit/support/fake_clock.h"
#include "tests/unit/support/fake_worker.h"
#include "tests/unit/support/said.h"
#include "tests/unit/support/shardlet.h"

#define HELLO(more)    "{\"protocol\":1" more "}"
#define CONCURRENCY(n) HELLO(",\"concurrency\":" n)

enum { WORKERS = 2, JOBS = 10 };

static struct shardlet shard;
static struct pool *pool;
static struct fake_worker workers[WORKERS];
static struct job jobs[JOBS];

static void on_answered(struct job *job, struct worker *worker, const struct frame *frame)
{
    say("%td answered with %zu;", job - jobs, frame->body.n + frame->blob.n);
    cr_assert(job->state == JOB_IDLE && worker->pool == pool);
}

static void on_delivered(struct job *job)
{
    say("%td delivered;", job - jobs);
    cr_assert_eq(job->state, JOB_IDLE);
}

static void on_failed(struct job *job, enum rpc_error error)
{
    say("%td failed: %d;", job - jobs, error);
    cr_assert_eq(job->state, JOB_IDLE);
}

static void on_given_up(struct job *job, enum rpc_error error)
{
    say("%td given up: %d;", job - jobs, error);
    cr_assert_not(pool_abandon(job));
}

static bool on_part(struct job *job, size_t n)
{
    say("part of %td: %zu;", job - jobs, n);
    return true;
}

static const struct job_ops ops = {
    .answered = on_answered,
    .delivered = on_delivered,
    .failed = on_failed,
    .given_up = on_given_up,
    .part = on_part,
};

/* keys: of the pool, besides its name and its two workers. */
static void begin(const char *keys)
{
    char conf[2048];
    snprintf(conf, sizeof(conf),
        "listeners:\n"
        "  - {name: lines, address: 127.0.0.1:8081, protocol: line, pool: app}\n"
        "pools:\n"
        "  - {name: app, workers: [\"unix:%s\", \"unix:%s\"], %s}\n",
        workers[0].path, workers[1].path, keys);
    fake_clock_stop();
    shardlet_init(&shard, conf, 0);
    pool = &shard.pools[0];
    pool->ops = &ops;
    cr_assert_eq(pool_open(pool), 0);
    shardlet_turn(&shard);
}

static void make_frame(struct job *job)
{
    const struct frame_head head = {.type = FRAME_REQUEST, .length = 2};
    frame_head_write(&head, (uint8_t *)buf_room(&job->frame, FRAME_HEAD_SIZE));
    buf_added(&job->frame, FRAME_HEAD_SIZE);
    cr_assert_eq(buf_append(&job->frame, "{}", 2), 0);
}

static void set_up(void)
{
    memset(jobs, 0, sizeof(jobs));
    for (size_t i = 0; i < JOBS; i++)
        make_frame(&jobs[i]);
    for (size_t i = 0; i < WORKERS; i++)
        fake_worker_listen(&workers[i]);
}

static void tear_down(void)
{
    said[0] = '\0';
    shardlet_deinit(&shard);
    for (size_t i = 0; i < JOBS; i++) {
        cr_expect_eq(jobs[i].state, JOB_IDLE, "%zu", i);
        buf_deinit(&jobs[i].frame);
    }
    for (size_t i = 0; i < WORKERS; i++)
        fake_worker_end(&workers[i]);
    cr_expect_eq(mem_in_use(), (size_t)0);
}

TestSuite(pool, .init = set_up, .fini = tear_down);

/* A worker greets. */
static void greet(size_t n, const char *hello)
{
    struct frame frame;
    if (workers[n].fd < 0)
        cr_assert(fake_worker_accept(&workers[n]));
    cr_assert_eq(fake_worker_next(&workers[n], &frame), FRAME_HELLO);
    fake_worker_send(&workers[n], FRAME_HELLO, 0, 0, hello);
    shardlet_turn(&shard);
}

static void pass_time(uint64_t ms)
{
    fake_clock_advance(ms);
    shardlet_turn(&shard);
}

/* Gives the pool a job of this client's connection. */
static void submit_of(size_t n, uint64_t flow, const char *method)
{
    struct job *job = &jobs[n];
    job->flow = flow;
    job->method = method;
    job->method_len = (uint32_t)strlen(method);
    pool_submit(pool, job);
}

static void submit(size_t n)
{
    submit_of(n, n + 1, "m");
}

/* What a worker has got: the type of each frame, with its call, and 'r' where it is a retry. */
static void expect_sent(size_t n, const char *text)
{
    char got[256] = "";
    struct frame frame;
    shardlet_turn(&shard);
    while (fake_worker_next(&workers[n], &frame) != 0)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%u:%llu%s ", frame.head.type,
            (unsigned long long)frame.head.call, frame.head.flags & FRAME_F_RETRY ? "r" : "");
    cr_expect_str_eq(got, text);
}

static void answer(size_t n, uint64_t call)
{
    fake_worker_send(&workers[n], FRAME_RESPONSE, 0, call, "{}");
    shardlet_turn(&shard);
}

/* Which worker has the job. */
static size_t worker_of(size_t n)
{
    cr_assert_eq(jobs[n].state, JOB_SENT);
    return strcmp(jobs[n].worker->text + 5, workers[0].path) == 0 ? 0 : 1;
}

static uint64_t in_queue(void)
{
    return pool->queue.count;
}

Test(pool, gives_jobs_to_free_workers_and_then_queues)
{
    begin("queue: 10");
    cr_expect_not(pool_settled(pool));
    greet(0, CONCURRENCY("1"));
    greet(1, CONCURRENCY("1"));
    cr_expect(pool_settled(pool));
    for (size_t i = 0; i < 4; i++)
        submit(i);
    cr_expect(worker_of(0) != worker_of(1) && in_queue() == 2);
    expect_sent(0, "2:1 ");
    expect_sent(1, "2:1 ");
    size_t other = worker_of(1);
    answer(other, 1);
    expect_said("1 answered with 2;");
    cr_expect(worker_of(2) == other && in_queue() == 1);
    expect_sent(other, "2:2 ");
    answer(1 - other, 1);
    answer(0, 2);
    answer(1, 2);
    cr_expect_eq(in_queue(), 0u);
}

Test(pool, clients_take_turns)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    submit_of(0, 1, "m");
    submit_of(1, 1, "m");
    submit_of(2, 1, "m");
    submit_of(3, 2, "m");
    for (uint64_t call = 1; call <= 4; call++) {
        answer(0, call);
        pass_time(1);
    }
    expect_said("0 answered with 2;1 answered with 2;3 answered with 2;2 answered with 2;");
}

Test(pool, a_notification_is_delivered_when_it_is_on_its_way)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    jobs[0].notify = jobs[1].notify = true;
    submit(0);
    submit(1);
    expect_said("0 delivered;1 delivered;");
    expect_sent(0, "2:1 2:2 ");
}

Test(pool, a_full_queue_refuses)
{
    begin("queue: 2");
    greet(0, CONCURRENCY("1"));
    for (size_t i = 0; i < 4; i++)
        submit(i);
    expect_said("3 failed: -32001;");
    answer(0, 1);
    expect_said("0 answered with 2;");
    submit(4);
    cr_expect_eq(in_queue(), 2u);
}

Test(pool, a_full_queue_has_most_of_one_client_and_gives_its_newest_up)
{
    begin("queue: 3");
    greet(0, CONCURRENCY("1"));
    submit_of(0, 1, "m");
    for (size_t i = 1; i <= 3; i++)
        submit_of(i, 1, "m");
    submit_of(4, 2, "m");
    expect_said("3 failed: -32001;");
    cr_expect(jobs[4].state == JOB_QUEUED && in_queue() == 3);
}

/* The worker answers so many calls, each of which takes it so long. Returns the next call's id. */
static uint64_t measure_from(uint64_t call, uint32_t calls, uint64_t ms)
{
    for (uint32_t i = 0; i < calls; i++) {
        submit(0);
        pass_time(ms);
        answer(0, call++);
    }
    said[0] = '\0';
    return call;
}

static uint64_t measure(uint32_t calls, uint64_t ms)
{
    return measure_from(1, calls, ms);
}

/* Has so many jobs of different clients wait for a worker that has one already; without a deadline
 * that could matter. */
static void make_wait(size_t n)
{
    for (size_t i = 0; i <= n; i++) {
        jobs[i].expires = UINT64_MAX;
        submit(i);
    }
    cr_assert_eq(in_queue(), n);
}

static void submit_with(size_t n, uint64_t ms_left)
{
    jobs[n].expires = ctx_now(&shard.ctx) + ms_left;
    submit(n);
}

Test(pool, a_job_is_refused_that_would_wait_beyond_its_deadline)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    measure(SERVICE_WINDOW, 10);
    make_wait(3);
    submit_with(4, 43); /* three calls of 10 ms, an 8th more, and its own */
    expect_said("4 failed: -32001;");
    cr_expect_eq(jobs[4].refused, JOB_REFUSED_WAIT);
    submit_with(5, 44);
    cr_expect_eq(jobs[5].state, JOB_QUEUED);
    jobs[6].notify = true;
    submit_with(6, 1);
    cr_expect_eq(jobs[6].state, JOB_QUEUED, "a notification has no answer that could be late");
    expect_said("");
}

Test(pool, another_client_with_many_jobs_counts_once)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    measure(SERVICE_WINDOW, 10);
    for (size_t i = 0; i < 5; i++) {
        jobs[i].expires = UINT64_MAX;
        submit_of(i, 1, "m");
    }
    submit_with(5, 21);
    expect_said("5 failed: -32001;");
    submit_with(6, 22);
    cr_expect_eq(jobs[6].state, JOB_QUEUED);
}

Test(pool, few_samples_refuse_nothing)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    uint64_t call = measure(SERVICE_WINDOW - 1, 10);
    make_wait(3);
    submit_with(4, 1);
    cr_expect_eq(jobs[4].state, JOB_QUEUED);
    answer(0, call);
    answer(0, call + 1);
    cr_expect_eq(jobs[2].state, JOB_SENT);
}

Test(pool, a_job_is_refused_when_its_turn_is_too_late)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    uint64_t call = measure(SERVICE_WINDOW, 10);
    make_wait(0);
    submit_with(1, 19);
    jobs[2].notify = true;
    submit_with(2, 19);
    pass_time(10);
    answer(0, call);
    expect_said("0 answered with 2;1 failed: -32001;2 delivered;");
    cr_expect_eq(jobs[1].refused, JOB_REFUSED_LATE);
    make_wait(0);
    submit_with(3, 20);
    pass_time(10);
    answer(0, call + 2);
    expect_said("0 answered with 2;");
    cr_expect_eq(jobs[3].state, JOB_SENT, "10 ms are enough");
}

/* All workers are known to take so long for each call. */
static void know(uint64_t ms)
{
    for (uint32_t i = 0; i < pool->nready; i++)
        pool->ready[i]->service = (struct service){
            .mean_ns = ms * 1000000, .noted_at = ctx_now(&shard.ctx), .known = true};
}

static void submit_hashed(size_t n, uint64_t flow, uint64_t hash, uint64_t ms_left)
{
    jobs[n].hash = hash;
    jobs[n].expires = ctx_now(&shard.ctx) + ms_left;
    submit_of(n, flow, "m");
}

/* A hash by which a call goes to the other worker than the calls of hash 1 do. */
static uint64_t other_hash(void)
{
    for (uint64_t hash = 2;; hash++) {
        struct balance_hash one = balance_hash(1);
        struct balance_hash other = balance_hash(hash);
        for (uint32_t i = 0; i < pool->nready; i++) {
            balance_offer(&one, i, pool->ready[i]->rank, 1);
            balance_offer(&other, i, pool->ready[i]->rank, 1);
        }
        if (one.at != other.at)
            return hash;
    }
}

Test(pool, with_a_hash_each_worker_has_a_wait_of_its_own)
{
    begin("queue: 20, balance: hash, hash: conn");
    greet(0, CONCURRENCY("1"));
    greet(1, CONCURRENCY("1"));
    know(10);
    for (size_t i = 0; i < 4; i++)
        submit_hashed(i, i + 1, 1, 60000);
    submit_hashed(4, 5, 1, 43); /* as where all workers take all calls */
    expect_said("4 failed: -32001;");
    cr_expect_eq(jobs[4].refused, JOB_REFUSED_WAIT);
    cr_expect_eq(pool_retry_after(&jobs[4]), 1u);
    know(1500);
    cr_expect_eq(pool_retry_after(&jobs[4]), 5u);
    know(10);
    submit_hashed(4, 5, 1, 44);
    submit_hashed(5, 6, other_hash(), 60000);
    cr_expect(jobs[4].state == JOB_QUEUED && jobs[5].state == JOB_SENT);
    submit_hashed(6, 7, other_hash(), 1);
    cr_expect_eq(jobs[6].state, JOB_QUEUED, "nothing waits for that worker");
    shardlet_turn(&shard);
    submit_hashed(7, 8, 1, 54); /* what has been told at the end of the turn is the same */
    expect_said("7 failed: -32001;");
    submit_hashed(7, 8, 1, 55);
    cr_expect_eq(jobs[7].state, JOB_QUEUED);
    pool->ready[0]->service.known = pool->ready[1]->service.known = false;
    submit_hashed(8, 9, 1, 1);
    cr_expect_eq(jobs[8].state, JOB_QUEUED, "nothing is known");
    expect_said("");
}

Test(pool, with_a_hash_a_client_with_many_jobs_counts_once_for_others)
{
    begin("queue: 20, balance: hash, hash: peer");
    greet(0, CONCURRENCY("1"));
    know(10);
    for (size_t i = 0; i < 6; i++)
        submit_hashed(i, 1, 1, 60000);
    for (int told = 0; told < 2; told++) {
        submit_hashed(6, 2, 1, 21);
        expect_said("6 failed: -32001;");
        submit_hashed(7, 1, 1, 66);
        expect_said("7 failed: -32001;"); /* it waits for all of its own */
        shardlet_turn(&shard);
    }
    submit_hashed(6, 2, 1, 22);
    submit_hashed(7, 1, 1, 78); /* and for the other one's, too */
    cr_expect(jobs[6].state == JOB_QUEUED && jobs[7].state == JOB_QUEUED);
    expect_said("");
}

static bool worker_has(size_t n, const char *method)
{
    struct worker *worker = pool->ready[n];
    return worker_takes(worker, (struct span){method, strlen(method)});
}

static void submit_method(size_t n, const char *method, uint64_t ms_left)
{
    jobs[n].expires = ctx_now(&shard.ctx) + ms_left;
    submit_of(n, n + 1, method);
}

/* One worker takes `a` and the other one both; calls of `a` count half for each. */
Test(pool, where_workers_name_their_methods_the_shortest_wait_counts)
{
    begin("queue: 20");
    greet(0, HELLO(",\"concurrency\":1,\"methods\":[\"a\"]"));
    greet(1, HELLO(",\"concurrency\":1,\"methods\":[\"a\",\"b\"]"));
    know(10);
    submit_method(0, "b", 60000);
    submit_method(1, "a", 60000);
    cr_assert(worker_of(0) == 1 && worker_of(1) == 0);
    submit_method(2, "b", 60000);
    submit_method(3, "b", 60000);
    submit_method(4, "a", 1);
    cr_expect_eq(jobs[4].state, JOB_QUEUED, "nothing waits for the first worker");
    for (size_t i = 5; i < 8; i++)
        submit_method(i, "a", 60000);
    for (int told = 0; told < 2; told++) {
        submit_method(8, "b", 54);
        expect_said("8 failed: -32001;");
        submit_method(8, "a", 32);
        expect_said("8 failed: -32001;");
        shardlet_turn(&shard);
    }
    submit_method(8, "a", 33);
    submit_method(9, "b", 61); /* half a call more waits for its worker now */
    cr_expect(jobs[8].state == JOB_QUEUED && jobs[9].state == JOB_QUEUED);
    expect_said("");
}

/* It is refused though its worker is busy, unless it may have another one that is quicker. */
Test(pool, where_workers_differ_a_turn_may_be_too_late_for_all_of_them)
{
    begin("queue: 20");
    greet(0, HELLO(",\"concurrency\":1,\"methods\":[\"a\"]"));
    greet(1, HELLO(",\"concurrency\":1,\"methods\":[\"a\",\"b\"]"));
    know(10);
    for (size_t i = 0; i < 2; i++)
        pool->ready[i]->service.least[1] = worker_has(i, "b") ? 9000 : 7000;
    submit_method(0, "b", 60000);
    submit_method(1, "a", 60000);
    submit_method(2, "b", 8);
    expect_said("2 failed: -32001;");
    cr_expect_eq(jobs[2].refused, JOB_REFUSED_LATE);
    submit_method(3, "a", 8);
    cr_expect_eq(jobs[3].state, JOB_QUEUED);
    submit_method(4, "a", 6);
    expect_said("4 failed: -32001;");
}

/* Its own time is what is known of a worker, not that of others. */
Test(pool, where_workers_differ_each_has_its_own_time)
{
    begin("queue: 10, balance: hash, hash: conn");
    greet(0, CONCURRENCY("1"));
    uint64_t call = measure(SERVICE_WINDOW, 10);
    make_wait(0);
    submit_with(1, 19); /* nothing waits before it */
    cr_expect_eq(jobs[1].state, JOB_QUEUED);
    pass_time(10);
    answer(0, call);
    expect_said("0 answered with 2;1 failed: -32001;"); /* its turn is too late */
    greet(1, CONCURRENCY("1"));
    cr_expect_not(service_known(&pool->ready[1]->service, ctx_now(&shard.ctx)));
    cr_expect(service_known(&pool->ready[0]->service, ctx_now(&shard.ctx)));
}

Test(pool, when_to_come_again)
{
    static const struct {
        uint64_t ms;
        uint32_t calls;
        unsigned after;
    } rows[] = {
        {1500, SERVICE_WINDOW - 1, 1},                     /* not known yet */
        {10, SERVICE_WINDOW, 1}, {500, SERVICE_WINDOW, 4}, /* 7 calls: 3.5 s */
        {572, SERVICE_WINDOW, 5},                          /* 4.004 s */
        {8572, SERVICE_WINDOW, 60},                        /* 60.004 s: not beyond a minute */
    };
    begin("queue: 7");
    greet(0, CONCURRENCY("1"));
    for (size_t i = 0, call = 1; i < ARRAY_LEN(rows); i++) {
        pass_time(SERVICE_STALE_MS + 1);
        call = measure_from(call, rows[i].calls, rows[i].ms);
        make_wait(7);
        jobs[8].expires = UINT64_MAX;
        submit(8);
        expect_said("8 failed: -32001;");
        cr_expect_eq(jobs[8].refused, JOB_REFUSED_FULL);
        cr_expect_eq(
            pool_retry_after(&jobs[8]), rows[i].after, "%zu: %u", i, pool_retry_after(&jobs[8]));
        for (size_t n = 0; n <= 7; n++)
            answer(0, call++);
        said[0] = '\0';
    }
}

Test(pool, without_a_worker_jobs_wait_for_a_while)
{
    begin("queue: 10, wait_for_worker: 2s");
    submit(0);
    pass_time(1000);
    submit(1);
    pass_time(999);
    expect_said("");
    pass_time(1);
    expect_said("0 failed: -32004;");
    greet(0, CONCURRENCY("1"));
    expect_sent(0, "2:1 ");
    answer(0, 1);
    expect_said("1 answered with 2;");
}

Test(pool, without_memory_the_queue_refuses)
{
    begin("queue: 10");
    mem_fail_after(0);
    submit(0);
    mem_fail_after(-1);
    expect_said("0 failed: -32001;");
    submit(0);
    cr_expect_eq(in_queue(), 1u, "nothing is counted of the one before");
}

Test(pool, a_job_that_waits_is_abandoned_at_once)
{
    begin("queue: 1");
    submit(0);
    cr_expect(pool_abandon(&jobs[0]));
    cr_expect(jobs[0].state == JOB_IDLE && in_queue() == 0);
    submit(1);
    cr_expect_eq(jobs[1].state, JOB_QUEUED, "its place is free");
    expect_said("");
}

Test(pool, a_job_that_was_sent_keeps_its_slot_until_it_is_answered)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    submit(0);
    submit(1);
    cr_expect_not(pool_abandon(&jobs[0]));
    expect_sent(0, "2:1 4:1 ");
    cr_expect_eq(jobs[1].state, JOB_QUEUED);
    answer(0, 1);
    expect_said("0 answered with 2;");
    expect_sent(0, "2:2 ");
}

Test(pool, kill_after_takes_a_slot_back)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("2"));
    for (size_t i = 0; i < 3; i++)
        submit(i);
    pool_abandon(&jobs[0]);
    pool_give_up(&jobs[0]);
    cr_expect(jobs[0].orphan && jobs[2].state == JOB_SENT);
    expect_sent(0, "2:1 2:2 4:1 2:3 ");
    submit(3);
    answer(0, 1); /* gives no slot back a second time */
    expect_said("0 answered with 2;");
    cr_expect_eq(jobs[3].state, JOB_QUEUED);
}

Test(pool, kill_after_gives_up_a_worker_with_one_call_at_a_time)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    submit(0);
    pool_abandon(&jobs[0]);
    expect_sent(0, "2:1 4:1 ");
    pool_give_up(&jobs[0]);
    expect_said("0 failed: -32002;");
    cr_expect_eq(pool->nready, 0u);
    shardlet_turn(&shard);
    cr_expect(fake_worker_sees_end(&workers[0]));
}

/* An idempotent job goes elsewhere, unless it is abandoned; any other fails. */
Test(pool, a_worker_is_lost)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("8"));
    jobs[0].idempotent = true;
    submit(0);
    submit(1);
    jobs[2].idempotent = true;
    submit(2);
    expect_sent(0, "2:1 2:2 2:3 ");
    pool_abandon(&jobs[2]);
    fake_worker_hang_up(&workers[0]);
    shardlet_turn(&shard);
    expect_said("2 failed: -32002;1 failed: -32002;");
    cr_expect(jobs[0].state == JOB_QUEUED && jobs[0].tries == 1);
    greet(1, CONCURRENCY("8"));
    expect_sent(1, "2:1r ");
    answer(1, 1);
    expect_said("0 answered with 2;");
}

Test(pool, what_was_not_written_was_not_executed)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("8"));
    submit(0);
    channel_give_up(&pool->ready[0]->channel); /* before the turn's end */
    cr_expect_eq(jobs[0].state, JOB_QUEUED);
    expect_said("");
    greet(1, CONCURRENCY("8"));
    expect_sent(1, "2:1r ");
}

Test(pool, an_idempotent_job_is_tried_three_times)
{
    begin("queue: 10");
    jobs[0].idempotent = true;
    submit(0);
    for (unsigned i = 1; i <= WORKER_TRIES_MAX; i++) {
        greet(0, CONCURRENCY("8"));
        expect_sent(0, i == 1 ? "2:1 " : "2:1r ");
        cr_expect_eq(jobs[0].tries, i);
        expect_said("");
        fake_worker_hang_up(&workers[0]);
        shardlet_turn(&shard);
        pass_time(WORKER_RETRY_MAX_MS);
    }
    expect_said("0 failed: -32002;");
}

Test(pool, a_worker_that_goes_away_gives_back_what_it_has_not_started)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("8"));
    for (size_t i = 0; i < 3; i++)
        submit(i);
    expect_sent(0, "2:1 2:2 2:3 ");
    pool_abandon(&jobs[2]);
    fake_worker_send(&workers[0], FRAME_GOAWAY, 0, 0, "{\"reason\":\"restart\",\"last_call\":1}");
    shardlet_turn(&shard);
    expect_said("2 failed: -32002;");
    cr_expect(jobs[0].state == JOB_SENT && jobs[1].state == JOB_QUEUED);
    submit(3);
    cr_expect_eq(jobs[3].state, JOB_QUEUED, "it gets no more");
    greet(1, CONCURRENCY("8"));
    expect_sent(1, "2:1r 2:2 ");
    answer(0, 1);
    expect_said("0 answered with 2;");
}

Test(pool, a_worker_gets_only_methods_that_it_takes)
{
    begin("queue: 10");
    greet(0, HELLO(",\"concurrency\":8,\"methods\":[\"a\"]"));
    submit_of(0, 1, "a");
    submit_of(1, 1, "b");
    cr_expect(worker_of(0) == 0 && jobs[1].state == JOB_QUEUED);
    expect_said("");
    greet(1, HELLO(",\"concurrency\":8,\"methods\":[\"b\",\"c*\"]"));
    cr_expect_eq(worker_of(1), 1u);
    submit_of(2, 1, "cc");
    cr_expect_eq(worker_of(2), 1u);
    submit_of(3, 1, "d");
    expect_said("3 failed: -32601;");
}

Test(pool, a_hash_has_one_worker)
{
    size_t counts[WORKERS] = {0};
    begin("queue: 10, balance: hash, hash: conn");
    greet(0, CONCURRENCY("0"));
    greet(1, CONCURRENCY("0"));
    for (size_t i = 0; i < JOBS; i++) {
        jobs[i].hash = (i + 1) * 0x9e3779b97f4a7c15ULL;
        submit(i);
        counts[worker_of(i)]++;
    }
    cr_expect_eq(counts[0] + counts[1], JOBS);
    size_t first = worker_of(0);
    uint64_t call = jobs[0].sent.id;
    answer(first, call);
    submit(0);
    cr_expect_eq(worker_of(0), first);
}

/* The worker of its hash is busy: it waits, though another one is free. */
Test(pool, a_hash_waits_for_its_worker)
{
    begin("queue: 10, balance: hash, hash: conn");
    greet(0, CONCURRENCY("1"));
    greet(1, CONCURRENCY("1"));
    jobs[0].hash = jobs[1].hash = 7;
    submit(0);
    submit(1);
    cr_expect_eq(jobs[1].state, JOB_QUEUED);
    size_t its = worker_of(0);
    answer(its, 1);
    cr_expect_eq(worker_of(1), its);
}

/* All calls have one key: its worker has 1.25 times the mean, rounded up, and no call more. */
Test(pool, a_bounded_hash_spreads_a_key)
{
    enum { CALLS = 8 };
    size_t counts[WORKERS] = {0};
    begin("queue: 10, balance: bounded, hash: peer");
    greet(0, CONCURRENCY("0"));
    greet(1, CONCURRENCY("0"));
    for (size_t i = 0; i < CALLS; i++) {
        jobs[i].hash = 7;
        submit(i);
        counts[worker_of(i)]++;
        size_t most = counts[0] > counts[1] ? counts[0] : counts[1];
        cr_expect(most * 8 < 5 * (i + 1) + 8, "%zu of %zu", most, i + 1);
    }
    size_t its = worker_of(0);
    cr_expect_eq(counts[its], 5u); /* of 8 */
    uint64_t call = jobs[0].sent.id;
    answer(its, call);
    submit(0);
    cr_expect_eq(worker_of(0), its, "its worker is below the bound again");
}

/* No call waits while a slot is free, above the bound or not; what has waited goes to any worker.
 */
Test(pool, a_bounded_hash_waits_for_no_one_worker)
{
    begin("queue: 10, balance: bounded, hash: peer");
    greet(0, CONCURRENCY("1"));
    greet(1, CONCURRENCY("4"));
    for (size_t i = 0; i < 6; i++) {
        jobs[i].hash = 7;
        submit(i);
    }
    size_t counts[WORKERS] = {0};
    for (size_t i = 0; i < 5; i++)
        counts[worker_of(i)]++;
    cr_expect(counts[0] == 1 && counts[1] == 4 && in_queue() == 1);
    answer(0, 1);
    cr_expect_eq(worker_of(5), 0u);
}

/* Where workers differ in their methods, calls stay with those that take them. */
Test(pool, a_bounded_hash_keeps_to_methods)
{
    begin("queue: 10, balance: bounded, hash: peer");
    greet(0, HELLO(",\"concurrency\":0,\"methods\":[\"a\"]"));
    greet(1, HELLO(",\"concurrency\":0,\"methods\":[\"b\"]"));
    for (size_t i = 0; i < 4; i++) {
        jobs[i].hash = 7;
        submit_of(i, 1, "a");
        cr_expect_eq(worker_of(i), 0u);
    }
    submit_of(4, 1, "b");
    cr_expect_eq(worker_of(4), 1u);
}

Test(pool, an_answer_in_parts_is_gathered)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("1"));
    submit(0);
    expect_sent(0, "2:1 ");
    fake_worker_send(&workers[0], FRAME_RESPONSE, FRAME_F_MORE, 1, "{}");
    fake_worker_send_blob(&workers[0], FRAME_DATA, FRAME_F_MORE, 1, 70000);
    fake_worker_send_blob(&workers[0], FRAME_DATA, 0, 1, 10);
    expect_sent(0, "14:1 "); /* WINDOW */
    expect_said("part of 0: 2;part of 0: 70000;part of 0: 10;0 answered with 70012;");
}

Test(pool, a_wrong_answer_costs_its_job_alone)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("8"));
    submit(0);
    submit(1);
    submit(2);
    expect_sent(0, "2:1 2:2 2:3 ");
    fake_worker_send(&workers[0], FRAME_DATA, 0, 1, "");
    fake_worker_send(&workers[0], FRAME_RESPONSE, FRAME_F_MORE, 2, "{}");
    fake_worker_send(&workers[0], FRAME_RESPONSE, FRAME_F_MORE, 2, "{}");
    shardlet_turn(&shard);
    expect_said("0 failed: -32007;part of 1: 2;1 given up: -32007;");
    expect_sent(0, "4:2 ");
    fake_worker_send(&workers[0], FRAME_DATA, 0, 2, "");
    answer(0, 3);
    expect_said("1 answered with 0;2 answered with 2;");
}

Test(pool, leaves_its_workers)
{
    begin("queue: 10");
    greet(0, CONCURRENCY("8"));
    submit(0);
    expect_sent(0, "2:1 ");
    pool_leave(pool);
    expect_sent(0, "7:0 ");
    submit(1);
    cr_expect_eq(jobs[1].state, JOB_QUEUED);
    answer(0, 1);
    pool_drop_queue(pool);
    expect_said("0 answered with 2;1 failed: -32004;");
    cr_expect_not(pool_hang_up(pool));
    fake_worker_hang_up(&workers[0]);
    shardlet_turn(&shard);
    cr_expect(pool_hang_up(pool));
}

/* What an operator holds back */

static void pause_pool(bool paused)
{
    share_set_paused(shard.ctx.share, pool->row, paused);
    pool_hold_back(pool);
}

static const char *worker_text(size_t n)
{
    static char text[128];
    snprintf(text, sizeof(text), "unix:%s", workers[n].path);
    return text;
}

/* n: WORKERS: none. */
static void drain(size_t n)
{
    share_set_drained(
        shard.ctx.share, (const char *const[]){n < WORKERS ? worker_text(n) : NULL}, n < WORKERS);
    pool_hold_back(pool);
}

/* Whether these are what the shard tells of its workers. */
static void expect_counted(struct share_pool_workers want)
{
    pool_count_workers(pool);
    struct share_pool_workers told = share_pool_workers(shard.ctx.share, pool->row);
    cr_expect(told.ready == want.ready && told.known == want.known && told.slots == want.slots &&
                  told.hung == want.hung && told.drained == want.drained,
        "ready %u, known %u, slots %u, hung %u, drained %u", told.ready, told.known, told.slots,
        told.hung, told.drained);
}

Test(pool, workers_are_counted_by_state)
{
    begin("queue: 2");
    submit(0); /* only a seat that has been used is read */
    cr_assert(pool_abandon(&jobs[0]));
    expect_counted((struct share_pool_workers){.known = 2});
    greet(0, CONCURRENCY("4"));
    greet(1, CONCURRENCY("3"));
    expect_counted((struct share_pool_workers){.ready = 2, .known = 2, .slots = 7});
    drain(0);
    expect_counted((struct share_pool_workers){.ready = 1, .known = 2, .slots = 3, .drained = 1});
    drain(WORKERS);
    int row = pool->ready[0]->share;
    share_worker_set_hung(shard.ctx.share, row, 1);
    expect_counted((struct share_pool_workers){.ready = 2, .known = 2, .slots = 7, .hung = 1});
    share_worker_set_hung(shard.ctx.share, row, 0);
    expect_counted((struct share_pool_workers){.ready = 2, .known = 2, .slots = 7});
}

Test(pool, calls_wait_while_it_is_paused)
{
    begin("queue: 2, wait_for_worker: 1s");
    greet(0, CONCURRENCY("4"));
    submit(0);
    pause_pool(true);
    for (size_t i = 1; i < 4; i++)
        submit(i);
    expect_said("3 failed: -32001;"); /* the queue's limit holds */
    expect_sent(0, "2:1 ");
    pass_time(60000);
    expect_sent(0, "5:0 ");
    fake_worker_send(&workers[0], FRAME_PONG, 0, 0, "");
    answer(0, 1);
    expect_said("0 answered with 2;");
    cr_expect_eq(in_queue(), 2u);
    pause_pool(false);
    cr_expect_eq(in_queue(), 0u);
    expect_sent(0, "2:2 2:3 ");
    answer(0, 2);
    answer(0, 3);
    expect_said("1 answered with 2;2 answered with 2;");
}

Test(pool, calls_wait_while_it_is_paused_and_has_no_worker)
{
    begin("queue: 10, wait_for_worker: 1s");
    submit(0);
    pause_pool(true);
    pass_time(2000);
    greet(0, HELLO(",\"methods\":[\"a\"]"));
    submit_of(1, 2, "b"); /* which no worker takes just now */
    submit_of(2, 3, "a");
    pass_time(5000);
    expect_said("");
    pause_pool(false); /* from now on it is as ever */
    pass_time(900);
    expect_said("");
    answer(0, 1);
    expect_said("2 answered with 2;");
    pass_time(200);
    expect_said("0 failed: -32601;1 failed: -32601;");
}

Test(pool, calls_wait_while_it_is_paused_even_where_they_wait_for_no_worker)
{
    begin("queue: 10, wait_for_worker: 0s");
    pause_pool(true);
    submit(0);
    expect_said("");
    greet(0, CONCURRENCY("1"));
    pause_pool(false);
    answer(0, 1);
    expect_said("0 answered with 2;");
}

Test(pool, a_worker_that_is_drained_gets_no_new_calls)
{
    begin("queue: 10, wait_for_worker: 1s");
    greet(0, CONCURRENCY("1"));
    submit(0);
    submit(1);
    drain(0);
    expect_sent(0, "2:1 ");
    answer(0, 1);
    expect_said("0 answered with 2;");
    cr_expect_eq(in_queue(), 1u);
    greet(1, CONCURRENCY("1"));
    expect_sent(1, "2:1 ");
    answer(1, 1);
    expect_said("1 answered with 2;");
    for (size_t i = 2; i < 4; i++)
        submit(i);
    cr_expect(worker_of(2) == 1 && in_queue() == 1);
    drain(WORKERS);
    cr_expect_eq(worker_of(3), 0u);
    answer(1, 2);
    answer(0, 2);
    expect_said("2 answered with 2;3 answered with 2;");
}

Test(pool, a_worker_that_is_drained_before_it_is_there)
{
    begin("queue: 10, wait_for_worker: 1s");
    drain(0);
    greet(0, CONCURRENCY("1"));
    cr_expect_eq(pool->nready, 0u);
    submit(0);
    pass_time(1100);
    expect_said("0 failed: -32004;");
    drain(WORKERS);
    cr_expect_eq(pool->nready, 1u);
    submit(0);
    drain(0);
    drain(0); /* changes nothing */
    fake_worker_send(&workers[0], FRAME_GOAWAY, 0, 0, "{\"reason\":\"shutdown\"}");
    shardlet_turn(&shard);
    drain(WORKERS); /* nor does this: it goes away */
    cr_expect_eq(pool->nready, 0u);
    answer(0, 1);
    expect_said("0 answered with 2;");
}

/* The worker of its hash is busy, and drained: what waits for it has another one at once. */
Test(pool, a_hash_whose_worker_is_drained)
{
    begin("queue: 10, balance: hash, hash: conn");
    greet(0, CONCURRENCY("1"));
    greet(1, CONCURRENCY("1"));
    jobs[0].hash = jobs[1].hash = 7;
    submit(0);
    submit(1);
    size_t its = worker_of(0);
    drain(its);
    cr_expect_eq(worker_of(1), 1 - its);
    answer(its, 1);
    answer(1 - its, 1);
    expect_said("0 answered with 2;1 answered with 2;");
}
