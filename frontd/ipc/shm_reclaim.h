#pragma once

/* What a process that has ended held in the shared memory is taken back. */

#include "frontd/ipc/shm.h"

/*
 * For the supervisor, when a process has ended: takes back all that is not held by one of those
 * that live. alive: a bit for each seat.
 */
void share_reclaim(struct share *share, uint64_t alive);
