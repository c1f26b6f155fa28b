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

struct mesh;

/* What a worker of another shard has sent for connections of this one; the frame is borrowed. */
typedef void mesh_push_fn(struct ctx *ctx, uint64_t realm, const struct frame *frame);

struct peer;
struct mesh {
    struct ctx *ctx;
    mesh_push_fn *pushed;
    struct journal journal;
    struct peer *peers; /* by their seats, SHARE_SEATS of them */
    unsigned seats;     /* one more than the highest that there has been a socket to */
    uint64_t passed_on; /* how much this shard has */
    uint64_t last_ping; /* its number */
    size_t backlog;     /* bytes that wait for all siblings together, or a bit less */
};

/* The mesh of a shard, which is ctx->mesh then. Returns 0 or -ENOMEM. */
int mesh_init(struct mesh *mesh, struct ctx *ctx, mesh_push_fn *pushed);

/* After mesh_shut(), and once the loop has run its close callbacks. */
void mesh_deinit(struct mesh *mesh);

/* A socket to the shard on that seat; one that there was is closed. fd: consumed. 0 or -errno. */
int mesh_add(struct mesh *mesh, unsigned seat, int fd);

/*
 * Passes a frame (its parts in one piece) on to every other shard. realm: that of the worker that
 * has sent it.
 */
void mesh_forward(struct mesh *mesh, uint64_t realm, const struct frame *frame);

/* How far this shard has heard every shard, itself included. */
void mesh_positions(const struct mesh *mesh, struct positions *ret_positions);

/* Whether what siblings have said waits for this shard to get round to it: it is not late. */
bool mesh_behind(const struct mesh *mesh);

/* Whether every shard that is there has said where its stream of pushes stands. */
bool mesh_complete(const struct mesh *mesh);

/*
 * What siblings have sent until the last mesh_mark(), and whether all of it has been carried out.
 * For shards that have ended before a new one was there: it will never hear what they have said.
 */
void mesh_mark(struct mesh *mesh);
bool mesh_past_mark(const struct mesh *mesh);

/* Whether it has heard as much of every shard that is there. */
bool mesh_has_heard(const struct mesh *mesh, const struct positions *wanted);

/*
 * At the end of each turn: looks how siblings fare. Returns whether so much waits for one that
 * makes progress that workers which only publish are better not read for a moment.
 */
bool mesh_congested(struct mesh *mesh);

/* Whether all that was passed on is on its way. */
bool mesh_flushed(const struct mesh *mesh);

/*
 * Asks every other shard to say when it has heard what this one has passed on so far. Returns the
 * number to give to mesh_answered().
 */
uint64_t mesh_ask(struct mesh *mesh);

/* Whether every shard that was asked then, and is there, has said it. */
bool mesh_answered(const struct mesh *mesh, uint64_t asked);

/* The two of them, for ctx->fence. */
extern const struct fence mesh_fence;

/* Closes all sockets. */
void mesh_shut(struct mesh *mesh);
