#pragma once

/*
 * What the shards share: one memfd of plain atomics. No locks; every word has one writer, or is
 * changed by one atomic operation, so that a process may die between any two instructions and the
 * supervisor can take back exactly what it held.
 *
 * A *seat* is a shard process's place here; a seat is used by one process at a time.
 */

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

/* For a set of seats. */
static inline uint64_t share_seat_bit(unsigned seat)
{
    return UINT64_C(1) << seat;
}
