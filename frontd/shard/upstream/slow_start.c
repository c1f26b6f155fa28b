#include "frontd/shard/upstream/slow_start.h"

#include "frontd/shard/upstream/worker.h"

void slow_start_note(struct worker *worker)
{
    struct pool *pool = worker->pool;
    if (pool->conf->slow_start == 0)
        return;
    uint64_t until = share_worker_came(pool->ctx->share, worker->share) + pool->conf->slow_start;
    pool->slow_until = MAX(pool->slow_until, until);
}

static uint32_t part_of(const struct pool *pool, const struct worker *worker)
{
    uint64_t now = ctx_now(pool->ctx);
    uint64_t came = share_worker_came(pool->ctx->share, worker->share);
    return balance_part(now > came ? now - came : 0, pool->conf->slow_start);
}

void slow_start_draw(struct pool *pool, struct queue_set *ret_set)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < pool->nready; i++)
        most = MAX(most, part_of(pool, pool->ready[i]));
    for (uint32_t i = 0; i < pool->nready; i++) {
        if (!balance_may_have(&pool->random, part_of(pool, pool->ready[i]), most))
            queue_set_add(ret_set, i);
    }
}
