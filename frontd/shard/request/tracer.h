#pragma once

/*
 * Records calls of traces that are sampled, as spans (ipc/trace_record.h), and sends them to the
 * process that exports them: many in a message, since each message wakes that process. What it does
 * not take at once is counted and lost; so is what a shard has not sent when it is killed,
 * uncounted.
 */

#include "common/buf.h"
#include "frontd/shard/request/account.h"

struct tracer {
    struct ctx *ctx;
    struct account_observer observer;
    struct wheel_timer timer; /* armed while records wait */
    struct buf out;           /* records that wait */
    uint32_t records;         /* in `out` */
    int fd;                   /* a SOCK_SEQPACKET socket; -1: none has come yet */
};

/*
 * Sets ctx->tracer where the config has `tracing`. tracer: zeroed; of the shard. ctx->marks is set.
 */
void tracer_open(struct tracer *tracer, struct ctx *ctx);
void tracer_close(struct tracer *tracer, struct ctx *ctx);

/* Sends to this socket from now on. fd: consumed. Returns 0, or -EPROTO: nothing is traced. */
int tracer_use(struct ctx *ctx, int fd);

/* The timer kind TIMER_TRACER. */
void tracer_timeout(struct wheel_timer *timer);

/* Sends what was recorded. */
void tracer_flush(struct tracer *tracer);
