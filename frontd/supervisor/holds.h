#pragma once

/*
 * What an operator holds back: pools that are paused, workers that are drained, and the level of
 * the log. It is kept here, by names, over reloads, new programs and this process's death, and told
 * to shards by hold_back.c.
 */

#include "frontd/ipc/shm.h"
#include "proto/json_write.h"

struct holds {
    char *paused[SHARE_POOLS]; /* names of pools; they may be in no config just now */
    size_t npaused;
    char *drained[SHARE_DRAINED_MAX]; /* addresses of workers, as the log has them */
    size_t ndrained;
    int log_level; /* enum log_level until the next reload; -1: that of the config */
};

/* Nothing is held back. holds: zeroed. */
void holds_init(struct holds *holds);
void holds_deinit(struct holds *holds);

/* Makes `from` empty, and `to`, which was empty, what it was. */
void holds_move(struct holds *to, struct holds *from);

/*
 * Holds a pool or a worker back (`hold`), or no more. Returns 1 where that changes something; 0;
 * -ENOSPC where too many are held back already, or -ENOMEM. hold_back() is next.
 */
int holds_pause(struct holds *holds, const char *pool, bool hold);
int holds_drain(struct holds *holds, const char *worker, bool hold);

bool holds_is_paused(const struct holds *holds, const char *pool);
bool holds_is_drained(const struct holds *holds, const char *worker);

/* Members "paused", "drained" and "log_level", for the supervisor's state and record. */
void holds_save(const struct holds *holds, struct json_writer *out);

/* Reads them. What is not there, or cannot be meant, is not held back. Returns 0 or -ENOMEM. */
int holds_restore(struct holds *holds, struct span state);
