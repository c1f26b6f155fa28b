#pragma once

/*
 * Duplex connections and the workers that they are bound to (client/affinity.h; protocol section
 * 9). Of a pool with `on_worker_lost` a connection keeps its worker for as long as that is there.
 * A worker that gets a connection which another one had is told, with the state that is kept with
 * the connection: ahead of the first call of it, or as soon as the other worker is seen to be gone.
 */

#include "frontd/shard/net/ctx.h"

/* Calls of a connection that is another worker's tell their own one before they come. */
void rebind_init(struct ctx *ctx);

/*
 * The end of a turn: looks at connections whose worker may be gone, some of them in each turn
 * (ctx->unsettled). Where that one is gone they are closed, or another one is told.
 */
void rebind_turn(struct ctx *ctx);

/* Now and then: looks again for those that nobody could be told of. */
void rebind_beat(struct ctx *ctx);
