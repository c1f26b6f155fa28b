#pragma once

/*
 * What is inside a shard, without a supervisor and listening sockets, for tests of clients over
 * socket pairs. Workers are dialled only where a test opens a pool (see fake_worker.h). Several may
 * be there at the same time.
 */

#include "frontd/shard/client/client.h"
#include "frontd/shard/shard_parts.h"
#include "frontd/shard/upstream/call.h"

struct shardlet {
    struct ctx ctx;
    struct parts parts;
    struct conf *conf;
    struct pool *pools;
    struct list clients;
};

/* conf: its text, CHECKed to be right. seat: of the shared memory, which all shardlets share. */
void shardlet_init(struct shardlet *shardlet, const char *conf, unsigned seat);

/* Closes every client that is left, and CHECKs that nothing else is. */
void shardlet_deinit(struct shardlet *shardlet);

/* One turn of its loop, with its end; no timer expires. */
void shardlet_step(struct shardlet *shardlet);

/* A few turns of its loop, each with an end, and what expires. */
void shardlet_turn(struct shardlet *shardlet);

/* A client on that listener and that descriptor, which is consumed, as if accepted. */
struct client *shardlet_accepted(struct shardlet *shardlet, const char *listener, int fd);

/*
 * The same with a connection of its own. Returns it with the other end of its connection, a
 * descriptor of the caller's that does not block.
 */
struct client *shardlet_client(struct shardlet *shardlet, const char *listener, int *ret_peer);

/*
 * Moves a client to another shard, as a hand-over does: frozen, saved, restored there, released and
 * started. Returns 0 with *client, or -errno: it goes on where it was.
 */
int shardlet_move(struct client **client, struct shardlet *to);

/*
 * What a client's answers are by now: all that can be read from `peer`, appended at `out` + *n, in
 * a buffer of `size` bytes. The value of Date fields, which changes, becomes dashes.
 */
void shardlet_read(int peer, char *out, size_t size, size_t *n);

/*
 * Ends a call that waits in its pool's queue, as if a worker had answered it so, or with an error.
 */
void shardlet_answer(struct call *call, struct span body, struct span blob);
void shardlet_fail(struct call *call, enum rpc_error error);

/* The value of each Date field in `n` bytes of answers becomes dashes. */
void shardlet_dash_dates(char *out, size_t n);

/* How many connections are counted, over all shardlets, and how many of the one peer address. */
uint64_t shardlet_connections(void);
uint64_t shardlet_peers(void);

/* Whether an allocation has failed since mem_fail_after() has said that the n-th one is to; from
 * now on none is. */
bool shardlet_has_failed(long n);
