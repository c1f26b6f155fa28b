#pragma once

/*
 * What is left of a worker's process group when the worker itself has ended: a shell's processes,
 * helpers, processes that were forked for calls. They are asked to finish and get the time that a
 * worker gets; what has not ended by then is killed.
 */

#include "frontd/supervisor/workers/output.h"
#include "frontd/supervisor/workers/workers_ctx.h"

struct remains {
    struct list node; /* of ctx->remains */
    struct workers_ctx *ctx;
    struct worker_dir_process process; /* the worker that has led the group */
    struct output *output;             /* they may still write to it; NULL: it is not read */
    uv_timer_t timer;
    uint64_t until; /* ms of the loop's clock: then they are killed, or given up */
    bool told;      /* that there are some */
    bool killed;
};

/* Whether the group that a process has led has members; the process itself has been reaped. */
bool remains_exist(pid_t leader);

/*
 * Takes the group over, until it is empty. output: consumed, may be NULL. until: of the loop's
 * clock, in ms; 0: they are killed now. asked: they have been sent SIGTERM already, else they are
 * now.
 */
void remains_add(struct workers_ctx *ctx, const struct worker_dir_process *process,
    struct output *output, uint64_t until, bool asked);

/* Kills them, unless that has been done: the end is seen a moment later. */
void remains_kill(struct remains *remains);

/* Forgets them, whatever they do. */
void remains_destroy(struct remains *remains);
