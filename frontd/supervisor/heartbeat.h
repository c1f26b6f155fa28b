#pragma once

/*
 * Whether a shard's event loop still turns: it changes a number in the shared memory at least every
 * SHARE_BEAT_MS. The number itself is not believed in anything: it has changed, or it has not.
 * Pure.
 */

#include "common/base.h"

/* Zeroed: nothing is known of it. */
struct heartbeat {
    uint64_t beats; /* as last seen */
    uint64_t still; /* ms for which it was looked at and had not changed */
};

/*
 * Compares the number with the last look. beats: the number now. elapsed: ms since the look before,
 * of which no more than `period` count: where the supervisor was held up for longer, the shard may
 * have been, too. Returns for how many ms the number has not changed.
 */
uint64_t heartbeat_look(
    struct heartbeat *heartbeat, uint64_t beats, uint64_t elapsed, uint64_t period);
