#pragma once

/* What workers send to connections that stay (protocol sections 3 and 9). */

#include "frontd/shard/stay.h"
#include "proto/frame.h"

/*
 * Carries out a PUSH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE or DISCONNECT frame on this shard's
 * connections. from_worker: it came on a channel, so that it is passed on to the other shards where
 * they may be concerned; else another shard passed it on.
 *
 * Returns NULL, or what is wrong with the frame; static text.
 */
const char *push_handle(struct ctx *ctx, const struct frame *frame, bool from_worker);

/* The same once more, for those connections only that are `arriving`: it passed while they moved.
 */
void push_replay(struct ctx *ctx, const struct frame *frame);
