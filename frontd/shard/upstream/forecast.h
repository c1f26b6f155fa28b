#pragma once

/* How long a call would wait in a pool's queue, and whether it would be answered in time then. */

#include "frontd/shard/upstream/pool.h"

/*
 * How long one more call of this client (flow) would wait at least, us, for the first of the
 * workers in the set; 0 where that is not known.
 */
uint64_t forecast_wait(const struct pool *pool, uint64_t flow, const struct queue_set *set);

/*
 * Whether a job that has just come would wait for so long that its answer came too late: a worker
 * would work for nobody, and the more calls come, the less of them were answered. set: the workers
 * that may have it.
 */
bool forecast_waits_too_long(const struct job *job, const struct queue_set *set);

/* Whether a job whose turn has come would be answered too late by each of the workers in the set.
 */
bool forecast_is_too_late(const struct job *job, const struct queue_set *set);
