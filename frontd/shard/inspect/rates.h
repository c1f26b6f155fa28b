#pragma once

/*
 * How much each connection asks for, counted for a while: requests and calls that end, and their
 * bytes. There is nothing of it in a connection, so it is counted only while it is asked for.
 */

#include "frontd/shard/request/account.h"

enum { RATES_MAX = 65536 /* connections that are counted; a power of two */ };

struct rate {
    uint64_t conn; /* 0: the place is free */
    uint64_t bytes;
    uint32_t requests;
    uint32_t calls;
};

struct rates {
    struct account_observer observer;
    struct rate *all; /* RATES_MAX, by the connection's id; NULL: nothing is counted */
    uint32_t count;
    bool full; /* some connections are not counted */
};

/* Begins to count. rates: zeroed; it may not move until rates_stop(). Returns 0 or -ENOMEM. */
int rates_start(struct rates *rates, struct ctx *ctx);

/* Counts no more; what was counted stays. */
void rates_stop(struct rates *rates, struct ctx *ctx);

/* Accepts one that never began. */
void rates_deinit(struct rates *rates, struct ctx *ctx);

/* What was counted of a connection; NULL: nothing. */
const struct rate *rates_of(const struct rates *rates, uint64_t conn);
