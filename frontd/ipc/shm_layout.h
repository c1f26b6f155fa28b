#pragma once

/*
 * The layout of the shared memory (shm.h), for the modules of frontd/ipc alone. A change here
 * changes SHARE_LAYOUT.
 */

#include <string.h>

#include "frontd/ipc/metrics.h"
#include "frontd/ipc/shm.h"

/*
 * A worker's row is known by the keyed hash of its address, 64 bits, for which collisions cannot
 * be chosen without the key. refs has a bit for each seat that uses the row. Freeing takes three
 * steps:
 * - refs, from the last seat's bit to CLOSING | bit
 * - key to 0
 * - refs to 0
 *
 * A process that finds CLOSING tries again; when a process has died between two steps, the
 * supervisor takes the others.
 */
#define CLOSING ((uint64_t)1 << 63)
_Static_assert(SHARE_SEATS <= 64, "a seat is a bit of refs");

/* See shm_troubles.h. */
struct trouble_cell {
    _Atomic uint64_t seats; /* that see it, a bit each */
    _Atomic uint64_t since; /* ms: when it was said first; 0: it is not said, or it is over */
};

struct worker_row {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint64_t refs;
    _Atomic uint64_t calls;                  /* that it was given so far */
    _Atomic uint32_t hint;                   /* a slot that was free lately */
    _Atomic uint32_t load[SHARE_SEATS];      /* calls in progress; each seat writes its own */
    _Atomic uint32_t abandoned[SHARE_SEATS]; /* of these, cancelled, and not answered yet */
    _Atomic uint64_t hung;                   /* ms: when a shard gave it up; 0: none has */
    _Atomic uint64_t oldest[SHARE_SEATS];    /* as in queue_cell, for this worker alone */
    _Atomic uint64_t sent[SHARE_SEATS];      /* ms: when its oldest call was; now and then; or 0 */
    _Atomic uint64_t came;                   /* ms: when it was met first, or came back; 0: never */
    _Atomic uint32_t waiting_calls[SHARE_SEATS]; /* see struct share_waiting */
    _Atomic uint32_t waiting_clients[SHARE_SEATS];
    /* For people, from the worker's HELLO; each seat writes the same. */
    _Atomic uint64_t address; /* share_key() of its text */
    _Atomic uint64_t pid;
    _Atomic uint32_t concurrency; /* 0: no limit */
    struct trouble_cell troubles[SHARE_WORKER_TROUBLES];
};

_Static_assert(SHARE_SEAT_LAST < 63, "seat 63 would collide with CLOSING");

struct queue_cell {
    _Atomic uint64_t oldest;
    _Atomic uint32_t queued;
    _Atomic uint32_t largest; /* of these, the calls of the client that has most */
    _Atomic uint32_t spare;   /* of these, the calls that are not the only one of their client */
    _Atomic uint32_t owed;    /* calls to give up: other seats have added them to the full queue */
    /* Of the pool's workers, as the seat sees them: */
    _Atomic uint32_t ready;
    _Atomic uint32_t known;
    _Atomic uint32_t slots; /* of those that are ready */
    _Atomic uint32_t hung;
    _Atomic uint32_t drained;
    _Atomic uint32_t ejected;
};

/* Connections from one peer on one seat: written by that seat alone, read by all. */
struct peer_cell {
    _Atomic uint64_t key;
    _Atomic uint64_t count;
};

/* Written by the supervisor alone: shm_holds.h. */
struct holds_cells {
    _Atomic uint32_t changes;
    _Atomic uint32_t log_level; /* one more than the level; 0: that of the config */
    _Atomic uint8_t paused[SHARE_POOLS];
    _Atomic uint64_t drained[SHARE_DRAINED_MAX]; /* share_key() of their addresses; 0: free */
};

/* See shm_limits.h. */
struct rate_cell {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint64_t at;  /* us: when all of its calls would be paid for at its rate */
};

/* Of a worker's address; see shm_health.h. */
struct health_entry {
    _Alignas(64) _Atomic uint64_t key; /* share_key() of it; 0: free */
    _Atomic uint64_t seen;             /* ms: when a shard had a use for it */
    _Atomic uint64_t until;            /* ms: until when it is left out; 0: it is not */
    _Atomic uint64_t trial;   /* ms: by when the call that is tried has ended; 0: none is */
    _Atomic uint64_t back;    /* ms: when it came back last */
    _Atomic uint64_t lost;    /* the PID of which the loss was counted last */
    _Atomic uint64_t lost_at; /* ms: when it was */
    _Atomic uint32_t failed;  /* failures in a row */
    _Atomic uint32_t times;   /* how often in a row it was left out */
};

