#pragma once

/*
 * What a worker sends wrongly, in the log: for each kind of it one line at once, and then one in
 * LOG_LIMIT_MS. It names the pool and the worker, and the method of the call that it is about, also
 * of one that has ended a moment ago. What becomes of the frame or the call is up to the caller:
 * the table in proto/PROTOCOL.md says it.
 */

#include <string.h>

#include "common/log.h"
#include "proto/errors.h"
#include "proto/frame.h"

struct worker;

enum {
    FAULT_KINDS = 24,        /* that are told apart; others share a line */
    FAULT_CALLS = 16,        /* the last ones that have ended */
    FAULT_METHOD = 23,       /* bytes of the method that are kept of each */
    FAULT_METHOD_SHOWN = 64, /* bytes of a method in the log */
};

struct fault_kind {
    const char *what; /* NULL: none yet */
    struct log_limit limit;
    uint8_t type; /* of the frame; 0: it is about a call */
};

struct fault_call {
    uint64_t call;
    uint8_t n;
    char method[FAULT_METHOD];
};

/* Of a worker. Zeroed at first. */
struct faults {
    struct fault_kind kinds[FAULT_KINDS];
    struct fault_call ended[FAULT_CALLS];
};

/* A call has ended, as far as the worker is concerned: what comes for it now is wrong. */
static inline void faults_note(struct faults *faults, uint64_t call, struct span method)
{
    struct fault_call *last = &faults->ended[call % FAULT_CALLS];
    last->call = call;
    last->n = (uint8_t)MIN(method.n, (size_t)FAULT_METHOD);
    if (last->n > 0)
        memcpy(last->method, method.p, last->n);
}

/* A frame is dropped. what: what is wrong with it; static text. */
void fault_frame(struct worker *worker, const struct frame_head *head, const char *what);

/* A call fails so, since its answer cannot be relayed. what: what that is, as in "no JSON". */
void fault_answer(
    struct worker *worker, struct span method, enum rpc_error error, const char *what);
