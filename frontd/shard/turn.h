#pragma once

/*
 * What a turn of the loop does besides its events: timers are due, and at its end what has gathered
 * is written, and what was left over goes on.
 */

#include "frontd/shard/net/ctx.h"

/* Each timer of ctx->wheel that is due goes to its module. */
void turn_expire(struct ctx *ctx);

/* The beginning of the end of a turn: clients that had had their share in the last one are flushed
 * with the others. */
void turn_begin(struct ctx *ctx);

/*
 * Goes on with what was left over in turns before: frames that streams have read, and messages that
 * are on their way to the members of a topic; by turns, up to so many units of work (WORK_TURN).
 */
void turn_go_on(struct ctx *ctx, uint64_t work);

/* Whether something is left for the next turn, which is not to wait then. */
bool turn_unfinished(const struct ctx *ctx);

/*
 * Writes what has gathered, and destroys what is doomed. Clients and streams have their share in
 * turn, until nothing is left to do.
 */
void turn_flush(struct ctx *ctx);

/*
 * All of the end of a turn that is about connections and streams, in its order: connections of the
 * hand-over come and go, memory is looked after, what has gathered is written, and what was left
 * over is gone on with.
 *
 * clients: the list of the shard's clients.
 */
void turn_end(struct ctx *ctx, struct list *clients);

struct shard;

/* From here on each turn of the shard's loop ends with all this, and its timers are looked at. */
void turn_open(struct shard *shard);

/* Closes the handles for it. */
void turn_close(struct shard *shard);
