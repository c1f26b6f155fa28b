#pragma once

/*
 * The bytes of a connection from a front: frames are taken out of what is read, and what is to be
 * sent gathers until it is written. What frames mean, and when the connection ends, is decided by
 * its owner, a channel (channel.h).
 */

#include <uv.h>

#include "common/buf.h"
#include "proto/frame.h"

struct workerd;
struct framed;

enum {
    FRAMED_OUT_MAX = 4 * 1024 * 1024, /* bytes that may wait for a front that does not read */
};

/* What has failed, for the log. */
enum framed_failure {
    FRAMED_READING,
    FRAMED_WRITING,
    FRAMED_POLLING,
    FRAMED_MEMORY, /* for a request that has come in part */
};

/* What the owner is told. Each may close the connection. */
struct framed_ops {
    /* A whole frame; what it points to is borrowed. */
    void (*frame)(struct framed *framed, const struct frame *frame);

    /* Bytes that are no frame. error: FRAME_E_…; p, n: where it should begin, or NULL and 0. */
    void (*no_frame)(struct framed *framed, int error, const char *p, size_t n);

    /* Bytes have come: the front is alive. */
    void (*heard)(struct framed *framed);

    /* The front has closed its direction. */
    void (*ended)(struct framed *framed);

    /* The connection is of no use any more: it is to be closed. error: -errno. */
    void (*failed)(struct framed *framed, enum framed_failure what, int error);

    /* It can be written to again, or reading was paused: framed_write() is wanted in this turn. */
    void (*touched)(struct framed *framed);

    /* framed_close() is done: the memory may be freed. */
    void (*closed)(struct framed *framed);
};

struct framed {
    uv_poll_t poll;
    struct workerd *worker;
    const struct framed_ops *ops;
    int fd;
    int events;     /* what the poll waits for */
    bool paused;    /* does not read: too much waits to be written */
    bool stopped;   /* takes no frames any more: what is read is thrown away */
    bool ended;     /* the front has closed its direction: nothing is read */
    bool full;      /* counted in worker->nfull: too much waits for more than answers */
    uint64_t wrote; /* ms: when the last bytes were written */
    struct buf in;  /* what has come and is no frame yet, or waits with reading paused */
    struct buf out; /* what is to be written */
};

/* Takes a connected descriptor: consumed, on failure too. Returns 0 or -errno. */
int framed_open(
    struct framed *framed, struct workerd *worker, int fd, const struct framed_ops *ops);

/* Closes it, with what was to be written; `closed` is told when libuv is done with it. */
void framed_close(struct framed *framed);

/* From now on no frames are taken, and what is read is thrown away. */
void framed_stop(struct framed *framed);

/* Ends our direction; what is read until the front ends its own is thrown away. */
void framed_shut(struct framed *framed);

/* Has libuv wait for what is wanted now: called after `paused`, `ended` or `out` have changed. */
void framed_wait(struct framed *framed);

/* Takes frames again after a pause: first those that are here already. */
void framed_resume(struct framed *framed);

/*
 * Writes until all is written or the front has to read first. Returns 0, or -errno where the
 * connection is of no use any more; `failed` is not told.
 */
int framed_write(struct framed *framed);

/*
 * Writes the header of a frame, and returns room for its payload of head->length bytes, which is to
 * be filled at once; or NULL when there is no memory.
 */
char *framed_frame(struct framed *framed, const struct frame_head *head);

/* Adds frames that are encoded already: bytes. Returns 0 or -ENOMEM. */
int framed_append(struct framed *framed, const struct buf *frames);

/* Says whether too much waits for more than answers. Other threads see how many connections do. */
void framed_set_full(struct framed *framed, bool full);

/* Whether less than half of what may wait does. */
static inline bool framed_has_half(const struct framed *framed)
{
    return buf_len(&framed->out) <= FRAMED_OUT_MAX / 2;
}
