/*
 * A pool from pool_init() to pool_deinit(): the workers that it has by its config and by discovery,
 * how they stand, and its end. Which job a worker gets, and when, is decided in pool_dispatch.c.
 */

#include "frontd/shard/upstream/pool.h"

#include <errno.h>

#include "common/alloc.h"
#include "common/log.h"
#include "common/siphash.h"
#include "frontd/ipc/shm_holds.h"
#include "frontd/ipc/shm_queues.h"
#include "frontd/ipc/shm_workers.h"
#include "frontd/shard/upstream/discovery.h"
#include "frontd/shard/upstream/worker.h"

enum { HELD_UP_MS = 900 /* without an answer to HELLO */ };

int pool_init(struct pool *pool, struct ctx *ctx, unsigned index, const struct job_ops *ops,
    pool_push_fn *pushed)
{
    *pool = (struct pool){
        .ctx = ctx,
        .conf = &ctx->conf->pools[index],
        .ops = ops,
        .pushed = pushed,
        .no_worker_since = ctx_now(ctx),
        .random = hash_key_random().k0 | 1,
    };
    int row = share_pool(ctx->share, pool->conf->name);
    if (row < 0)
        return row;
    pool->row = (unsigned)row;
    pool->paused = share_paused(ctx->share, pool->row);
    list_init(&pool->workers);
    wheel_timer_init(&pool->timer, TIMER_POOL);
    int r = queue_init(&pool->queue, &ctx->queues);
    if (r < 0)
        return r;
    pool->watches = mem_zalloc(pool->conf->nworkers * sizeof(struct watch));
    return pool->watches == NULL ? -ENOMEM : 0;
}

static struct pool *pool_of(const struct watch *watch)
{
    return watch->owner;
}

static void on_scan_begun(struct watch *watch)
{
    list_for_each (node, &pool_of(watch)->workers)
        container_of(node, struct worker, node)->seen = false;
}

static bool has_worker(struct watch *watch, const char *name)
{
    struct worker *worker = worker_find(pool_of(watch), name);
    if (worker != NULL)
        worker->seen = true;
    return worker != NULL;
}

static uint32_t weight_of(const struct watch *watch)
{
    const struct conf_worker *worker = pool_of((struct watch *)watch)->conf->workers;
    while (worker->pattern != watch->pattern)
        worker++;
    return worker->weight;
}

static int add_worker(struct watch *watch, const char *name, const struct conf_address *address)
{
    int r = worker_add(pool_of(watch), name, address, weight_of(watch));
    if (r == 0)
        worker_find(pool_of(watch), name)->seen = true;
    return r;
}

static void on_scan_ended(struct watch *watch)
{
    list_for_each_safe (node, &pool_of(watch)->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        if (!worker->seen && watch_fits(watch, &worker->address))
            worker_remove(worker);
    }
}

static void on_appeared(struct watch *watch, const char *name)
{
    struct worker *worker = worker_find(pool_of(watch), name);
    if (worker != NULL)
        worker_poke(worker);
}

static const struct watch_ops watch_ops = {
    .scan_begun = on_scan_begun,
    .has_worker = has_worker,
    .add_worker = add_worker,
    .scan_ended = on_scan_ended,
    .appeared = on_appeared,
};

int pool_open(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->conf->nworkers; i++) {
        const struct conf_worker *worker = &pool->conf->workers[i];
        int r;
        if (worker->pattern != NULL)
            r = watch_init(&pool->watches[pool->nwatches++], pool->ctx, &watch_ops, pool,
                pool->conf->name, worker->pattern);
        else
            r = worker_add_remote(pool, worker);
        if (r < 0)
            return r;
    }
    return 0;
}

void pool_hold_back(struct pool *pool)
{
    bool was = pool->paused;
    pool->paused = share_paused(pool->ctx->share, pool->row);
    list_for_each (node, &pool->workers)
        worker_hold_back(container_of(node, struct worker, node));
    if (was && !pool->paused)
        pool_resume(pool);
}

void pool_beat(struct pool *pool)
{
    health_look(pool);
    list_for_each (node, &pool->workers)
        worker_tell_oldest(container_of(node, struct worker, node));
}

