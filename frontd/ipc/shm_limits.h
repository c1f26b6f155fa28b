#pragma once

/*
 * Limits of calls over all shards: how many are in progress at once, and how often they may come.
 * A limit is known by its id, so that it goes on over a reload.
 */

#include "frontd/ipc/shm.h"

/* The row of a limit of calls in progress; -1: all are taken, by limits of this and earlier
 * configs, and it cannot be counted. id: not 0. */
int share_limit_row(struct share *share, uint64_t id);

/* Adds a call on that seat, unless `most` are in progress on all. Returns whether it was added. */
bool share_limit_add(struct share *share, unsigned seat, int row, uint32_t most);
void share_limit_remove(struct share *share, unsigned seat, int row);

/*
 * Takes one call of a rate: one every `interval` us, `burst` at once. id: of the rate; of: what is
 * counted apart, such as an address. now: us. Returns 0, or the time in us until there is one, and
 * nothing is taken. Of very many that are counted apart at once, those that have been used least
 * may begin anew.
 */
uint64_t share_rate_take(struct share *share, uint64_t id, struct span of, uint64_t now,
    uint64_t interval, uint32_t burst);
