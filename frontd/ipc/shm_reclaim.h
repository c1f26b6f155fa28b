#pragma once

/* What a process that has ended held in the shared memory is taken back. */

#include "frontd/ipc/shm.h"

/*
 * For the supervisor, when a process has ended: takes back all that is not held by a living one.
 * alive: the set of the seats of those that live.
 * Returns whether it is to be called again soon, since what becomes of connections that were on
 * their way is not known yet (metric_book.h).
 */
bool share_reclaim(struct share *share, uint64_t alive);
