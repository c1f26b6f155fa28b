#pragma once

/*
 * Names workers and pools that are stuck, in the log, once, and once more when that is over:
 *
 * - a worker that does not read: bytes wait for it, and it has taken none for TROUBLE_UNREAD_MS
 * - a worker that holds calls past their deadline, for TROUBLE_LATE_MS
 * - a pool whose calls wait: the oldest for TROUBLE_QUEUE_MS, or half of `queue` is in use
 *
 * Nothing of it is on the way of a request: it is looked at a few times a second.
 */

#include "frontd/shard/net/ctx.h"

enum {
    TROUBLE_UNREAD_MS = 2000,
    TROUBLE_LATE_MS = 1000,
    TROUBLE_QUEUE_MS = 1000,
    TROUBLE_CALM_MS = 1000,  /* that it has to be well before it is over */
    TROUBLE_LEFT_MS = 10000, /* the same, where the shard that has said it has gone away */
};

struct worker;

/* What a shard remembers of one trouble. Zeroed at first. */
struct trouble {
    uint64_t well; /* ms: since when there is none; 0: there is */
    bool seen;     /* it has told the others that there is */
};

/* What it has seen of a worker's reading when it looked last. */
struct trouble_reading {
    uint64_t written; /* bytes that the kernel had taken from us */
    int unread;       /* of these, bytes that it still had */
    uint64_t since;   /* ms: when either changed */
};

/* To be called a few times a second. pools: of the shard. */
void trouble_look(struct ctx *ctx, struct pool *pools, size_t npools);

/*
 * The worker is ready no more, or the pool is left: this shard looks no more. What it has said is
 * not over by that.
 */
void trouble_leave_worker(struct worker *worker);
void trouble_leave_pool(struct pool *pool);
