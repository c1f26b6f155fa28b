/*
 * RUN → ready_start(). At the end of each turn ready_turn() asks whether all workers that are there
 * have answered, or on_settle_limit() stops to wait for that: then READY is said. It is put off
 * where the shards that serve reach a worker of a pool of which this one has none: it is waited
 * for, and where it does not come, the process ends, so that the others serve on.
 */

#include "frontd/shard/ready.h"

#include "common/log.h"
#include "frontd/shard/shard_internal.h"
#include "frontd/shard/upstream/pool.h"

enum {
    SETTLE_MS = 1000, /* for workers to answer before READY is said */
    REACH_MS = 8000,  /* for a worker of each pool that others reach; a reload has 10 s */
    REACH_LOOK_MS = 100,
};

/* An operator may have expected some. */
static void tell_empty_pools(const struct shard *shard)
{
    for (size_t i = 0; i < shard->npools && shard->start.shard == 0; i++) {
        const struct pool *pool = &shard->pools[i];
        if (list_empty(&pool->workers) && pool->conf->command == NULL)
            log_info("pool %s: nobody is at %s%s yet: calls wait for a worker for %llu ms",
                pool->conf->name, pool->conf->workers[0].text,
                pool->conf->nworkers > 1 ? " or the others" : "",
                (unsigned long long)pool->conf->wait_for_worker);
    }
}

static void say_ready(struct shard *shard)
{
    struct ctl_message ready = {0};
    shard->running = true;
    uv_timer_stop(&shard->drain_limit);
    tell_empty_pools(shard);
    int r = ctl_send(CTL_FD, CTL_READY, &ready, NULL, 0);
    if (r < 0)
        log_error("cannot tell the supervisor that this shard is ready: %s", log_error_text(r));
}

/* The next pool from `from` on of which the shards that serve have a worker, and this one has none;
 * npools: there is none. */
static size_t next_unreached(const struct shard *shard, size_t from)
{
    size_t i = from;
    for (; i < shard->npools; i++) {
        const struct pool *pool = &shard->pools[i];
        if ((shard->start.needed >> i & 1) && pool->nready == 0 && !pool_held_up(pool) &&
            pool_reached_by(pool, shard->start.serving))
            break;
    }
    return i;
}

static void on_reach_limit(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    size_t i = next_unreached(shard, 0);
    if (shard->running || shard->ctx.draining)
        return;
    if (i == shard->npools) {
        say_ready(shard);
        return;
    }
    if (ctx_now(&shard->ctx) < shard->reach_until)
        return;
    for (; i < shard->npools; i = next_unreached(shard, i + 1))
        log_error("pool %s: the shards that serve reach a worker of it, this one does not (%s): it "
                  "does not take their place",
            shard->conf->pools[i].name, pool_trouble(&shard->pools[i]));
    exit(1);
}

/* All workers have answered, or have had the time to: is there one of each pool? */
static void be_ready_when_reached(struct shard *shard)
{
    size_t i = next_unreached(shard, 0);
    if (i == shard->npools) {
        say_ready(shard);
        return;
    }
    if (shard->reach_until != 0)
        return;
    log_info("pool %s: the shards that serve reach a worker of it, this one does not yet (%s): "
             "waiting for one",
        shard->conf->pools[i].name, pool_trouble(&shard->pools[i]));
    shard->reach_until = ctx_now(&shard->ctx) + REACH_MS;
    uv_timer_start(&shard->drain_limit, on_reach_limit, REACH_LOOK_MS, REACH_LOOK_MS);
}

static void on_settle_limit(uv_timer_t *timer)
{
    struct shard *shard = timer->data;
    if (!shard->running && !shard->ctx.draining)
        be_ready_when_reached(shard);
}

void ready_turn(struct shard *shard)
{
    if (!shard->opening || shard->running || shard->ctx.draining)
        return;
    for (size_t i = 0; i < shard->npools; i++) {
        if (!pool_settled(&shard->pools[i]))
            return;
    }
    be_ready_when_reached(shard);
}

void ready_start(struct shard *shard)
{
    shard->opening = true;
    uv_timer_start(&shard->drain_limit, on_settle_limit, SETTLE_MS, 0);
}
