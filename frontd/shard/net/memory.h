#pragma once

/*
 * The budget of a shard (`limits.memory`): all that it holds for clients, workers and siblings is
 * held against it. What is held is what common/alloc.h has on loan, so that nothing is counted on
 * the way of a request. What follows from each level is pressure.c's business. Pure.
 */

#include "common/base.h"

enum memory_level {
    MEMORY_EASY,
    MEMORY_TIGHT, /* connections that hold more than a little are not read */
    MEMORY_SHORT, /* and new requests are refused, new connections wait */
    MEMORY_OUT,   /* and the largest holders are ended, until it is SHORT no more */
};

/* How long new requests are refused before clients that only wait are ended. */
enum { MEMORY_SHORT_MS = 3000 };

struct memory {
    uint64_t limit; /* bytes; 0: none */
    uint64_t next;  /* bytes: with so many held the level rises */
    enum memory_level level;
    uint64_t peak;     /* bytes: the most that was held since memory was last given back */
    uint64_t ended_at; /* ms: when holders were last ended */
    uint64_t fed_at;   /* ms: when some connections that are not read were last read once */
    uint64_t noted_at; /* ms: when memory_is_stuck() was asked last */
    uint32_t short_ms; /* for how long it has been SHORT, less for how long it has not */
    uint32_t unread;   /* connections that are not read on account of the level */
    bool was_short;    /* when memory_is_stuck() was asked last */
};

/* limit: bytes; 0: everything is EASY. */
void memory_init(struct memory *memory, uint64_t limit);

/*
 * The level that follows on `level` where `used` of `limit` bytes are held. Levels rise at 75, 90
 * and 100 %, and fall below 70, 85 and 90 %.
 */
enum memory_level memory_step(enum memory_level level, uint64_t used, uint64_t limit);

/* Raises the level if that many bytes are enough for a higher one. Returns the level. */
enum memory_level memory_raise(struct memory *memory, uint64_t used);

/* Raises or lowers the level, as that many bytes are held. Returns whether it has fallen. */
bool memory_settle(struct memory *memory, uint64_t used);

/*
 * Whether memory has been SHORT, or OUT, for MEMORY_SHORT_MS. Time in which it was not counts
 * against that, and is not forgiven at once: where what is freed is taken again by the next that
 * only wait, the time does not begin anew. Asked in each turn. now: ms, growing.
 */
bool memory_is_stuck(struct memory *memory, uint64_t now);

/* How large a buffer may grow, in bytes: it is there twice for a moment. used: as above. */
size_t memory_growth(const struct memory *memory, uint64_t used);

/* How much a connection may hold and still be read at that level, in bytes. */
size_t memory_little(enum memory_level level);

/* Whether giving memory back to the system is worth it: much less is held than at the peak. */
bool memory_fallen(struct memory *memory, uint64_t used);

/* Memory has been given back to the system: the next peak begins. */
static inline void memory_given_back(struct memory *memory, uint64_t used)
{
    memory->peak = used;
}
