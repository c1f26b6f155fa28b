#pragma once

/*
 * Recycles workers: one that has reached `max_calls`, `max_age` or `max_memory` of its pool is
 * replaced as at a reload (worker_pool.c), one at a time in each pool: the next one's turn comes
 * when the last one has ended.
 */

#include "frontd/ipc/metrics.h"
#include "frontd/supervisor/workers/worker_pool.h"

/* What a worker is judged by. */
struct recycle_use {
    uint64_t calls;
    uint64_t age;    /* ms */
    uint64_t memory; /* bytes; 0: not known */
    uint64_t chance; /* any number, the same for the worker's life */
};

/*
 * The age at which a worker is recycled, in ms: 80 to 100 % of max_age, so that those which were
 * started together do not go together. max_age: not 0.
 */
uint64_t recycle_age(uint64_t max_age, uint64_t chance);

/* Whether a worker is to be recycled; *ret_reason: for what it has most clearly reached. */
bool recycle_is_due(
    const struct conf_pool *conf, const struct recycle_use *use, enum metric_recycle *ret_reason);

/*
 * Looks at the workers of a pool, and begins to replace the first one that is due. To be called now
 * and then. share: where shards count calls and where it is counted; NULL: there is none now, so
 * that no calls are known.
 */
void recycle_look(struct worker_pool *pool, struct share *share);