bool pool_settled(const struct pool *pool)
{
    list_for_each (node, &pool->workers) {
        if (!worker_settled(container_of(node, struct worker, node)))
            return false;
    }
    return true;
}

bool pool_reached_by(const struct pool *pool, uint64_t seats)
{
    return (share_pool_reached(pool->ctx->share, pool->row) & seats) != 0;
}

bool pool_held_up(const struct pool *pool)
{
    uint64_t now = ctx_now(pool->ctx);
    list_for_each (node, &pool->workers) {
        const struct channel *channel = &container_of(node, struct worker, node)->channel;
        if (channel->state == CHANNEL_GREETING && now - channel->stream.heard_at >= HELD_UP_MS)
            return true;
    }
    return false;
}

const char *pool_trouble(const struct pool *pool)
{
    list_for_each (node, &pool->workers) {
        const struct worker *worker = container_of(node, struct worker, node);
        if (!worker->gone && worker->trouble[0] != '\0')
            return worker->trouble;
    }
    return list_empty(&pool->workers) ? "there is none where it looks" : "none has answered yet";
}

void pool_set_deaf(struct pool *pool, bool deaf)
{
    list_for_each (node, &pool->workers) {
        struct channel *channel = &container_of(node, struct worker, node)->channel;
        /*
         * A worker is read whatever happens before its HELLO, since it is waited for and pushes
         * nothing, and while it has calls to answer.
         */
        bool greeted = channel->state == CHANNEL_OPEN || channel->state == CHANNEL_LEAVING;
        stream_set_deaf(&channel->stream, deaf && greeted && channel->calls.count == 0);
    }
}

void pool_leave(struct pool *pool)
{
    list_for_each (node, &pool->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        pool_worker_unready(pool, worker);
        worker->gone = true; /* it is not dialled again */
        channel_leave(&worker->channel);
    }
    trouble_leave_pool(pool);
}

bool pool_hang_up(struct pool *pool)
{
    list_for_each_safe (node, &pool->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        bool dialled = worker->channel.state != CHANNEL_CLOSED;
        pool_worker_unready(pool, worker);
        worker_remove(worker);
        if (dialled)
            channel_hang_up(&worker->channel);
    }
    return list_empty(&pool->workers);
}

void pool_shut(struct pool *pool)
{
    pool->shutting = true;
    trouble_leave_pool(pool);
    wheel_disarm(&pool->timer);
    for (uint32_t i = 0; i < pool->nwatches; i++)
        watch_close(&pool->watches[i]);
    list_for_each_safe (node, &pool->workers)
        worker_shut(container_of(node, struct worker, node));
    struct queue_item *item;
    while ((item = queue_oldest(&pool->queue)) != NULL)
        pool_fail(job_of_item(item), RPC_UNAVAILABLE);
}

void pool_drop_queue(struct pool *pool)
{
    struct queue_item *item;
    if (pool->queue.count == 0)
        return;
    log_warning("pool %s: no worker takes %u calls that nobody waits for any more: they are lost",
        pool->conf->name, (unsigned)pool->queue.count);
    while ((item = queue_oldest(&pool->queue)) != NULL)
        pool_fail(job_of_item(item), RPC_UNAVAILABLE);
}

void pool_deinit(struct pool *pool)
{
    CHECK(list_empty(&pool->workers));
    queue_deinit(&pool->queue);
    mem_free(pool->ready);
    mem_free(pool->watches);
}

void pool_count_workers(const struct pool *pool)
{
    struct share_pool_workers workers = {
        .ready = pool->nready, .known = pool->nknown, .ejected = pool->nout};
    for (uint32_t i = 0; i < pool->nready; i++)
        workers.slots += pool->ready[i]->concurrency;
    list_for_each (node, &pool->workers) {
        const struct worker *worker = container_of(node, struct worker, node);
        workers.hung += worker->share >= 0 &&
                        share_worker_hung(pool->ctx->share, worker->share) != 0;
        workers.drained += share_drained(pool->ctx->share, worker->text);
    }
    share_pool_set_workers(pool->ctx->share, pool->ctx->seat, pool->row, &workers);
}
