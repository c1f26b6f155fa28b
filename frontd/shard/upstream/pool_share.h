#pragma once

/*
 * What the shards tell each other of the queue of a pool, in the shared memory: who waits longest,
 * who has most in it, who owes a place. Where workers differ in what they take, each worker has who
 * waits for it; else the pool has.
 */

#include "frontd/shard/upstream/worker.h"

/* Of the other shards, the one whose client has waited longest for its turn at this worker. */
bool pool_share_find(
    const struct pool *pool, const struct worker *worker, unsigned *ret_seat, uint64_t *ret_since);

/*
 * Whether a client that waits since then may have a free slot now, other shards' considered. Where
 * not, the shard whose turn it is has been woken, or no slot is free. worker: not looked at where
 * all take all calls; else it has a free slot.
 */
bool pool_share_may_take(struct pool *pool, struct worker *worker, uint64_t since);

/* Tells the others since when somebody waits for this worker; 0: nobody does. */
void pool_share_tell(struct worker *worker, uint64_t since);

/* Others are told of a client that waits before a slot is looked for once more. */
void pool_share_note_class(struct pool *pool, const struct queue_set *set);

/* What waits has changed; what is told of each worker may wait until pool_share_refresh(). */
void pool_share_note(struct pool *pool);
void pool_share_refresh(struct pool *pool);

/*
 * Whether there is room in the queue for one more job of a client, which is counted then: there is,
 * or another client has more in it, and makes room. *ret_victim: what is to leave the queue then,
 * where it is one of ours; else untouched.
 */
bool pool_share_admit(
    struct pool *pool, uint64_t flow, uint32_t limit, struct queue_item **ret_victim);
