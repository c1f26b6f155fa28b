#pragma once

/* What shards count, each on its own seat of the shared memory. */

#include <stdatomic.h>

#include "frontd/ipc/shm.h"

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
