#pragma once

/*
 * The memory that all shards and the supervisor share: one memfd of plain atomics. No locks: every
 * word has one writer, or is changed by one atomic operation. So a process may die between any two
 * instructions, and the supervisor can take back exactly what it held (shm_reclaim.h).
 *
 * A *seat* is the place of a shard process here, used by one process at a time.
 *
 * What is counted: shm_workers.h, shm_queues.h, shm_clients.h, shm_beats.h, metrics.h; what is
 * held back: shm_holds.h; which workers fail: shm_health.h; under which names it is counted:
 * shm_names.h.
 */

#include "common/base.h"
#include "common/siphash.h"

/*
 * Changes whenever the layout does: two versions of the program may run side by side for a while.
 */
enum { SHARE_LAYOUT = 20 };

enum {
    SHARE_SEATS = 64,
    SHARE_SEAT_LAST = SHARE_SEATS - 2,       /* the last bit of 64 has another use */
    SHARE_SEAT_SUPERVISOR = SHARE_SEATS - 1, /* it counts there, too; it has nothing else there */
    SHARE_WORKERS = 1024,                    /* different worker addresses at one time */
    SHARE_SLOTS = 65536,                     /* a worker with more concurrency is given this many */
    SHARE_POOLS = 128,                       /* two generations' pools, should they all differ */
    SHARE_LIMITS = 1024,                     /* limits of calls that have been in configs */
    SHARE_RATE_SETS = 8192,                  /* of SHARE_RATE_WAYS buckets of rates each */
    SHARE_RATE_WAYS = 8,
    SHARE_DRAINED_MAX = 64, /* workers that are drained at one time */
    SHARE_HEALTHS = 2048,   /* worker addresses of late; see shm_health.h */
    SHARE_SLOT_NONE = -1,   /* the slot of a call to a worker without a limit */
};

/* What may be wrong with a worker: see shm_troubles.h. */
enum share_worker_trouble {
    SHARE_TROUBLE_UNREAD, /* it does not read what it is sent */
    SHARE_TROUBLE_LATE,   /* it holds calls past their deadline */
    SHARE_WORKER_TROUBLES
};

/*
 * It is mapped by processes that may have been taken over, so nothing in it is trusted: a count
 * may be wrong, and no more. Where things are, each process keeps in memory of its own.
 */
struct share;

/*
 * The supervisor's part, which it tells its shards: what must not be learned or changed through
 * the memory.
 */
struct share_table {
    struct hash_key key;
    uint64_t
        pools[SHARE_POOLS]; /* keyed hashes of the names of the pools that have a row; 0: free */
};

/* Makes a new key, and no pools. */
void share_table_init(struct share_table *table);

/*
 * Creates the memory. peers: cells for counting connections per peer address on each seat (a power
 * of two, at least twice the most connections of a shard; 0: they are not counted). Returns 0 with
 * *ret_fd, a close-on-exec descriptor of the caller's, or -errno.
 */
int share_create(size_t peers, int *ret_fd);

/*
 * Maps the memory. fd: borrowed; table: copied. Returns 0 with *ret_share (share_unmap()), or
 * -errno; -EINVAL when it is not a memfd of the right size that can get neither longer nor
 * shorter.
 */
int share_map(int fd, const struct share_table *table, struct share **ret_share);

/*
 * The same to be read only, by a descriptor that need not be open for more: what writes to it then
 * ends the process.
 */
int share_map_readonly(int fd, const struct share_table *table, struct share **ret_share);

/* Opens the memory anew, to be read only: the caller's, close-on-exec, or -errno. */
int share_open_readonly(int fd);

/* Accepts NULL. */
void share_unmap(struct share *share);

/* The table as it is now, with the pools of share_set_pools(); valid until share_unmap(). */
const struct share_table *share_table(const struct share *share);

/* A seat as a set of seats. */
static inline uint64_t share_seat_bit(unsigned seat)
{
    return UINT64_C(1) << seat;
}
