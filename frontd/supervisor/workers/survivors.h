#pragma once

/*
 * A worker that a supervisor before us ran, which was killed: not our child, but it still serves on
 * its socket. It goes when workers of ours have taken its place.
 */

#include "frontd/supervisor/workers/workers_ctx.h"

struct survivor {
    struct list node; /* of ctx->survivors */
    struct workers_ctx *ctx;
    struct worker_dir_process process;
    uv_poll_t poll; /* of the pidfd: readable when the process has ended */
    uv_timer_t limit;
    uint64_t until; /* ms of the loop's clock: when that is due, once it leaves */
    int pidfd;
    unsigned open; /* handles */
    bool leaving;
    bool asked;  /* SIGTERM has been sent to its group */
    bool killed; /* SIGKILL has */
};

/*
 * Takes in a process if it is still the one that is meant. Where it has ended, in this run of the
 * system, what is left of its process group is ended. Else nothing happens.
 */
void survivor_add(struct workers_ctx *ctx, const struct worker_dir_process *process);

/* Takes its socket away and asks it to finish, once. */
void survivor_retire(struct survivor *survivor);

/* Kills it with its group. */
void survivor_kill(struct survivor *survivor);

/* Forgets it, whatever its process does. */
void survivor_destroy(struct survivor *survivor);
