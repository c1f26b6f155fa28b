#pragma once

/*
 * Slow start (`slow_start` of a pool): a worker that has just come, or has come back after it was
 * left out, is passed over for a part of the calls. That part falls from 90 % to none in the time
 * given. It is passed over only while another worker has a slot for the call, so that no call waits
 * for it.
 *
 * When it has come is in the shared memory (shm_workers.h), so that all shards agree, those of the
 * next generation too. Where all workers are new, none is passed over: the one that is there for
 * longest gets its whole part.
 */

#include "frontd/shard/upstream/pool.h"

/* The worker is ready: until when its pool has one that starts slowly. */
void slow_start_note(struct worker *worker);

/* Whether a worker of the pool may be starting slowly. */
static inline bool slow_start_goes_on(const struct pool *pool)
{
    return ctx_now(pool->ctx) < pool->slow_until;
}

/* Adds the ready workers that are passed over for the next call, by chance, to a set. */
void slow_start_draw(struct pool *pool, struct queue_set *ret_set);
