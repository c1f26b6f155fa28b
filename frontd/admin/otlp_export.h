#pragma once

/*
 * Sends spans that shards have recorded to a collector: OTLP over HTTP/1.1, in JSON. What waits is
 * bounded; spans for which there is no room are counted and forgotten, and so is what the collector
 * refuses.
 */

#include <uv.h>

#include "common/buf.h"
#include "common/log.h"
#include "frontd/admin/otlp.h"
#include "frontd/config/config.h"

enum {
    OTLP_BATCH_MAX = 512,          /* spans of one request */
    OTLP_BATCH_MS = 1000,          /* for how long spans gather */
    OTLP_WAITING_MAX = 4096,       /* spans; further ones are dropped */
    OTLP_WAITING_BYTES = 8 << 20,  /* the same, of their JSON */
    OTLP_ANSWER_MS = 10 * 1000,    /* for connecting, writing and the answer together */
    OTLP_RETRY_FIRST_MS = 1000,    /* until a batch is sent again; then twice as long each time */
    OTLP_RETRY_MAX_MS = 60 * 1000, /* at most, also where the collector names a time */
    OTLP_REFUSED_MAX = 8,          /* times that a collector is too busy for one batch */
    OTLP_ANSWER_MAX = 64 * 1024,   /* bytes of an answer */
};

struct otlp_link;

struct otlp_export {
    uv_loop_t *loop;
    const struct conf_tracing *conf;
    const struct otlp_resource *resource;
    struct uv_poll_s *poll;   /* of `fd` */
    struct uv_timer_s *timer; /* the batch is due, or to be sent again; or there is no answer */
    struct otlp_link *link;   /* the connection to the collector; NULL: there is none */
    int fd;                   /* on which spans come */
    struct buf waiting;       /* spans as JSON, each with a comma behind it */
    uint32_t *lengths;        /* of each of them: a ring of OTLP_WAITING_MAX */
    uint32_t first;           /* the oldest in `lengths` */
    uint32_t count;           /* that wait, those on their way included */
    uint32_t sent;            /* of these, the first ones, on their way; 0: no request is */
    size_t sent_bytes;        /* of them in `waiting` */
    struct buf request;       /* what of it has not been written yet */
    struct buf answer;        /* what has come of it */
    unsigned refused;         /* times that the collector was too busy for this batch */
    uint64_t retry_ms;        /* what is waited for before the next try; 0: nothing is */
    uint64_t exported;        /* spans, ever */
    uint64_t dropped;         /* the same: for want of room, or refused */
    void (*finished)(struct otlp_export *of); /* NULL: it goes on */
    void *data;                               /* of its owner */
    struct log_limit failed;
    struct log_limit full;
};

/*
 * Begins to read spans. conf, resource: borrowed until it is closed. fd: an end of a SOCK_SEQPACKET
 * socket, non-blocking; consumed, also on failure. Returns 0, or -errno with nothing to be closed.
 */
int otlp_export_open(struct otlp_export *of, uv_loop_t *loop, const struct conf_tracing *conf,
    const struct otlp_resource *resource, int fd);

/*
 * Reads no more; what waits is sent at once, and not again. finished: called when nothing is left
 * to be sent, also from within.
 */
void otlp_export_finish(struct otlp_export *of, void (*finished)(struct otlp_export *of));

/*
 * Ends it; what waits is forgotten. Its memory may be used again at once: libuv's handles are
 * freed by themselves. One that is zeroed, or closed already, is let be.
 */
void otlp_export_close(struct otlp_export *of);
