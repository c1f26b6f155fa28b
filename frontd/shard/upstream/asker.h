#pragma once

/*
 * Which worker a client's Response is for: the one that has asked the client, as the id of its
 * request says (protocol section 9).
 */

#include "frontd/shard/upstream/worker.h"

/*
 * Finds the ready worker of a pool that makes requests with such ids; of several the one with the
 * longest beginning, so that "app-1" does not get what "app-10" has asked. id: the JSON value.
 * found: the best worker of other pools, or NULL; returned where none of this pool is better.
 */
struct worker *asker_find(const struct pool *pool, struct span id, struct worker *found);

/*
 * Gives a worker a job that is a notification. It waits for no free slot: all slots of the worker
 * may have calls that wait for just this. The pool's ops may be called from within.
 */
void asker_submit(struct worker *worker, struct job *job);
