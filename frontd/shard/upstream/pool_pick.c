#include "frontd/shard/upstream/pool_pick.h"

#include <string.h>

#include "frontd/ipc/shm_workers.h"
#include "frontd/shard/upstream/balance.h"
#include "frontd/shard/upstream/pool_share.h"
#include "frontd/shard/upstream/slow_start.h"

struct queue_class *pool_class_for(const struct worker *worker)
{
    const struct pool *pool = worker->pool;
    struct queue_set set = {0};
    if (!pool_is_hashed(pool))
        return queue_first_of(&pool->queue, worker->at);
    queue_set_add(&set, worker->at); /* each has one of its own */
    return queue_find(&pool->queue, &set);
}

bool pool_take_slot(struct worker *worker, const struct job *job, int *ret_slot)
{
    const struct ctx *ctx = worker->pool->ctx;
    if (!share_slot_take(ctx->share, ctx->seat, worker->share, worker->concurrency, ret_slot))
        return false;
    if (LIKELY(!worker->trying) || health_may_try(worker, job->expires))
        return true;
    share_slot_give(ctx->share, ctx->seat, worker->share, *ret_slot);
    return false;
}

/*
 * Takes a slot of this worker for a job, if it may have it. Where workers differ, the job has just
 * come, and must not overtake those that wait for this worker.
 */
static bool try_worker(struct worker *worker, const struct job *job, int *ret_slot)
{
    struct pool *pool = worker->pool;
    if (!worker_usable(worker))
        return false;
    if (!worker_takes(worker, job_method(job)))
        return false;
    if (pool_is_selective(pool) && (pool_class_for(worker) != NULL || !worker_has_slot(worker) ||
                                       !pool_share_may_take(pool, worker, ctx_now(pool->ctx))))
        return false;
    return pool_take_slot(worker, job, ret_slot);
}

struct worker *pool_home(const struct pool *pool, uint64_t home)
{
    for (uint32_t i = 0; home != 0 && i < pool->nready; i++) {
        if (pool->ready[i]->home == home)
            return pool->ready[i];
    }
    return NULL;
}

struct worker *pool_by_hash(const struct pool *pool, uint64_t hash, struct span method)
{
    struct balance_hash best = balance_hash(hash);
    for (uint32_t i = 0; i < pool->nready; i++) {
        if (worker_takes(pool->ready[i], method))
            balance_offer(&best, i, pool->ready[i]->rank, pool->ready[i]->weight);
    }
    return best.at == BALANCE_NONE ? NULL : pool->ready[best.at];
}

/*
 * The one worker that a job is for: that of its connection, where it is bound to one, else the one
 * that its hash says. NULL: none takes its method, or its connection's is gone, and it ends.
 */
static struct worker *find_by_hash(const struct pool *pool, const struct job *job)
{
    struct worker *home = pool_home(pool, job->home);
    if (home != NULL && worker_takes(home, job_method(job)))
        return home;
    if (home == NULL && job->home != 0 && pool->conf->on_worker_lost == CONF_LOST_CLOSE)
        return NULL;
    return pool_by_hash(pool, job->hash, job_method(job));
}

static uint32_t load_of(const struct pool *pool, uint32_t at)
{
    return share_worker_load(pool->ctx->share, pool->ready[at]->share);
}

static struct balance_load weighed(const struct pool *pool, uint32_t at)
{
    return (struct balance_load){load_of(pool, at), pool->ready[at]->weight};
}

/* Who has this ticket: each worker has as many as its weight is. */
static uint32_t ticket_holder(const struct pool *pool, uint32_t ticket)
{
    uint32_t at = 0;
    for (; ticket >= pool->ready[at]->weight; at++)
        ticket -= pool->ready[at]->weight;
    return at;
}

/* Two workers; with weights each as often as its weight is, and perhaps the same one twice. */
static struct balance_pair draw(struct pool *pool)
{
    if (LIKELY(pool->weight == pool->nready))
        return balance_draw(&pool->random, pool->nready);
    uint32_t one = ticket_holder(pool, balance_ticket(&pool->random, pool->weight));
    uint32_t other = ticket_holder(pool, balance_ticket(&pool->random, pool->weight));
    return (struct balance_pair){one, other};
}

