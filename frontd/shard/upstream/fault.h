#pragma once

/*
 * Log lines about what a worker sends wrongly: for each kind of fault one line at once, and then
 * one in LOG_LIMIT_MS. A line names the pool, the worker and the method of the call that the frame
 * is for, even where that call has ended a moment ago. What becomes of the frame or of the call is
 * decided by the caller, as the table in proto/PROTOCOL.md says.
 */

#include <string.h>

#include "common/log.h"
#include "frontd/shard/net/ctx.h"
#include "proto/errors.h"
#include "proto/frame.h"

enum {
    FAULT_KINDS = 24,        /* kinds with a limit of their own; further ones share the last */
    FAULT_CALLS = 16,        /* the calls that ended last */
    FAULT_METHOD = 23,       /* bytes kept of the method of each of them */
    FAULT_METHOD_SHOWN = 64, /* bytes of a method in the log */
};

struct fault_kind {
    const char *what; /* NULL: unused so far */
    struct log_limit limit;
    uint8_t type; /* of the frame; 0: the fault is an answer's */
};

struct fault_call {
    uint64_t call;
    uint8_t n;
    char method[FAULT_METHOD];
};

/* The faults of one worker. */
struct faults {
    const struct ctx *ctx;
    const char *pool; /* names for the log */
    const char *worker;
    struct fault_kind kinds[FAULT_KINDS];
    struct fault_call ended[FAULT_CALLS];
    bool spoilt; /* an answer could not be relayed: RPC_BAD_RESPONSE; the reader resets it */
};

/* ctx, pool, worker: borrowed for as long as `faults` is used. */
static inline void faults_init(
    struct faults *faults, const struct ctx *ctx, const char *pool, const char *worker)
{
    *faults = (struct faults){.ctx = ctx, .pool = pool, .worker = worker};
}

/* The worker has no such call any more: an answer to it is a fault from now on. */
static inline void faults_note(struct faults *faults, uint64_t call, struct span method)
{
    struct fault_call *last = &faults->ended[call % FAULT_CALLS];
    last->call = call;
    last->n = (uint8_t)MIN(method.n, (size_t)FAULT_METHOD);
    if (last->n > 0)
        memcpy(last->method, method.p, last->n);
}

/* Logs that a frame is dropped. what: what is wrong with it; static text. */
void fault_frame(struct faults *faults, const struct frame_head *head, const char *what);

/*
 * Logs that a call of `method` fails with `error`, since its answer cannot be relayed. what: what
 * the answer is, as in "no JSON"; static text.
 */
void fault_answer(
    struct faults *faults, struct span method, enum rpc_error error, const char *what);
