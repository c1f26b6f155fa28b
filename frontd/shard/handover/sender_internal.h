#pragma once

/*
 * What sender.c, which talks to targets, sender_round.c, which deals clients out, and
 * sender_settle.c, in which a batch comes to its end, share.
 */

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

/* Notes TAKEN, which answers the batch of the target. */
void sender_note_answer(struct target *target, const struct handover_message *message);

/*
 * Settles the batch that was answered. Returns 0; -EAGAIN: YOURS could not be said yet, and nothing
 * has changed; or another -errno: the batch is settled, and the target is of no use any more.
 */
int sender_settle_answer(struct target *target);

/* Settles the batch of a target whose socket is about to be closed. wrong: the target has broken
 * the order of messages, and what it thinks it has is not known. */
void sender_settle_at_end(struct target *target, bool wrong);

/* Whether any target has a batch that is not settled. */
bool sender_any_sent(const struct sender *sender);

/* The target is of no use any more. why: static text, for the log. */
void sender_lose(struct target *target, const char *why);

/* Clients that no target will take stay here, frozen at `since`. */
void sender_keep(struct sender *sender, struct client *client, const struct positions *since);
