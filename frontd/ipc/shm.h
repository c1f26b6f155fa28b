#pragma once

/*
 * What the shards share: one memfd of plain atomics. No locks; every word has one writer, or is
 * changed by one atomic operation, so that a process may die between any two instructions and the
 * supervisor can take back exactly what it held.
 *
 * A *seat* is a shard process's place here; a seat is used by one process at a time.
 */

#include <stdatomic.h>
#include <sys/socket.h>

#include "common/base.h"
#include "common/siphash.h"

/* Changes whenever the layout does: programs of two versions may run side by side for a while. */
enum { SHARE_LAYOUT = 6 };

enum {
    SHARE_SEATS = 64,
    SHARE_SEAT_LAST = SHARE_SEATS - 2, /* a bit of the seats' 64 has another use */
    SHARE_WORKERS = 1024,              /* different worker addresses at one time */
    SHARE_SLOTS = 65536,               /* a worker's concurrency above it counts as this */
    SHARE_POOLS = 128,                 /* two generations' pools, should they all differ */
    SHARE_SLOT_NONE = -1,              /* what a call on a worker without a limit holds */
};

/*
 * It is mapped by processes that may be anybody's by now, so nothing in it is believed: a count may
 * be wrong, and no more. Where things are, each process keeps in memory of its own.
 */
struct share;

/* Of the supervisor, which tells its shards: what nobody may learn or change through the memory. */
struct share_table {
    struct hash_key key;
    uint64_t pools[SHARE_POOLS]; /* keyed hashes of the names of those that have a row; 0: free */
};

/* A new key, and no pools. */
void share_table_init(struct share_table *table);

/*
 * Creates the memory. peers: entries for counting connections per peer address on each seat (a
 * power of two, twice the most connections of a shard; 0: they are not counted).
 * Returns 0 with *ret_fd, a close-on-exec descriptor of the caller's, or -errno.
 */
int share_create(size_t peers, int *ret_fd);

/*
 * Maps it; the descriptor is borrowed, table: copied. Returns 0 with *ret_share (share_unmap()), or
 * -errno; -EINVAL when it is not a memfd of the right size that can get neither longer nor shorter.
 */
int share_map(int fd, const struct share_table *table, struct share **ret_share);

/* Accepts NULL. */
void share_unmap(struct share *share);

/* Its table as it is now, with the pools of share_set_pools(); valid until share_unmap(). */
const struct share_table *share_table(const struct share *share);

/*
 * For the supervisor, when a process has ended: takes back all that is not held by one of those
 * that live. alive: a bit for each seat.
 */
void share_reclaim(struct share *share, uint64_t alive);

/* Counters */

/* What a seat has counted; only who sits there writes it. Sums outlive the process. */
struct share_counters {
    _Atomic uint64_t accepted; /* connections */
    _Atomic uint64_t closed;   /* of them; one that moves to another seat is not */
    _Atomic uint64_t requests;
    _Atomic uint64_t calls;   /* sent to workers */
    _Atomic uint64_t dropped; /* pushes, for consumers that were too slow */
    _Atomic uint64_t moved;   /* connections that were given to another seat */
    _Atomic uint64_t beats;   /* changes at least twice a second while the shard's loop turns */
    _Atomic uint64_t unheard; /* frames of workers that shards which did not keep up have missed */
};

static inline void share_count(_Atomic uint64_t *counter, uint64_t n)
{
    /* One writer: this need not be one instruction. */
    uint64_t count = atomic_load_explicit(counter, memory_order_relaxed);
    atomic_store_explicit(counter, count + n, memory_order_relaxed);
}

/* How often a shard says that it lives, in ms. */
enum { SHARE_BEAT_MS = 500 };

/* Says that the loop of the shard on that seat turns. */
void share_beat(struct share *share, unsigned seat);

/* A number that has changed when the shard on that seat has said so; good for nothing else. */
uint64_t share_beats(const struct share *share, unsigned seat);

/* Of a seat that somebody looks at now and then. Zeroed at first. */
struct share_pulse {
    uint64_t beats; /* when it was looked at last */
    uint64_t at;    /* ms: they were others then */
};

/* Looks at share_beats(). Returns when they were last found to have changed, in ms. now: ms. */
uint64_t share_pulse(
    const struct share *share, unsigned seat, struct share_pulse *pulse, uint64_t now);

/* Those of a seat; valid as long as the memory is mapped. */
struct share_counters *share_counters(struct share *share, unsigned seat);

/* Over all seats, those whose processes are gone included. */
struct share_sums {
    uint64_t accepted;
    uint64_t closed;
    uint64_t requests;
    uint64_t calls;
    uint64_t dropped;
    uint64_t moved;
    uint64_t unheard;
};

struct share_sums share_sums(const struct share *share);

/* Workers */

/*
 * The number of a worker process, for this seat; or -ENOSPC. Given back with share_worker_put() as
 * often as it was got.
 *
 * id: what all shards know it by (its address and PID), compared as `n` bytes.
 */
