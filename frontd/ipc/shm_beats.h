#pragma once

/* Signs of life of the shards: a number of each seat that changes while the shard's loop turns. */

#include "frontd/ipc/shm.h"

/* How often a shard changes its number, in ms, while its loop turns. */
enum { SHARE_BEAT_MS = 500 };

/* Changes the number of the seat. */
void share_beat(struct share *share, unsigned seat);

/* The number of the seat. Its value means nothing, only that it has changed. */
uint64_t share_beats(const struct share *share, unsigned seat);

/* The number of one seat as it was last read by one reader. Zeroed at first. */
struct share_pulse {
    uint64_t beats; /* the number, when it was last read */
    uint64_t at;    /* ms: when it was found to have changed */
};

/* Reads the seat's number. Returns when it was last found to have changed, in ms. now: ms. */
uint64_t share_pulse(
    const struct share *share, unsigned seat, struct share_pulse *pulse, uint64_t now);
