#pragma once

/* Requests to clients, and what comes of them (protocol section 9). */

#include "workerd/call.h"

enum {
    ASK_TOKEN_SIZE = 17, /* bytes of `responses` in HELLO, with a NUL */
};

struct asks {
    struct idmap pending; /* by number */
    struct list by_due;   /* the same, what is due first in front */
    uint64_t last;        /* number */
    char token[ASK_TOKEN_SIZE];
};

/* Returns 0 or -ENOMEM. */
int asks_init(struct asks *asks);

/* Those that wait are told that nothing has come. Accepts a zeroed one. */
void asks_deinit(struct asks *asks);

/* Tells those that wait that nothing has come, and will not: the worker stops. */
void asks_end(struct asks *asks);

/*
 * A call of frontd.response. Returns whether it was for one of ours, in time or not: then it is
 * ended.
 */
bool ask_answered(struct workerd_call *call);

/* Sees to what is due. Returns when it is to be called next, in ms; UINT64_MAX: not at all. */
uint64_t asks_tick(struct asks *asks, uint64_t now);