int share_worker_get(struct share *share, unsigned seat, const void *id, size_t n);
void share_worker_put(struct share *share, unsigned seat, int worker);

/* Calls in progress there, over all shards. */
uint32_t share_worker_load(const struct share *share, int worker);

/* Calls that hold a slot though nobody waits for their answer (cancelled, not answered yet). */
void share_worker_add_abandoned(struct share *share, unsigned seat, int worker, int change);

/* Calls in progress there that somebody waits for, over all shards. */
uint32_t share_worker_awaited(const struct share *share, int worker);

/*
 * Says when a shard gave the worker up since it had hung (ms of the monotonic clock), or with 0
 * that it has been heard since. Meanwhile no shard gives it calls.
 */
void share_worker_set_hung(struct share *share, int worker, uint64_t since);
uint64_t share_worker_hung(const struct share *share, int worker);

/*
 * Takes one of the worker's slots. concurrency: how many it has, 0: no limit.
 * Returns true with *ret_slot, or false when all are taken.
 */
bool share_slot_take(
    struct share *share, unsigned seat, int worker, uint32_t concurrency, int *ret_slot);
void share_slot_give(struct share *share, unsigned seat, int worker, int slot);

/* Queues of calls that wait for a slot */

/*
 * For the supervisor: from now on there is a row for each pool of these names, and for no other.
 * A pool keeps its row, so that two generations of shards whose configs list their pools in another
 * order mean the same. Shards that are started afterwards are to be told share_table().
 * n: at most SHARE_POOLS.
 */
void share_set_pools(struct share *share, const char *const *names, size_t n);

/* The row of the pool of that name, or -ENOENT. */
int share_pool(const struct share *share, const char *name);

/* Says whether the shard on this seat has a worker of the pool that calls may be given to. */
void share_pool_set_reached(struct share *share, unsigned seat, unsigned pool, bool reached);

/* The set of the seats that have said so. */
uint64_t share_pool_reached(const struct share *share, unsigned pool);

/* Adds one call to this seat's queue unless `limit` are waiting over all shards. */
bool share_queue_add(struct share *share, unsigned seat, unsigned pool, uint32_t limit);
void share_queue_remove(struct share *share, unsigned seat, unsigned pool);

/* Says since when this seat's oldest call waits (ms of the monotonic clock; 0: none waits). */
void share_queue_set_oldest(struct share *share, unsigned seat, unsigned pool, uint64_t since);

/* For a set of seats. */
static inline uint64_t share_seat_bit(unsigned seat)
{
    return UINT64_C(1) << seat;
}

/*
 * Of the seats that are not in the set `skip`, the one whose call has waited longest. Returns false
 * where none waits, else true with *ret_seat and *ret_since.
 */
bool share_queue_oldest_but(const struct share *share, uint64_t skip, unsigned pool,
    unsigned *ret_seat, uint64_t *ret_since);

/* The same for one worker, where not every call that waits may be given to every worker. */
void share_worker_set_oldest(struct share *share, unsigned seat, int worker, uint64_t since);
bool share_worker_oldest_but(
    const struct share *share, uint64_t skip, int worker, unsigned *ret_seat, uint64_t *ret_since);

/* Calls that wait, over all shards. */
uint64_t share_queue_waiting(const struct share *share, unsigned pool);

/*
 * Says how many calls wait on this seat of the client that has most, and how many of all its calls
 * are not the only one of their client.
 */
void share_queue_set_largest(
    struct share *share, unsigned seat, unsigned pool, uint32_t count, uint32_t spare);

/*
 * The most that one client has waiting, over all shards that could give up more than they owe;
 * *ret_seat, untouched at 0, is where.
 */
uint32_t share_queue_largest(const struct share *share, unsigned pool, unsigned *ret_seat);

/*
 * The queue is full, and that seat has the client with most: it owes one call more, which it gives
 * up when it is woken. share_queue_settle() is for that seat: how many it owed, and no longer does.
 */
void share_queue_owe(struct share *share, unsigned seat, unsigned pool);
uint32_t share_queue_settle(struct share *share, unsigned seat, unsigned pool);

/* Client connections */

/* How many connections this seat has. */
uint64_t share_connections(const struct share *share, unsigned seat);

/* Counts one connection of this seat unless `limit` are open over all shards. */
bool share_connection_add(struct share *share, unsigned seat, uint64_t limit);
void share_connection_remove(struct share *share, unsigned seat);

/*
 * Of an IPv6 address so many bits, 1 to 128, make the peer, from the first share_peer_add() on; 64
 * where it is not said. Processes with other prefixes count for themselves, also where the bits are
 * the same.
 */
void share_set_peer_prefix(struct share *share, unsigned bits);

/*
 * The same for the connections from one peer; always true for UNIX sockets. An IPv6 address that
 * stands for an IPv4 one (::ffff:192.0.2.7) counts as that.
 */
bool share_peer_add(
    struct share *share, unsigned seat, const struct sockaddr *peer, uint64_t limit);
void share_peer_remove(struct share *share, unsigned seat, const struct sockaddr *peer);
