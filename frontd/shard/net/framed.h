#pragma once

/*
 * Frames in both directions over a stream socket: what a worker's channel and a sibling's mesh
 * socket have in common. Writes gather until the end of the turn.
 *
 * A turn carries out only so many frames of a stream. The others stay in its buffer, and nothing
 * more is read, until it is the stream's turn again (stream_go_on()). The same holds while one
 * frame is being carried out over several turns (stream_wait()), since frames take effect in their
 * order. All frames that have come are carried out before the end of the socket is seen.
 */

#include "common/buf.h"
#include "frontd/shard/net/ctx.h"
#include "frontd/shard/net/stream_tls.h"
#include "proto/frame.h"

struct stream;

struct stream_ops {
    /* A frame has come; its parts are borrowed. The stream may be closed from within. */
    void (*frame)(struct stream *stream, const struct frame *frame);
    /*
     * A frame over max_frame has come; its head is right otherwise. Returns whether its payload is
     * skipped and the frames behind it are read; where not, and where this is NULL, broken()
     * follows. The stream may be closed from within.
     */
    bool (*too_long)(struct stream *stream, const struct frame_head *head);
    /*
     * The peer has closed the socket or broken the framing, or the socket has an error; the owner
     * closes the stream. `why`: static text.
     */
    void (*broken)(struct stream *stream, const char *why);
    /* Its memory may be used again. */
    void (*closed)(struct stream *stream);
    /* connect() has succeeded, and the handshake where there is TLS; NULL: the stream is connected
     * from the start. */
    void (*connected)(struct stream *stream);
    /* Less than `drain_to` waits to be written; from within stream_flush(), which the owner does
     * not break off. May be NULL where drain_to is never set. */
    void (*drained)(struct stream *stream);
};

struct stream {
    struct ctx *ctx;
    const struct stream_ops *ops;
    uv_poll_t poll;
    struct list dirty; /* in ctx->dirty_streams */
    struct list busy;  /* in ctx->busy_streams */
    struct buf in;     /* an incomplete frame, or those that are left for another turn */
    struct buf out;
    uint64_t appended;  /* bytes put into `out` so far */
    uint64_t written;   /* of them, bytes that the kernel has taken */
    size_t drain_to;    /* bytes; the owner sets it, to be told by drained(), once; 0: it is not */
    uint64_t consumed;  /* bytes of frames from the peer that have been carried out or skipped */
    uint64_t skip;      /* bytes that are still to come of a frame that is skipped */
    uint64_t heard_at;  /* ms: when the last byte came, or the stream could be read again */
    struct ssl_st *tls; /* owned; NULL: plain */
    int fd;
    int events;             /* what the poll waits for */
    uint32_t max_frame;     /* bytes of payload that a frame of the peer's may have */
    struct stream **holder; /* set while frames wait: see stream_wait(); else NULL */
    const char *failed;     /* why it is broken, for broken() when the turn ends; NULL: it is not */
    bool connecting;
    bool shaking_hands; /* connecting: the socket is connected, TLS is not */
    bool left;          /* there may be whole frames in `in` */
    bool full;     /* no more frames are carried out together with the one that is waited for */
    bool deaf;     /* reading is paused */
    bool ended;    /* the peer has closed it, or its own side of it */
    bool given_up; /* the peer does not read: stream_close() discards what the kernel has for it */
    bool closing;
    bool open;
};

/*
 * Starts on a socket, with FRAME_MAX_DEFAULT as max_frame. fd: consumed; it belongs to the stream,
 * also on failure. connecting: connect() is under way. Returns 0 or -errno.
 */
int stream_open(
    struct stream *stream, struct ctx *ctx, const struct stream_ops *ops, int fd, bool connecting);

/*
 * TLS on a stream that is connecting. tls: made for its socket; the stream's from now on. NULL:
 * none.
 */
void stream_use_tls(struct stream *stream, struct ssl_st *tls);

/* Nothing more is sent: shuts this side, in the way of TLS where there is TLS. 0 or -errno. */
int stream_shut(struct stream *stream);

/* When the last stream of the shard has been closed: frees what all of them read into. */
void stream_free_buffer(struct ctx *ctx);

/*
 * Drops what waits to be written and closes; closed() follows. Over TCP the connection is reset
 * where something waits, or, of a stream that is given up, where the peer's kernel has not
 * acknowledged all.
 */
void stream_close(struct stream *stream);

/*
 * Room for a frame's payload after its head, which is written; NULL when there is no memory. The
 * caller fills head->length bytes.
 */
char *stream_add(struct stream *stream, const struct frame_head *head);

/* Appends a whole frame. Returns where its bytes are now, or NULL when there is no memory. */
char *stream_add_raw(struct stream *stream, const char *bytes, size_t n);

/* Writes what has gathered. broken() does not come from within. */
void stream_flush(struct stream *stream);

/*
 * Marks a stream as broken: when the turn ends, what the peer has sent so far is read, and broken()
 * follows. So a function that sends does not end the stream under its caller's hands. why: static
 * text.
 */
void stream_fail(struct stream *stream, const char *why);

/* For each dirty stream at the end of a turn: writes what has gathered, or calls broken(). */
void stream_end_turn(struct stream *stream);

/*
 * From within frame(), for a PUBLISH that is carried out over several turns: the frames after it
 * wait until stream_release(). Only PUBLISH frames with the same meta that directly follow it, and
 * are here already, are still given to frame(), to be carried out together, until `full` is set.
 *
 * holder: *holder is the stream, and becomes NULL should the stream end before.
 */
void stream_wait(struct stream *stream, struct stream **holder);
void stream_release(struct stream *stream);

/* What `consumed` will be at least when all whole frames that the peer has sent are carried out. */
uint64_t stream_due(const struct stream *stream);

/* For one of ctx->busy_streams: carries out more frames that have been read. work: units. */
void stream_go_on(struct stream *stream, uint64_t work);

/* Whether frames that have come are still to be carried out; until then nothing more is read. */
static inline bool stream_occupied(const struct stream *stream)
{
    return stream->left || stream->holder != NULL;
}

/* Pauses reading, or goes on. */
void stream_set_deaf(struct stream *stream, bool deaf);
