#pragma once

/*
 * What shards say in the log of workers and pools that are stuck: each trouble once, whichever of
 * them sees it first, and once more when none sees it any longer. A shard that goes away leaves the
 * trouble to others, so that a reload says nothing anew.
 */

#include "frontd/ipc/shm.h"

/* A trouble of a worker's row or of a pool's. */
struct trouble_cell;
struct trouble_cell *share_worker_trouble(
    struct share *share, int worker, enum share_worker_trouble trouble);
struct trouble_cell *share_pool_trouble(struct share *share, unsigned pool);

/* This seat sees it. now: ms. Returns whether it is to be said: nobody has yet. */
bool share_trouble_see(struct trouble_cell *cell, unsigned seat, uint64_t now);

/*
 * This seat sees it no more. Returns since when there was trouble (ms) where it is to be said that
 * it is over: this seat was the last one; else 0.
 */
uint64_t share_trouble_over(struct trouble_cell *cell, unsigned seat);

/* This seat looks no more: what it has seen may go on. */
void share_trouble_leave(struct trouble_cell *cell, unsigned seat);

/* Whether there is trouble that no seat sees: the one that saw it has gone away. */
bool share_trouble_left(const struct trouble_cell *cell);
