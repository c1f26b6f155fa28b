#pragma once

/* What a shard's modules share, from its beginning to its end: it knows what lies in it, and so is
 * above them. */

#include "frontd/shard/net/ctx.h"

/*
 * Makes a zeroed one whose loop is there, and whose seat and identity are set. conf, share:
 * borrowed. Returns 0 or -errno, which its process does not survive: nothing is undone.
 */
int shard_ctx_init(struct ctx *ctx, const struct conf *conf, struct share *share);

/* The beginning of the end of a turn: clients that had had their share in the last one are flushed
 * with the others. */
void shard_ctx_begin(struct ctx *ctx);

/*
 * Goes on with what was left over in turns before: frames that streams have read, and messages that
 * are on their way to the members of a topic; by turns, up to so many units of work (WORK_TURN).
 */
void shard_ctx_go_on(struct ctx *ctx, uint64_t work);

/* Whether something is left for the next turn, which is not to wait then. */
bool shard_ctx_unfinished(const struct ctx *ctx);

/*
 * The end of a turn: writes what has gathered, and destroys what is doomed. Clients and streams
 * have their share in turn, until nothing is left to do.
 */
void shard_ctx_flush(struct ctx *ctx);

/* After poller_close() and the end of the loop. CHECKs that no client and no call is left. */
void shard_ctx_deinit(struct ctx *ctx);
