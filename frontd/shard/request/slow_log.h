#pragma once

/*
 * A line of the log for a call that took longer than `slow_log`, or ended since its deadline had
 * passed. A method (of a pool) has one line at once, and then one every LOG_LIMIT_MS with how many
 * more there were and how long the longest took, so that neither a slow method nor the number of
 * methods fills the log.
 */

#include "common/log.h"
#include "frontd/shard/request/account.h"

enum {
    SLOW_METHODS = 64,    /* that are told apart at a time; further ones share the last row */
    SLOW_METHOD_MAX = 64, /* bytes of a method in the log */
};

struct slow_row {
    const struct conf_pool *pool; /* NULL: the row is free */
    uint64_t hash;                /* of the method */
    uint64_t since;               /* ms: when the line was written */
    uint64_t more;                /* calls since then */
    uint64_t late;                /* of these, without an answer in time */
    uint64_t longest;             /* us */
    uint8_t n;
    char method[SLOW_METHOD_MAX];
};

struct slow_log {
    struct account_observer observer;
    struct hash_key key;
    struct slow_row rows[SLOW_METHODS];
    struct slow_row rest; /* of all methods for which there is no row */
};

/* Begins to hear of calls, unless no route has a slow_log. slow: of the shard. */
void slow_log_open(struct slow_log *slow, struct ctx *ctx);
void slow_log_close(struct slow_log *slow, struct ctx *ctx);

/* To be called now and then: writes how many there were since a line, LOG_LIMIT_MS after it. */
void slow_log_tell(struct slow_log *slow, uint64_t now);
