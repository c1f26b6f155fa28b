/*
 * pool_submit() finds a worker with a free slot, or puts the job into the queue, where clients take
 * turns. A slot that becomes free (worker.c) leads to serve(), which gives it to the job with the
 * next turn among those that the worker may have.
 *
 * Where the queue is full, the client with most jobs in it loses its newest one to a client with
 * less. The limit counts over all shards: where the client with most is another shard's, the job is
 * let in, and that shard is told to give one up (shed()).
 *
 * While calls wait a timer tries again, since not everything that makes room is seen here: a slot
 * may be freed in another pool with the same worker, or by a process that dies and wakes no shard,
 * and a worker that was slow to read may have caught up.
 */

#include <errno.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_workers.h"
#include "frontd/shard/upstream/balance.h"
#include "frontd/shard/upstream/forecast.h"
#include "frontd/shard/upstream/pool_pick.h"
#include "frontd/shard/upstream/pool_share.h"
#include "frontd/shard/upstream/slow_start.h"
#include "frontd/shard/upstream/worker.h"

enum {
    RETRY_MS = 20, /* between two looks for a slot while calls wait */
    RETRY_AFTER_MIN_S = 1,
    RETRY_AFTER_MAX_S = 60,
};

static void set_of_item(const struct queue_item *item, struct queue_set *ret_set, void *data)
{
    pool_set_of(data, job_of_item((struct queue_item *)item), ret_set);
}

void pool_turn(struct pool *pool)
{
    if (UNLIKELY(pool->restless))
        pool_share_refresh(pool);
}

/* Gives a worker a job for which a slot has been taken; the worker may have to be told first whose
 * connection it has now. */
static void give(struct worker *worker, struct job *job, int slot)
{
    struct pool *pool = worker->pool;
    if (UNLIKELY(pool->conf->on_worker_lost != CONF_LOST_UNNOTED || pool->ctx->bound > 0))
        pool->ops->chosen(job, worker);
    worker_send(worker, job, slot);
}

/* Takes a job out of the queue. served: a worker gets it. */
static void unqueue(struct job *job, bool served)
{
    struct pool *pool = job->pool;
    if (served)
        job_serve(job, &pool->queue, ctx_now(pool->ctx));
    else
        job_dequeue(job, &pool->queue);
    share_queue_remove(pool->ctx->share, pool->ctx->seat, pool->row);
    pool_share_note(pool);
}

void pool_fail(struct job *job, enum rpc_error error)
{
    if (job->state == JOB_QUEUED)
        unqueue(job, false);
    CHECK(job->state == JOB_IDLE);
    job->pool->ops->failed(job, error);
}

static void refuse(struct job *job, enum job_refusal why)
{
    job->refused = (uint8_t)why;
    pool_fail(job, RPC_OVERLOADED);
}

unsigned pool_retry_after(const struct job *job)
{
    const struct pool *pool = job->pool;
    struct queue_set set = {0};
    pool_set_of(pool, job, &set);
    uint64_t seconds = (forecast_wait(pool, job->flow, &set) + 999999) / 1000000;
    return (unsigned)MIN(MAX(seconds, (uint64_t)RETRY_AFTER_MIN_S), (uint64_t)RETRY_AFTER_MAX_S);
}

/* The same, and the log says for which method there was no worker. */
static void fail_untaken(struct job *job, enum rpc_error error)
{
    struct pool *pool = job->pool;
    uint64_t now = ctx_now(pool->ctx);
    int n = (int)MIN(job->method_len, (uint32_t)WORKER_METHOD_SHOWN);
    if (error == RPC_METHOD_NOT_FOUND)
        log_limited(&pool->alien, now, LOG_WARNING,
            "pool %s: no worker takes `%.*s`: calls of it get %d", pool->conf->name, n, job->method,
            (int)error);
    else if (!pool->shutting)
        log_limited(&pool->none, now, LOG_WARNING,
            "pool %s: no worker within %llu ms for `%.*s` (%s): such calls get %d",
            pool->conf->name, (unsigned long long)pool->conf->wait_for_worker, n, job->method,
            pool_trouble(pool), (int)error);
    pool_fail(job, error);
}

/*
 * Refuses the job with the next turn at this worker where any answer would come too late, else
 * gives it to the worker, if that has a slot. Returns whether there was one: then there may be
 * another.
 */
