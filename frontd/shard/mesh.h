#pragma once

/*
 * The sockets between shards: what a worker sends on a channel of one shard reaches connections of
 * the others in the same frames. Nothing is lost for want of room: a shard whose sibling does not
 * keep up stops reading from its workers.
 */

#include "frontd/shard/stream.h"

/* shards: how many there are. Returns 0 or -ENOMEM. */
int mesh_init(struct ctx *ctx, uint32_t shards);

/* A socket to the shard of that number; one that there was is closed. fd: consumed. 0 or -errno. */
int mesh_add(struct ctx *ctx, uint32_t shard, int fd);

/* Passes a frame (as frame_read() gave it) on to every other shard. */
void mesh_forward(struct ctx *ctx, const struct frame *frame);

/* Whether so much waits for a sibling that workers are not to be read. */
bool mesh_congested(const struct ctx *ctx);

/* Closes all sockets. */
void mesh_shut(void);

/* Once the loop has run its close callbacks. */
void mesh_deinit(void);
