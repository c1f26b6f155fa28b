#pragma once

/* Which worker of a pool a job is for: what balance.h and slow_start.h say of those that are ready.
 */

#include "frontd/shard/upstream/worker.h"

/* The class of jobs with the next turn at this worker; NULL where none waits for it. */
struct queue_class *pool_class_for(const struct worker *worker);

/* Takes a slot of this worker for a job. Returns false where it has none. */
bool pool_take_slot(struct worker *worker, const struct job *job, int *ret_slot);

/* Takes a slot for a job. Returns the worker that has the slot, or NULL: no worker has a free one.
 */
struct worker *pool_pick(struct pool *pool, const struct job *job, int *ret_slot);

/* The set of ready workers that may have a job. ret_set: zeroed. */
void pool_set_of(const struct pool *pool, const struct job *job, struct queue_set *ret_set);
