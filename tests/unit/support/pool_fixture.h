#pragma once

/* A pool with workers that do what a test says, and jobs for them. */

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

static inline void on_answered(struct job *job, struct worker *worker, const struct frame *frame)
{
    say("%td answered with %zu;", job - jobs, frame->body.n + frame->blob.n);
    cr_assert(job->state == JOB_IDLE && worker->pool == pool);
}

static inline void on_delivered(struct job *job)
{
    say("%td delivered;", job - jobs);
    cr_assert_eq(job->state, JOB_IDLE);
}

static inline void on_failed(struct job *job, enum rpc_error error)
{
    say("%td failed: %d;", job - jobs, error);
    cr_assert_eq(job->state, JOB_IDLE);
}

static inline void on_given_up(struct job *job, enum rpc_error error)
{
    say("%td given up: %d;", job - jobs, error);
    cr_assert_not(pool_abandon(job));
}

static inline bool on_part(struct job *job, size_t n)
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
static inline void begin(const char *keys)
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

static inline void make_frame(struct job *job)
{
    const struct frame_head head = {.type = FRAME_REQUEST, .length = 2};
    frame_head_write(&head, (uint8_t *)buf_room(&job->frame, FRAME_HEAD_SIZE));
    buf_added(&job->frame, FRAME_HEAD_SIZE);
    cr_assert_eq(buf_append(&job->frame, "{}", 2), 0);
}

static inline void set_up(void)
{
    memset(jobs, 0, sizeof(jobs));
    for (size_t i = 0; i < JOBS; i++)
        make_frame(&jobs[i]);
    for (size_t i = 0; i < WORKERS; i++)
        fake_worker_listen(&workers[i]);
}

static inline void tear_down(void)
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

/* A worker greets. */
static inline void greet(size_t n, const char *hello)
{
    struct frame frame;
    if (workers[n].fd < 0)
        cr_assert(fake_worker_accept(&workers[n]));
    cr_assert_eq(fake_worker_next(&workers[n], &frame), FRAME_HELLO);
    fake_worker_send(&workers[n], FRAME_HELLO, 0, 0, hello);
    shardlet_turn(&shard);
}

static inline void pass_time(uint64_t ms)
{
    fake_clock_advance(ms);
    shardlet_turn(&shard);
}

/* Gives the pool a job of this client's connection. */
static inline void submit_of(size_t n, uint64_t flow, const char *method)
{
    struct job *job = &jobs[n];
    job->flow = flow;
    job->method = method;
    job->method_len = (uint32_t)strlen(method);
    pool_submit(pool, job);
}

static inline void submit(size_t n)
{
    submit_of(n, n + 1, "m");
}

/* What a worker has got: the type of each frame, with its call, and 'r' where it is a retry. */
static inline void expect_sent(size_t n, const char *text)
{
    char got[256] = "";
    struct frame frame;
    shardlet_turn(&shard);
    while (fake_worker_next(&workers[n], &frame) != 0)
        snprintf(got + strlen(got), sizeof(got) - strlen(got), "%u:%llu%s ", frame.head.type,
            (unsigned long long)frame.head.call, frame.head.flags & FRAME_F_RETRY ? "r" : "");
    cr_expect_str_eq(got, text);
}

static inline void answer(size_t n, uint64_t call)
{
    fake_worker_send(&workers[n], FRAME_RESPONSE, 0, call, "{}");
    shardlet_turn(&shard);
}

/* Which worker has the job. */
static inline size_t worker_of(size_t n)
{
    cr_assert_eq(jobs[n].state, JOB_SENT);
    return strcmp(jobs[n].worker->text + 5, workers[0].path) == 0 ? 0 : 1;
}

static inline uint64_t in_queue(void)
{
    return pool->queue.count;
}
