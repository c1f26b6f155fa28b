#pragma once

/* The calls in each worker process, in progress and so far, over all shards. */

#include "frontd/ipc/shm.h"

/*
 * The row of a worker process, for this seat; or -ENOSPC. Given back with share_worker_put() as
 * often as it was got.
 *
 * id: what all shards know the worker by (its address and PID), compared as `n` bytes.
 */
int share_worker_get(struct share *share, unsigned seat, const void *id, size_t n);
void share_worker_put(struct share *share, unsigned seat, int worker);

/*
 * The calls in progress in the worker, over all shards: a sum that others change while it is made,
 * so it can be of no one moment.
 */
uint32_t share_worker_load(const struct share *share, int worker);

/*
 * Changes the number of this seat's cancelled calls that still hold a slot, since they are not
 * answered yet.
 */
void share_worker_add_abandoned(struct share *share, unsigned seat, int worker, int change);

/* The calls in progress in the worker that are not cancelled, over all shards. */
uint32_t share_worker_awaited(const struct share *share, int worker);

/*
 * The worker has said HELLO: since now (ms of the monotonic clock) it is there, unless a shard has
 * met it before.
 */
void share_worker_meet(struct share *share, int worker, uint64_t now);

/* It has come back after it was left out: it is there since now. */
void share_worker_set_back(struct share *share, int worker, uint64_t now);

/* Since when it is there, ms. */
uint64_t share_worker_came(const struct share *share, int worker);

/* Counts a call that was given to the worker. */
void share_worker_count_call(struct share *share, int worker);

/*
 * Sets when a shard gave up the worker since it had hung (ms of the monotonic clock), or with 0
 * that it has answered since. Until then no shard gives it calls.
 */
void share_worker_set_hung(struct share *share, int worker, uint64_t since);
uint64_t share_worker_hung(const struct share *share, int worker);

/*
 * Takes one of the worker's slots. concurrency: how many it has, 0: no limit.
 * Returns true with *ret_slot, or false when all are taken, or were a moment before.
 */
bool share_slot_take(
    struct share *share, unsigned seat, int worker, uint32_t concurrency, int *ret_slot);
void share_slot_give(struct share *share, unsigned seat, int worker, int slot);

/*
 * As share_queue_set_oldest() and share_queue_oldest_but(), for one worker, where not every
 * waiting call may be given to every worker.
 */
void share_worker_set_oldest(struct share *share, unsigned seat, int worker, uint64_t since);
bool share_worker_oldest_but(
    const struct share *share, uint64_t skip, int worker, unsigned *ret_seat, uint64_t *ret_since);

enum { SHARE_WAITING_ONE = 16 };

/*
 * What waits for one worker, where not every call may be given to every worker: of calls that
 * several may have its part, by its slots. In SHARE_WAITING_ONEs of a call, and of a client.
 */
struct share_waiting {
    uint32_t calls;
    uint32_t clients; /* that these are of */
};

/* Sets what waits for the worker on this seat. */
void share_worker_set_waiting(
    struct share *share, unsigned seat, int worker, struct share_waiting waiting);

/*
 * About how much of it goes before the next call of a client that has `own` calls waiting, over all
 * seats: of each client as many and one more at most, since clients take turns. In
 * SHARE_WAITING_ONEs of a call.
 */
uint64_t share_worker_ahead(const struct share *share, int worker, uint32_t own);

/*
 * What people are to know of a worker process, from its HELLO. address: as the log has it.
 * concurrency: 0: no limit.
 */
void share_worker_describe(
    struct share *share, int worker, const char *address, int64_t pid, uint32_t concurrency);

/* Sets when the oldest call in progress of this seat was sent, ms of the monotonic clock; 0: none.
 */
void share_worker_set_sent(struct share *share, unsigned seat, int worker, uint64_t sent);

/* A worker process, as people see it. All of it was written by shards, and may be wrong. */
struct share_worker_view {
    int64_t pid;
    uint32_t concurrency;
    uint32_t load;      /* calls in progress, over all shards */
    uint32_t abandoned; /* of these, cancelled, and not answered yet */
    uint64_t hung;      /* ms of the monotonic clock: since when it is given up; 0: it is not */
    uint64_t sent;      /* ms: when its oldest call in progress was, half a second ago; 0: none */
    uint64_t calls;     /* that it was given so far, since any shard knows it */
    uint64_t came;      /* ms: since when it is there, as share_worker_came() */
    uint64_t seats;     /* the set of the seats whose shards have a channel to it */
};

/*
 * The next process, from the row *at on, whose address is that; NULL: of any address. *at: 0 at
 * first. Returns false after the last one.
 */
bool share_worker_next(
    const struct share *share, const char *address, int *at, struct share_worker_view *ret_view);