static bool serve(struct worker *worker)
{
    struct pool *pool = worker->pool;
    struct queue_class *class = pool_class_for(worker);
    int slot;
    if (class == NULL || pool->paused)
        return false;
    struct job *job = job_of_item(queue_next(class));
    if (UNLIKELY(forecast_is_too_late(job, &class->set))) {
        refuse(job, JOB_REFUSED_LATE);
        return true;
    }
    if (!worker_usable(worker) || !worker_has_slot(worker) ||
        !pool_share_may_take(pool, worker, queue_turn(class)))
        return false;
    if (!pool_take_slot(worker, job, &slot))
        return false;
    unqueue(job, true);
    give(worker, job, slot);
    return true;
}

/* Gives waiting jobs to workers for as long as there are slots. */
static void dispatch(struct pool *pool)
{
    struct queue_class *class;
    int slot;
    for (bool served = pool_is_selective(pool); served;) {
        served = false;
        for (uint32_t i = 0; i < pool->nready; i++)
            served |= serve(pool->ready[i]);
    }
    while (!pool_is_selective(pool) && (class = queue_first(&pool->queue)) != NULL &&
           pool_share_may_take(pool, NULL, queue_turn(class))) {
        struct job *job = job_of_item(queue_next(class));
        if (UNLIKELY(forecast_is_too_late(job, &class->set))) {
            refuse(job, JOB_REFUSED_LATE);
            continue;
        }
        struct worker *worker = pool_pick(pool, job, &slot);
        if (worker == NULL)
            return;
        unqueue(job, true);
        give(worker, job, slot);
    }
}

void pool_slot_freed(struct worker *worker)
{
    struct pool *pool = worker->pool;
    unsigned seat;
    uint64_t since;
    while (worker->ready && serve(worker))
        ;
    bool waited_for = worker->ready && pool_class_for(worker) != NULL;
    if (!waited_for && pool_share_find(pool, worker, &seat, &since))
        ctx_wake(pool->ctx, seat);
}

void pool_dispatch(struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    unsigned seat;
    uint64_t since;
    dispatch(pool);
    if (pool->queue.count == 0 &&
        share_queue_oldest_but(ctx->share, share_seat_bit(ctx->seat), pool->row, &seat, &since))
        ctx_wake(ctx, seat);
}

/* Dispatches the jobs of one class: those that exactly this set of workers may take. */
static void dispatch_set(struct pool *pool, const struct queue_set *set)
{
    if (!pool_is_selective(pool)) {
        dispatch(pool);
        return;
    }
    for (uint32_t i = 0; i < pool->nready; i++) {
        while (i < pool->nready && queue_set_has(set, i) && serve(pool->ready[i]))
            ;
    }
}

/*
 * Gives up as many jobs as this shard owes: the queue was full, other shards have let jobs in all
 * the same, and a client of this shard has most in it.
 */
static void shed(struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    struct queue_item *newest;
    for (uint32_t owed = share_queue_settle(ctx->share, ctx->seat, pool->row); owed > 0; owed--) {
        if (share_queue_waiting(ctx->share, pool->row) <= pool->conf->queue ||
            queue_largest(&pool->queue, &newest) <= 1)
            return;
        refuse(job_of_item(newest), JOB_REFUSED_FULL);
    }
}

void pool_wake(struct pool *pool)
{
    if (UNLIKELY(health_has_changed(pool)))
        health_look(pool);
    shed(pool);
    dispatch(pool);
}

/* Whether any ready worker takes the job's method; true where no worker is ready. */
static bool takes_method(const struct pool *pool, const struct job *job)
{
    if (pool->narrow < pool->nready || pool->nready == 0)
        return true;
    for (uint32_t i = 0; i < pool->nready; i++) {
        if (worker_takes(pool->ready[i], job_method(job)))
            return true;
    }
    return false;
}

/* Whether the worker that a job's connection is bound to is gone, and the connection ends. */
static bool is_homeless(const struct pool *pool, const struct job *job)
{
    return job->home != 0 && pool->conf->on_worker_lost == CONF_LOST_CLOSE &&
           pool_home(pool, job->home) == NULL;
}

/* Since when a job has waited for a worker: while its pool was paused it did not. */
static uint64_t waits_from(const struct pool *pool, const struct queue_item *item)
{
    return MAX(item->since, pool->resumed_at);
}

/*
 * Arms the timer while jobs wait: to look for a slot again or, without any worker, to fail the
 * first job that has waited too long.
 */
