#pragma once

/*
 * The shared memory as it is laid out, for the modules of frontd/ipc alone. See shm.h; whatever is
 * changed here changes SHARE_LAYOUT.
 */

#include "frontd/ipc/metrics.h"
#include "frontd/ipc/shm.h"

/*
 * A worker's row is known by the keyed hash of its address: 64 bits that nobody can collide. refs
 * has a bit for each seat that uses the row. Freeing takes three steps: refs from the last seat's
 * bit to CLOSING | bit, key -> 0, refs -> 0; who finds CLOSING tries again, and where a process
 * dies in between, the supervisor finishes the steps.
 */
#define CLOSING ((uint64_t)1 << 63)
_Static_assert(SHARE_SEATS <= 64, "a seat is a bit of refs");

struct worker_row {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint64_t refs;
    _Atomic uint32_t hint;                   /* a slot that was free lately */
    _Atomic uint32_t load[SHARE_SEATS];      /* calls in progress; each seat writes its own */
    _Atomic uint32_t abandoned[SHARE_SEATS]; /* of them, those nobody waits for any more */
    _Atomic uint64_t hung;                   /* ms: given up by a shard then; 0: it was not */
    _Atomic uint64_t oldest[SHARE_SEATS];    /* as in a queue_cell, for this worker alone */
};

_Static_assert(SHARE_SEAT_LAST < 63, "seat 63 would collide with CLOSING");

struct queue_cell {
    _Atomic uint64_t oldest;
    _Atomic uint32_t queued;
    _Atomic uint32_t largest; /* of them, those of the client that has most */
    _Atomic uint32_t spare;   /* of them, those that are not the only one of their client */
    _Atomic uint32_t owed;    /* calls to be given up there for some that others have let in */
};

/* Connections from one peer on one seat: written by that seat alone, read by all. */
struct peer_cell {
    _Atomic uint64_t key;
    _Atomic uint64_t count;
};

enum { PAGE = 4096 };

struct counters_row {
    _Alignas(64) struct share_counters counters; /* no cache line has two writers */
};

/*
 * Every process that has it mapped can write all of it, at any moment. So nothing in here says
 * where anything is: whoever reads a count may get a wrong one, and no more.
 */
struct memory {
    uint64_t layout; /* these two are for programs before, which looked here for what they got: */
    uint64_t size;   /* they refuse it */
    _Atomic uint32_t seats; /* one more than the highest seat in use so far */
    _Atomic uint64_t connections[SHARE_SEATS];
    _Atomic uint64_t reached[SHARE_POOLS]; /* a bit for each seat that has a worker of the pool */
    struct counters_row counters[SHARE_SEATS];
    struct queue_cell queues[SHARE_POOLS][SHARE_SEATS];
    struct worker_row workers[SHARE_WORKERS];
    /* One byte a slot: 0 free, else the seat that holds it plus one. Sparse: only pages that are
     * used take memory. */
    _Alignas(PAGE) _Atomic uint8_t slots[SHARE_WORKERS][SHARE_SLOTS];
    _Alignas(PAGE) struct peer_cell peer_cells[]; /* [SHARE_SEATS][peers] */
};

struct share {
    struct memory *memory;
    size_t size;  /* of the mapping */
    size_t peers; /* cells per seat */
    struct share_table table;
    unsigned peer_prefix; /* bits of an IPv6 address that make the peer */
};

/* Gives back one of a count. It cannot be 0 unless somebody has written what is not theirs. */
static inline void take_one(_Atomic uint64_t *count)
{
    if (atomic_fetch_sub(count, 1) == 0)
        atomic_store(count, 0);
}

static inline void take_one_32(_Atomic uint32_t *count)
{
    if (atomic_fetch_sub(count, 1) == 0)
        atomic_store(count, 0);
}

/* Looked at first: what is 0 stays a page that is nobody's. */
static inline void clear_64(_Atomic uint64_t *number)
{
    if (atomic_load_explicit(number, memory_order_relaxed) != 0)
        atomic_store(number, 0);
}

static inline void clear_32(_Atomic uint32_t *number)
{
    if (atomic_load_explicit(number, memory_order_relaxed) != 0)
        atomic_store(number, 0);
}

/* Sums over seats look at those up to the highest in use. */
static inline uint32_t seats_in_use(const struct share *share)
{
    uint32_t seats = atomic_load_explicit(&share->memory->seats, memory_order_relaxed);
    return MIN(seats, (uint32_t)SHARE_SEATS);
}

static inline void note_seat(struct share *share, unsigned seat)
{
    CHECK(seat <= SHARE_SEAT_LAST);
    uint32_t seats = atomic_load(&share->memory->seats);
    while (
        seats < seat + 1 && !atomic_compare_exchange_weak(&share->memory->seats, &seats, seat + 1))
        ;
}

static inline void clear_queue(struct queue_cell *cell)
{
    clear_32(&cell->queued);
    clear_64(&cell->oldest);
    clear_32(&cell->largest);
    clear_32(&cell->spare);
    clear_32(&cell->owed);
}

/*
 * The least time that a seat has which is not in that set, but 0. first: that of the first seat;
 * step: bytes from one seat's to the next one's.
 */
bool share_find_oldest(const struct share *share, uint64_t skip, const _Atomic uint64_t *first,
    size_t step, unsigned *ret_seat, uint64_t *ret_since);

/* The last steps of freeing a row whose refs have CLOSING. */
void share_finish_closing(struct worker_row *row);
