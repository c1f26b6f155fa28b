#pragma once

/* What workers send to connections that stay (protocol sections 3 and 9). */

#include "frontd/shard/client/client.h"
#include "proto/frame.h"

struct worker;

/* Where a frame comes from. */
struct push_from {
    uint64_t realm; /* of the worker's pool: connections and topics of others are no concern */
    struct worker *worker; /* on its channel; NULL: another shard has passed it on */
    bool replay;           /* it has been handled before: only for connections that arrive */
};

/*
 * Carries out a PUSH, PUBLISH, SUBSCRIBE, UNSUBSCRIBE or DISCONNECT frame on this shard's
 * connections. One of a worker's is passed on to the other shards where they may be concerned. One
 * with which something is wrong is dropped, with a line in the log; so is one for a connection of
 * another realm, exactly as if that one were gone.
 */
void push_handle(struct ctx *ctx, const struct push_from *from, const struct frame *frame);

/* The same for what has come on a channel: a pool_push_fn. */
void push_from_worker(struct worker *worker, const struct frame *frame);

/* The same for what another shard has passed on: a mesh_push_fn. */
void push_from_sibling(struct ctx *ctx, uint64_t realm, const struct frame *frame);

/*
 * Delivers a push once more, to connections that have arrived from another shard and do not live
 * yet
 * (`arriving`): it was sent while they moved. realm: of the worker that has sent it.
 */
void push_replay(struct ctx *ctx, uint64_t realm, const struct frame *frame);