static void arm(struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    if (pool->queue.count == 0 || pool->shutting || pool->paused)
        return;
    if (pool->nready > 0) {
        if (!wheel_armed(&pool->timer))
            ctx_arm(ctx, &pool->timer, RETRY_MS);
        return;
    }
    uint64_t from = MAX(waits_from(pool, queue_untaken(&pool->queue)), pool->no_worker_since);
    wheel_arm(&ctx->wheel, &pool->timer, from + pool->conf->wait_for_worker);
}

/*
 * Fails jobs that have waited for `wait_for_worker`: all of them where no worker is ready, else
 * those that no ready worker takes.
 */
static void expire_untaken(struct pool *pool)
{
    uint64_t now = ctx_now(pool->ctx);
    struct queue_item *item;
    while (!pool->paused && (item = queue_untaken(&pool->queue)) != NULL) {
        bool none = pool->nready == 0;
        uint64_t from = waits_from(pool, item);
        from = none ? MAX(from, pool->no_worker_since) : from;
        if (from + pool->conf->wait_for_worker > now)
            break;
        struct job *job = job_of_item(item);
        if (is_homeless(pool, job))
            pool_fail(job, RPC_WORKER_LOST);
        else
            fail_untaken(job, none ? RPC_UNAVAILABLE : RPC_METHOD_NOT_FOUND);
    }
}

void pool_timeout(struct wheel_timer *timer)
{
    struct pool *pool = container_of(timer, struct pool, timer);
    dispatch(pool);
    expire_untaken(pool);
    arm(pool);
}

void pool_resume(struct pool *pool)
{
    pool->resumed_at = ctx_now(pool->ctx);
    dispatch(pool);
    arm(pool);
}

static void enqueue(struct pool *pool, struct job *job, bool in_front, uint32_t limit)
{
    struct ctx *ctx = pool->ctx;
    struct queue_item *victim = NULL;
    struct queue_set set = {0};
    bool unserved = pool->nready == 0 && !pool->paused;
    if (pool->shutting || (unserved && (pool->conf->wait_for_worker == 0 || limit == 0))) {
        fail_untaken(job, RPC_UNAVAILABLE);
        return;
    }
    if (UNLIKELY(is_homeless(pool, job)) && pool_settled(pool)) {
        pool_fail(job, RPC_WORKER_LOST);
        return;
    }
    pool_set_of(pool, job, &set);
    if (!in_front && forecast_waits_too_long(job, &set)) {
        refuse(job, JOB_REFUSED_WAIT);
        return;
    }
    if (!pool_share_admit(pool, job->flow, limit, &victim)) {
        refuse(job, JOB_REFUSED_FULL);
        return;
    }
    bool is_first = queue_find(&pool->queue, &set) == NULL;
    if (job_enqueue(job, &pool->queue, &set, in_front, ctx_now(ctx)) < 0) {
        share_queue_remove(ctx->share, ctx->seat, pool->row);
        pool_fail(job, RPC_OVERLOADED);
        return;
    }
    if (pool_is_selective(pool))
        pool_share_note_class(pool, &set, &job->item);
    pool_share_note(pool);
    arm(pool);
    if (victim != NULL)
        refuse(job_of_item(victim), JOB_REFUSED_FULL);
    /* A slot may have become free just before other shards could see that this one waits. */
    if (is_first && !in_front)
        dispatch_set(pool, &set);
}

void pool_submit(struct pool *pool, struct job *job)
{
    int slot;
    CHECK(job->state == JOB_IDLE);
    job->pool = pool;
    if (UNLIKELY(pool->nready == pool->nknown && !pool->paused && !takes_method(pool, job))) {
        fail_untaken(job, RPC_METHOD_NOT_FOUND);
        return;
    }
    if (pool_is_selective(pool) ||
        (pool->queue.count == 0 && pool_share_may_take(pool, NULL, ctx_now(pool->ctx)))) {
        struct worker *worker = pool_pick(pool, job, &slot);
        if (LIKELY(worker != NULL)) {
            give(worker, job, slot);
            return;
        }
    }
    enqueue(pool, job, false, pool->conf->queue);
}

void pool_requeue(struct pool *pool, struct job *job)
{
    enqueue(pool, job, true, UINT32_MAX); /* it was admitted before */
}

bool pool_abandon(struct job *job)
{
    if (job->state == JOB_SENT) {
        worker_abandon(job);
        return false;
    }
    if (job->state == JOB_QUEUED)
        unqueue(job, false);
    return true;
}

