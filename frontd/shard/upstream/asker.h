#pragma once

/*
 * Which worker a client's Response is for: the one that has asked, if the id that it gave its
 * request says so (protocol section 9).
 */

#include "frontd/shard/upstream/worker.h"

/*
 * The worker of the pool whose requests have such ids, where it is there (whether it reads or not);
 * of several the one that says most of them, so that "app-1" does not get what "app-10" has asked.
 * id: the JSON value. found: one of another pool, or NULL; returned where none here says more.
 */
struct worker *asker_find(const struct pool *pool, struct span id, struct worker *found);

/*
 * Gives it a job, a notification. It needs no slot, and waits for none: the worker may be at its
 * concurrency with calls that wait for this. The pool's ops may be called from within.
 */
void asker_submit(struct worker *worker, struct job *job);
