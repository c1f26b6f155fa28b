#pragma once

/*
 * The sockets between shards: what a worker sends on a channel of one shard reaches connections of
 * the others in the same frames. What a sibling that does not keep up has no room for is lost to
 * its own connections, and to nobody else's: workers' answers never wait for a sibling.
 *
 * The shards of two generations are one mesh. Each shard numbers what it passes on, and all others
 * hear it in that order; so two shards between which a connection moves can tell which pushes it
 * has got (journal.h).
 */

#include "frontd/shard/mesh/journal.h"
#include "frontd/shard/net/framed.h"

void mesh_init(struct ctx *ctx);

/* A socket to the shard on that seat; one that there was is closed. fd: consumed. 0 or -errno. */
int mesh_add(struct ctx *ctx, unsigned seat, int fd);

/*
 * Passes a frame (its parts in one piece) on to every other shard. realm: that of the worker that
 * has sent it.
 */
void mesh_forward(struct ctx *ctx, uint64_t realm, const struct frame *frame);

/* How far this shard has heard every shard, itself included. */
void mesh_positions(const struct ctx *ctx, struct positions *ret_positions);

/* Whether what siblings have said waits for this shard to get round to it: it is not late. */
bool mesh_behind(void);

/* Whether every shard that is there has said where its stream of pushes stands. */
bool mesh_complete(const struct ctx *ctx);

/*
 * What siblings have sent until the last mesh_mark(), and whether all of it has been carried out.
 * For shards that have ended before a new one was there: it will never hear what they have said.
 */
void mesh_mark(void);
bool mesh_past_mark(void);

/* Whether it has heard as much of every shard that is there. */
bool mesh_has_heard(const struct ctx *ctx, const struct positions *wanted);

/*
 * At the end of each turn: looks how siblings fare. Returns whether so much waits for one that
 * makes progress that workers which only publish are better not read for a moment.
 */
bool mesh_congested(struct ctx *ctx);

/* Whether all that was passed on is on its way. */
bool mesh_flushed(const struct ctx *ctx);

/*
 * Asks every other shard to say when it has heard what this one has passed on so far. Returns the
 * number to give to mesh_answered().
 */
uint64_t mesh_ask(void);

/* Whether every shard that was asked then, and is there, has said it. */
bool mesh_answered(uint64_t asked);

/* Closes all sockets. */
void mesh_shut(void);
