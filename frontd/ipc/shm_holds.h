#pragma once

/*
 * What an operator holds back, for all shards: pools that are paused, workers that are drained; and
 * the level of the log. The supervisor writes it, and has the shards look (the number of changes is
 * another one); what is held here outlives shards and generations.
 */

#include "frontd/ipc/shm.h"

/* How often the following have changed: looked at by shards, which then read them all. */
uint32_t share_holds(const struct share *share);

/* For the supervisor, after changes. */
void share_holds_changed(struct share *share);

/* Whether calls to a pool wait, by its row (share_pool()). */
void share_set_paused(struct share *share, unsigned pool, bool paused);
bool share_paused(const struct share *share, unsigned pool);

/*
 * Which workers get no new calls, by their addresses as the log has them ("unix:/run/app/1.sock"),
 * n of them, at most SHARE_DRAINED_MAX.
 */
void share_set_drained(struct share *share, const char *const *addresses, size_t n);
bool share_drained(const struct share *share, const char *address);

/* The level of the log, enum log_level; -1: that of the config. */
void share_set_log_level(struct share *share, int level);
int share_log_level(const struct share *share);
