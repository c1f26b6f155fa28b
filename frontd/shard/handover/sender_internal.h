#pragma once

/* What sender.c, which talks to targets, and sender_round.c, which deals clients out, share. */

#include "frontd/shard/handover/sender.h"

enum {
    SENDER_TICK_MS = 50,
    SENDER_FULL_MS = 500,  /* a target that had no room is left out for so long */
    SENDER_SLOW_MS = 1000, /* a round does not wait for a target that is silent for so long */
};

/*
 * Clients that were frozen live on here, and are given the pushes that came after `since`.
 * for_good: no target will take them.
 */
void sender_take_back(struct sender *sender, struct client **clients, size_t n,
    const struct positions *since, bool for_good);

/*
 * The batch of a target has been answered, or never will be. taken: a bit for each client that is
 * the target's now. for_good: no target will take the others.
 */
void sender_settle_batch(struct target *target, const uint8_t *taken, bool for_good);

/* The target is of no use any more. why: static text, for the log. */
void sender_lose(struct target *target, const char *why);
