#pragma once

/*
 * The access log: a line for each request, or for some of them (sample), when it has ended and all
 * its calls have. A message of a connection that stays is a request.
 *
 * Lines gather for a moment, since a write costs more than a line, and are written together. What
 * is not taken waits, up to ACCESS_BUFFER; lines for which there is no room are counted and lost.
 * No write waits.
 */

#include "common/buf.h"
#include "common/log.h"
#include "frontd/codec/access_line.h"
#include "frontd/shard/request/account.h"

enum { ACCESS_BUFFER = 64 * 1024 /* bytes of lines that wait to be written */ };

struct access_log {
    struct ctx *ctx;
    const struct conf_access_log *conf;
    struct account_observer observer;
    struct buf out;
    struct wheel_timer timer; /* armed while lines wait */
    struct slab entries;      /* requests that will have a line */
    struct log_limit lost;
    int fd;     /* -1: none has come yet; of standard error it is not used */
    bool stuck; /* the last write was not taken */
    bool whole; /* a write has to be of whole lines: others write to the same pipe */
};

/*
 * Sets ctx->access where the config has an access log. log: zeroed; of the shard. ctx->marks is
 * set. access_log_close() writes what it can of what waits.
 */
void access_log_open(struct access_log *log, struct ctx *ctx);
void access_log_close(struct access_log *log, struct ctx *ctx);

/* Writes to this file from now on. fd: consumed. Returns 0, or -EPROTO where there is no log. */
int access_log_use(struct ctx *ctx, int fd);

/* The timer kind TIMER_ACCESS_LOG. */
void access_log_timeout(struct wheel_timer *timer);

/* Writes what has gathered, as far as it is taken. */
void access_log_flush(struct access_log *log);
