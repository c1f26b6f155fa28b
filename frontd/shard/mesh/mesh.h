#pragma once

/*
 * The sockets between shards. A frame that a worker sends on a channel of one shard reaches the
 * connections of the others unchanged. A sibling that does not keep up misses frames, and so do its
 * own connections, but no others: workers' answers never wait for a sibling.
 *
 * The shards of two generations are one mesh. Each shard numbers the frames that it passes on, and
 * all others hear them in that order; so two shards between which a connection moves can tell which
 * pushes it has got (journal.h).
 */

#include "frontd/shard/mesh/journal.h"
#include "frontd/shard/net/framed.h"

struct mesh;

/* A frame of another shard's worker for connections of this one; borrowed. realm: the worker's. */
typedef void mesh_push_fn(struct ctx *ctx, uint64_t realm, const struct frame *frame);

struct sibling;
struct mesh {
    struct ctx *ctx;
    mesh_push_fn *pushed;
    struct journal journal;
    struct sibling *siblings; /* by their seats, SHARE_SEATS of them */
    unsigned seats;           /* one more than the highest that there has been a socket to */
    uint64_t passed_on;       /* frames that this shard has passed on */
    uint64_t last_ping;       /* number of the last PING */
    size_t backlog;           /* bytes that wait for all siblings together, or a bit less */
};

/* The mesh of a shard, which is ctx->mesh then. Returns 0 or -ENOMEM. */
int mesh_init(struct mesh *mesh, struct ctx *ctx, mesh_push_fn *pushed);

/* After mesh_shut(), and once the loop has run its close callbacks. */
void mesh_deinit(struct mesh *mesh);

/* A socket to the shard on that seat, in place of one that there is. fd: consumed. 0 or -errno. */
int mesh_add(struct mesh *mesh, unsigned seat, int fd);

/*
 * Passes a frame (its parts in one piece) on to every other shard. realm: that of the worker that
 * has sent it.
 */
void mesh_forward(struct mesh *mesh, uint64_t realm, const struct frame *frame);

/* How far this shard has heard every shard, itself included. */
void mesh_positions(const struct mesh *mesh, struct positions *ret_positions);

/* Whether frames of siblings lie here that are not carried out yet: those are not late. */
bool mesh_behind(const struct mesh *mesh);

/* Whether every shard that is there has said where its stream of pushes stands. */
bool mesh_complete(const struct mesh *mesh);

/*
 * mesh_mark() notes what siblings have sent so far; mesh_past_mark() tells whether all of it has
 * been carried out. For shards that have ended before a new one was there: it never hears their
 * frames.
 */
void mesh_mark(struct mesh *mesh);
bool mesh_past_mark(const struct mesh *mesh);

/* Whether this shard has heard every shard that is there as far as `wanted` says. */
bool mesh_has_heard(const struct mesh *mesh, const struct positions *wanted);

/*
 * At the end of each turn: looks whether siblings make progress. Returns whether so much waits for
 * one that does that workers which only publish are better not read for a moment.
 */
bool mesh_congested(struct mesh *mesh);

/* Whether the kernel has all frames that were passed on. */
bool mesh_flushed(const struct mesh *mesh);

/*
 * Asks every other shard (PING) to say when it has heard what this one has passed on so far.
 * Returns the number for mesh_answered().
 */
uint64_t mesh_ask(struct mesh *mesh);

/* Whether every shard that was asked then, and is still there, has answered. */
bool mesh_answered(const struct mesh *mesh, uint64_t asked);

/* mesh_ask() and mesh_answered(), for ctx->fence. */
extern const struct fence mesh_fence;

/* Closes all sockets. */
void mesh_shut(struct mesh *mesh);
