#pragma once

/* Signs of life of the shards. */

#include "frontd/ipc/shm.h"

/* How often a shard says that it lives, in ms. */
enum { SHARE_BEAT_MS = 500 };

/* Says that the loop of the shard on that seat turns. */
void share_beat(struct share *share, unsigned seat);

/* A number that has changed when the shard on that seat has said so; good for nothing else. */
uint64_t share_beats(const struct share *share, unsigned seat);

/* Of a seat that somebody looks at now and then. Zeroed at first. */
struct share_pulse {
    uint64_t beats; /* when it was looked at last */
    uint64_t at;    /* ms: they were others then */
};

/* Looks at share_beats(). Returns when they were last found to have changed, in ms. now: ms. */
uint64_t share_pulse(
    const struct share *share, unsigned seat, struct share_pulse *pulse, uint64_t now);
