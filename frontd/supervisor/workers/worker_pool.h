#pragma once

/* The workers of one pool: as many as the config says, and replaced one at a time. */

#include "frontd/supervisor/workers/worker_process.h"
#include "frontd/supervisor/workers/workers.h"

struct managed_pool {
    struct list node;    /* of managed->pools */
    struct list workers; /* those that leave included */
    struct managed *managed;
    const struct conf_pool *conf; /* NULL: there is no such pool any more, or it has no command */
    struct stamp wanted;          /* of the command, when the config was applied */
    uint32_t serial;              /* of the last socket */
    bool rolling;                 /* workers that run something else are to be replaced */
    char name[MANAGED_NAME_MAX];
};

/* Returns NULL without memory. */
struct managed_pool *managed_pool_new(struct managed *managed, const char *name);
void managed_pool_free(struct managed_pool *pool);

/*
 * Takes over a config: starts what is missing, retires what is too much. roll: replaces workers
 * that run something else, one at a time. conf: NULL leaves those that run as they
 * are, until managed_pool_retire(); borrowed.
 */
void managed_pool_apply(struct managed_pool *pool, const struct conf_pool *conf, bool roll);

/* Gives each worker whose socket was removed or replaced a successor, all at once. */
void managed_pool_mend(struct managed_pool *pool);

/* Asks all workers to finish. */
void managed_pool_retire(struct managed_pool *pool);

/* A worker serves, and the shards have found it: the next one's turn. */
void managed_pool_settled(struct managed_pool *pool);

/* A new worker has failed: the old ones stay as they are. */
void managed_pool_stop_rolling(struct managed_pool *pool);

/* Whether each slot has a worker that serves. */
bool managed_pool_serves(const struct managed_pool *pool);
