#pragma once

/*
 * What the shards tell each other of the queue of a pool, in the shared memory: since when the
 * longest-waiting call of each shard waits, how many calls its largest client has in the queue, and
 * how many it is to give up. Where workers differ in what they take, the first is told for each
 * worker; else for the pool.
 */

#include "frontd/shard/upstream/worker.h"

/*
 * Finds, of the other shards, the one with the client that has waited longest for its turn at this
 * worker. Returns false where no other shard waits for it. *ret_since: ms.
 */
bool pool_share_find(
    const struct pool *pool, const struct worker *worker, unsigned *ret_seat, uint64_t *ret_since);

/*
 * Whether a client of this shard that has waited since then (ms) is next, clients of other shards
 * included. Where not, the shard that is next has been woken, or no slot is free. worker: one with
 * a free slot; ignored, and may be NULL, where all workers take all calls.
 */
bool pool_share_may_take(struct pool *pool, struct worker *worker, uint64_t since);

/* Tells the other shards since when (ms) calls wait for this worker, and how many; 0: none does. */
void pool_share_tell(struct worker *worker, uint64_t since, struct share_waiting waiting);

/*
 * An item has been added to the class of this set: tells the other shards of it, and of the client
 * with the next turn there. Comes before a slot is looked for once more: one that is freed later is
 * freed by a shard that has seen this.
 */
void pool_share_note_class(
    struct pool *pool, const struct queue_set *set, const struct queue_item *item);

/* The queue has changed: tells the other shards, of each worker only by pool_share_refresh(). */
void pool_share_note(struct pool *pool);
void pool_share_refresh(struct pool *pool);

/*
 * Whether one more job of a client is let into the queue, and counted: there is room, or another
 * client has more in it. *ret_victim: the job that is to leave the queue for it, where it is one of
 * this shard; else untouched.
 */
bool pool_share_admit(
    struct pool *pool, uint64_t flow, uint32_t limit, struct queue_item **ret_victim);
