#pragma once

/* The pools, and the calls that wait for a slot of their workers, over all shards. */

#include "frontd/ipc/shm.h"

/*
 * For the supervisor: from now on there is a row for each pool of these names, and for no other. A
 * pool keeps its row, so that two generations of shards, whose configs may list their pools in
 * different orders, mean the same. Shards that are started afterwards have to be told
 * share_table(). n: at most SHARE_POOLS.
 */
void share_set_pools(struct share *share, const char *const *names, size_t n);

/* The row of the pool of that name, or -ENOENT. */
int share_pool(const struct share *share, const char *name);

/* Sets whether the shard on this seat has a worker of the pool that may be given calls. */
void share_pool_set_reached(struct share *share, unsigned seat, unsigned pool, bool reached);

/* The set of the seats whose shards have a worker of the pool. */
uint64_t share_pool_reached(const struct share *share, unsigned pool);

/* The workers of a pool, as one seat sees them. */
struct share_pool_workers {
    uint32_t ready;   /* they are given calls */
    uint32_t known;   /* all that it knows of */
    uint32_t slots;   /* calls that the ready ones may have; those without a limit count none */
    uint32_t hung;    /* they were given up, and have not answered since */
    uint32_t drained; /* an operator holds them back */
    uint32_t ejected; /* they have failed repeatedly, and are left out */
};

/* Sets what this seat sees. */
void share_pool_set_workers(
    struct share *share, unsigned seat, unsigned pool, const struct share_pool_workers *workers);

/* What the seat sees that reaches most of them. */
struct share_pool_workers share_pool_workers(const struct share *share, unsigned pool);

/* Adds one call to this seat's queue unless `limit` are waiting over all shards. */
bool share_queue_add(struct share *share, unsigned seat, unsigned pool, uint32_t limit);
void share_queue_remove(struct share *share, unsigned seat, unsigned pool);

/* Sets since when this seat's oldest call waits (ms of the monotonic clock; 0: none waits). */
void share_queue_set_oldest(struct share *share, unsigned seat, unsigned pool, uint64_t since);

/*
 * Finds the call that has waited longest on the seats that are not in the set `skip`. Returns
 * false where none waits, else true with *ret_seat and *ret_since.
 */
bool share_queue_oldest_but(const struct share *share, uint64_t skip, unsigned pool,
    unsigned *ret_seat, uint64_t *ret_since);

/* The calls that wait, over all shards. */
uint64_t share_queue_waiting(const struct share *share, unsigned pool);

/*
 * About how many of these go before the next call of a client that has `own` of them: its own, and
 * as many and one more of each other client at most, since clients take turns. Where clients differ
 * in what they have it is rather more than less, but for the largest one of each seat.
 */
uint64_t share_queue_ahead(const struct share *share, unsigned pool, uint32_t own);

/*
 * Sets for this seat: how many calls of the client that has most are waiting (count), and how many
 * of all waiting calls are not the only one of their client (spare).
 */
void share_queue_set_largest(
    struct share *share, unsigned seat, unsigned pool, uint32_t count, uint32_t spare);

/*
 * The most calls that one client has waiting, over all seats that could give up more calls than
 * they owe; *ret_seat is where, and untouched when the result is 0.
 */
uint32_t share_queue_largest(const struct share *share, unsigned pool, unsigned *ret_seat);

/*
 * Where the queue is full, a call may take the place of one of the client with most calls, on
 * another seat. That seat owes one call more, which it gives up when its shard is woken.
 * share_queue_settle() is for that seat: returns how many calls it owed, and sets that to 0.
 */
void share_queue_owe(struct share *share, unsigned seat, unsigned pool);
uint32_t share_queue_settle(struct share *share, unsigned seat, unsigned pool);
