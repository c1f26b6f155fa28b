#pragma once

/* Requests to clients that are not answered yet (ask.c sends them). */

#include "common/idmap.h"
#include "common/list.h"
#include "workerd/workerd.h"

enum {
    ASK_TOKEN_SIZE = 17, /* bytes of `responses` in HELLO, with a NUL */
};

struct ask {
    struct idmap_node node; /* its id is the number */
    struct list link;       /* in asks->by_due */
    struct workerd_conn conn;
    uint64_t due; /* ms */
    workerd_answer answered;
    void *data;
};

struct asks {
    struct idmap pending; /* by number */
    struct list by_due;   /* the same, the next that is due in front */
    uint64_t last;        /* of the request that was sent last */
    char token[ASK_TOKEN_SIZE];
};

/* Returns 0 or -ENOMEM. */
int asks_init(struct asks *asks);

/* Ends all that wait, without a response. Accepts a zeroed one. */
void asks_deinit(struct asks *asks);

/* Adds one that has been sent; from mem_zalloc(), and consumed. */
void asks_add(struct asks *asks, struct ask *ask);

/* Returns the one of that number, or NULL. */
struct ask *asks_find(const struct asks *asks, uint64_t number);

/* The one place where it ends: `answered` is called, and it is freed. */
void asks_answer(struct asks *asks, struct ask *ask, struct workerd_text response);

/* Ends all that wait, without a response: none will come, since the worker stops. */
void asks_end(struct asks *asks);

/* Ends what is due. Returns when it is to be called next, in ms; UINT64_MAX: not at all. */
uint64_t asks_tick(struct asks *asks, uint64_t now);