/*
 * The same with bounded load. Workers are asked from the best for the job's hash downwards: first
 * those below the bound that are not held, then the others, since a call does not wait while a slot
 * is free. The mean is of all ready workers. Loads are read and not locked: shards that choose at
 * the same time may each take the last call below the bound.
 */
static struct worker *pick_bounded(
    struct pool *pool, const struct job *job, const struct queue_set *held, int *ret_slot)
{
    struct queue_set asked = {0};
    uint64_t total = 0;
    for (uint32_t i = 0; i < pool->nready; i++)
        total += load_of(pool, i);
    for (;;) {
        struct balance_hash below = balance_hash(job->hash);
        struct balance_hash above = balance_hash(job->hash);
        for (uint32_t i = 0; i < pool->nready; i++) {
            const struct worker *worker = pool->ready[i];
            uint64_t bound = balance_bound(total, worker->weight, pool->weight);
            bool first = load_of(pool, i) < bound && (held == NULL || !queue_set_has(held, i));
            if (!queue_set_has(&asked, i) && worker_has_slot(worker) && worker_usable(worker))
                balance_offer(first ? &below : &above, i, worker->rank, worker->weight);
        }
        uint32_t at = below.at != BALANCE_NONE ? below.at : above.at;
        if (at == BALANCE_NONE)
            return NULL;
        if (try_worker(pool->ready[at], job, ret_slot))
            return pool->ready[at];
        queue_set_add(&asked, at);
    }
}

/* As pick(), while a worker starts slowly: first those that are not held, then the others. */
static struct worker *pick_slowly(struct pool *pool, const struct job *job, int *ret_slot)
{
    struct queue_set held = {0};
    uint32_t at;
    slow_start_draw(pool, &held);
    if (pool->conf->bounded)
        return pick_bounded(pool, job, &held, ret_slot);
    struct balance_pair pair = draw(pool);
    struct balance_load one = weighed(pool, pair.one);
    struct balance_load other = weighed(pool, pair.other);
    if (queue_set_has(&held, pair.one))
        one = (struct balance_load){UINT32_MAX, 1};
    if (queue_set_has(&held, pair.other))
        other = (struct balance_load){UINT32_MAX, 1};
    for (int rest = 0; rest < 2; rest++) {
        struct balance_order order = balance_order(pool->nready, pair, one, other);
        while ((at = balance_next(&order)) != BALANCE_NONE) {
            if (queue_set_has(&held, at) == (rest == 1) &&
                try_worker(pool->ready[at], job, ret_slot))
                return pool->ready[at];
        }
    }
    return NULL;
}

struct worker *pool_pick(struct pool *pool, const struct job *job, int *ret_slot)
{
    uint32_t n = pool->nready;
    uint32_t at;
    if (n == 0 || pool->paused)
        return NULL;
    if (UNLIKELY(slow_start_goes_on(pool)))
        return pick_slowly(pool, job, ret_slot);
    if (pool->conf->hash != CONF_HASH_NONE) {
        if (pool->conf->bounded)
            return pick_bounded(pool, job, NULL, ret_slot);
        struct worker *worker = find_by_hash(pool, job);
        return worker != NULL && try_worker(worker, job, ret_slot) ? worker : NULL;
    }
    struct balance_pair pair = draw(pool);
    struct balance_order order = {.n = 1};
    if (n > 1)
        order = balance_order(n, pair, weighed(pool, pair.one), weighed(pool, pair.other));
    while ((at = balance_next(&order)) != BALANCE_NONE) {
        if (try_worker(pool->ready[at], job, ret_slot))
            return pool->ready[at];
    }
    return NULL;
}

void pool_set_of(const struct pool *pool, const struct job *job, struct queue_set *ret_set)
{
    if (pool->nready > 0 && !pool_is_selective(pool)) {
        memset(ret_set, 0xff, sizeof(*ret_set));
        return;
    }
    if (pool_is_hashed(pool)) {
        const struct worker *worker = find_by_hash(pool, job);
        if (worker != NULL)
            queue_set_add(ret_set, worker->at);
        return;
    }
    for (uint32_t i = 0; i < pool->nready; i++) {
        if (worker_takes(pool->ready[i], job_method(job)))
            queue_set_add(ret_set, i);
    }
}
