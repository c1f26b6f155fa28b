/* How long calls would wait for a worker, and which are refused for it. */

#include "tests/unit/support/pool_fixture.h"

TestSuite(pool_wait, .init = set_up, .fini = tear_down);

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

Test(pool_wait, a_job_is_refused_that_would_wait_beyond_its_deadline)
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

Test(pool_wait, another_client_with_many_jobs_counts_once)
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

Test(pool_wait, few_samples_refuse_nothing)
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

Test(pool_wait, a_job_is_refused_when_its_turn_is_too_late)
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

Test(pool_wait, with_a_hash_each_worker_has_a_wait_of_its_own)
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

Test(pool_wait, with_a_hash_a_client_with_many_jobs_counts_once_for_others)
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
Test(pool_wait, where_workers_name_their_methods_the_shortest_wait_counts)
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
Test(pool_wait, where_workers_differ_a_turn_may_be_too_late_for_all_of_them)
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
Test(pool_wait, where_workers_differ_each_has_its_own_time)
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

Test(pool_wait, when_to_come_again)
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