enum { PAGE = 4096 };

enum { NAME_SIZE = 104 /* bytes of a row's name, no NUL */ };

/* The name of a row of metrics, on all seats. Written once, and believed in nothing. */
struct name_row {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint32_t ref; /* see shm_names.h */
    _Atomic uint32_t len;
    char text[NAME_SIZE];
    uint64_t unused;
};

/*
 * The rows of metrics of a seat. What is read where nothing was written would be allocated, so that
 * `used` says which rows are.
 */
struct metric_seat {
    _Alignas(PAGE) _Atomic uint64_t used[METRIC_KINDS][METRIC_ROWS_MAX / 64]; /* a bit a row */
#define METRIC_SEAT_ROWS(kind, table, rows) struct kind##_words kind[rows];
    METRIC_ROWS(METRIC_SEAT_ROWS)
#undef METRIC_SEAT_ROWS
};

/*
 * Each process that has it mapped can write all of it at any moment. So nothing in it says where
 * anything is: a count that is read may be wrong, and no more.
 */
struct memory {
    uint64_t layout;        /* for earlier versions of the program, which look here first */
    uint64_t size;          /* and refuse this layout */
    _Atomic uint32_t seats; /* one more than the highest seat in use so far */
    _Atomic uint64_t connections[SHARE_SEATS];
    _Atomic uint64_t reached[SHARE_POOLS]; /* a bit for each seat that has a worker of the pool */
    struct holds_cells holds;
    struct trouble_cell crowded[SHARE_POOLS]; /* pools whose calls wait */
    struct queue_cell queues[SHARE_POOLS][SHARE_SEATS];
    struct worker_row workers[SHARE_WORKERS];
    _Atomic uint32_t health_changes;
    struct health_entry health[SHARE_HEALTHS];
    /* One byte a slot: 0 free, else the seat that holds it plus one. Sparse: only pages that are
     * used take memory. */
    _Alignas(PAGE) _Atomic uint8_t slots[SHARE_WORKERS][SHARE_SLOTS];
    _Atomic uint64_t limits[SHARE_LIMITS]; /* keys; 0: free */
    /* Sparse: of rows that are used. */
    _Alignas(PAGE) _Atomic uint32_t limit_calls[SHARE_LIMITS][SHARE_SEATS];
    _Alignas(PAGE) struct rate_cell rates[SHARE_RATE_SETS][SHARE_RATE_WAYS];
    _Alignas(PAGE) struct name_row names[METRIC_KINDS][METRIC_ROWS_MAX];
    struct metric_seat metrics[SHARE_SEATS];      /* sparse, too */
    _Alignas(PAGE) struct peer_cell peer_cells[]; /* [SHARE_SEATS][peers] */
};

struct share {
    struct memory *memory;
    size_t size;  /* of the mapping */
    size_t peers; /* cells per seat */
    struct share_table table;
    unsigned peer_prefix; /* bits of an IPv6 address that make the peer */
};

/* What stands for a name in the memory, for which collisions cannot be chosen; never 0. */
static inline uint64_t share_key(const struct share *share, const char *name)
{
    return hash_bytes(&share->table.key, name, strlen(name)) | 1;
}

/*
 * Gives back one of a count. It is 0 before only if another process has written what is not its
 * own.
 */
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

/* Read first: a word that is 0 is not written, so that its page stays unallocated. */
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

/* One more than the highest seat in use so far: sums over seats end there. */
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
    clear_32(&cell->ready);
    clear_32(&cell->known);
    clear_32(&cell->slots);
    clear_32(&cell->ejected);
}

/*
 * The least time but 0 of the seats that are not in the set `skip`. first: the time of the first
 * seat; step: bytes to the time of the next. Returns false where all are 0, else true with
 * *ret_seat and *ret_since.
 */
bool share_find_oldest(const struct share *share, uint64_t skip, const _Atomic uint64_t *first,
    size_t step, unsigned *ret_seat, uint64_t *ret_since);

/* The words of a row of a seat, as metric_row(); NULL where nothing was counted in it. */
const _Atomic uint64_t *metric_row_of(
    const struct share *share, unsigned seat, enum metric_kind kind, unsigned row);

/* Takes the last steps of freeing a row whose refs have CLOSING. */
void share_finish_closing(struct worker_row *row);