void pool_give_up(struct job *job)
{
    worker_give_up(job);
}

uint64_t pool_waits_since(const struct worker *worker)
{
    const struct queue_class *class = worker->ready ? pool_class_for(worker) : NULL;
    return class == NULL ? 0 : MAX(queue_next(class)->since, 1U);
}

/* Fails the jobs whose worker is gone with their connection. They are put aside first, since others
 * may leave the queue when one fails. */
static void fail_homeless(struct pool *pool)
{
    struct list lost;
    list_init(&lost);
    list_for_each_safe (node, &pool->queue.untaken) {
        struct queue_item *item = container_of(node, struct queue_item, in_lane);
        if (!is_homeless(pool, job_of_item(item)))
            continue;
        list_remove(&item->in_lane);
        list_append(&lost, &item->in_lane);
    }
    while (!list_empty(&lost))
        pool_fail(job_of_item(list_first(&lost, struct queue_item, in_lane)), RPC_WORKER_LOST);
}

/* When the ready workers have changed: finds each job's set of them anew, where that matters. */
static void reclass(struct pool *pool, bool was_selective, bool had_some)
{
    struct list failed;
    bool matters = was_selective || pool_is_selective(pool) || had_some != (pool->nready > 0);
    if (!matters || pool->queue.count == 0)
        return;
    list_init(&failed);
    queue_reclass(&pool->queue, set_of_item, pool, &failed);
    pool_share_note(pool);
    while (!list_empty(&failed)) {
        struct job *job = job_take_failed(&failed);
        share_queue_remove(pool->ctx->share, pool->ctx->seat, pool->row);
        pool->ops->failed(job, RPC_OVERLOADED);
    }
    if (pool->conf->on_worker_lost == CONF_LOST_CLOSE && pool_settled(pool))
        fail_homeless(pool);
}

static int reserve_ready(struct pool *pool)
{
    if (pool->nready < pool->room)
        return 0;
    if (pool->room == QUEUE_WORKERS_MAX)
        return -ENOSPC;
    uint32_t room = MAX(pool->room * 2, 8U);
    struct worker **ready = mem_widen(pool->ready, pool->nready, room, sizeof(*ready));
    if (ready == NULL)
        return -ENOMEM;
    pool->ready = ready;
    pool->room = room;
    return 0;
}

void pool_worker_ready(struct pool *pool, struct worker *worker)
{
    int r = reserve_ready(pool);
    if (r < 0) { /* it is dialled again later */
        channel_shut(&worker->channel, r == -ENOSPC ? "there are too many workers" : "no memory");
        return;
    }
    bool was_selective = pool_is_selective(pool);
    pool->ctx->unsettled = true;
    worker->at = pool->nready;
    pool->ready[pool->nready++] = worker;
    pool->narrow += worker->narrow;
    pool->weight += worker->weight;
    pool->slots += worker_slots(worker);
    worker->ready = true;
    slow_start_note(worker);
    if (pool->nready == 1)
        share_pool_set_reached(pool->ctx->share, pool->ctx->seat, pool->row, true);
    worker->oldest = 0;
    worker->told = (struct share_waiting){0};
    worker->service = (struct service){0};
    worker->deferral = (struct deferral){0};
    reclass(pool, was_selective, pool->nready > 1);
    wheel_disarm(&pool->timer);
    dispatch(pool);
    arm(pool);
}

void pool_worker_unready(struct pool *pool, struct worker *worker)
{
    health_forget(worker);
    if (!worker->ready)
        return;
    bool was_selective = pool_is_selective(pool);
    pool->ctx->unsettled = true;
    pool_share_tell(worker, 0, (struct share_waiting){0});
    trouble_leave_worker(worker);
    struct worker *last = pool->ready[--pool->nready];
    pool->ready[worker->at] = last;
    last->at = worker->at;
    pool->narrow -= worker->narrow;
    pool->weight -= worker->weight;
    pool->slots -= worker_slots(worker);
    worker->ready = false;
    if (pool->nready == 0) {
        pool->no_worker_since = ctx_now(pool->ctx);
        share_pool_set_reached(pool->ctx->share, pool->ctx->seat, pool->row, false);
    }
    reclass(pool, was_selective, true);
    if (UNLIKELY(pool->nout > 0))
        health_look(pool); /* one that is left out may be needed now */
    if (pool->nready == 0)
        arm(pool);
}
