#pragma once

/*
 * What a worker, its pool, and what is left of earlier workers have in common: the loop, the folder
 * of the sockets, the user, and the table through which they tell the whole (workers.c) what has
 * happened.
 */

#include <uv.h>

#include "common/list.h"
#include "frontd/supervisor/workers/worker_dir.h"

enum { WORKER_KILL_GRACE_MS = 2000 /* beyond the drain limit, before a worker is killed */ };

struct workers_ctx;
struct worker_pool;

struct workers_ops {
    /* A process was started, or one has ended: pools, survivors or remains may be of no use now. */
    void (*changed)(struct workers_ctx *ctx);
    /* A worker of the pool serves, and the shards have had time to find it. */
    void (*settled)(struct workers_ctx *ctx, struct worker_pool *pool);
};

struct workers_ctx {
    const struct workers_ops *ops;
    uv_loop_t *loop;
    uint64_t drain; /* ms that a worker has to finish, by the config in force */
    struct list pools;
    struct list survivors;     /* of a supervisor before this one */
    struct list remains;       /* of workers that have ended */
    struct spawn_user user;    /* of new workers */
    char dir[WORKER_PATH_MAX]; /* run_dir/workers; empty: it would be too long */
    bool stopping;             /* no worker is started or replaced any more */
};
