#pragma once

/* The workers of one pool: as many as the config says, and replaced one at a time. */

#include "frontd/config/config.h"
#include "frontd/supervisor/workers/worker_process.h"
#include "frontd/supervisor/workers/workers_ctx.h"

struct worker_pool {
    struct list node;    /* of ctx->pools */
    struct list workers; /* those that leave included */
    struct workers_ctx *ctx;
    const struct conf_pool *conf; /* NULL: there is no such pool any more, or it has no command */
    struct fingerprint wanted;    /* of the command, when the config was applied */
    uint32_t serial;              /* of the last socket */
    bool rolling;                 /* workers that run something else are to be replaced */
    uint64_t recycle_at;          /* ms: before it none is recycled, since that has failed */
    unsigned recycle_failures;    /* in a row */
    bool blind;                   /* that /proc shows no memory of one has been logged */
    char name[WORKER_NAME_MAX];
};

/* Without workers. ctx: borrowed. Returns NULL without memory. */
struct worker_pool *worker_pool_new(struct workers_ctx *ctx, const char *name);
/* It has no workers; it is removed from its list. */
void worker_pool_free(struct worker_pool *pool);

/*
 * Takes over a config: starts what is missing, retires what is too much. roll: replaces workers
 * that run something else, one at a time. conf: NULL leaves those that run as they
 * are, until worker_pool_retire(); borrowed.
 */
void worker_pool_apply(struct worker_pool *pool, const struct conf_pool *conf, bool roll);

/* Gives a successor to each worker that has lost its socket, to all of them at once. */
void worker_pool_mend(struct worker_pool *pool);

/* Asks all workers to finish. */
void worker_pool_retire(struct worker_pool *pool);

/*
 * Begins to replace a worker that runs, while no other one is replaced: its successor serves, and
 * then it is retired. See recycle.h.
 */
void worker_pool_recycle(struct worker_pool *pool, struct worker_process *worker);

/* A successor of one that is recycled has failed and is gone: that one stays, for now. */
void worker_pool_recycle_failed(struct worker_pool *pool);

/* A worker serves, and the shards have found it: the next one's turn. */
void worker_pool_settled(struct worker_pool *pool);

/* A new worker has failed: the old ones stay as they are. */
void worker_pool_stop_rolling(struct worker_pool *pool);

/* Whether each slot has a worker that serves. */
bool worker_pool_serves(const struct worker_pool *pool);
