#include "tests/unit/support/pool_fixture.h"

TestSuite(pool, .init = set_up, .fini = tear_down);

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
