#pragma once

/*
 * Frames in both directions over a stream socket: what a worker's channel and a sibling's mesh
 * socket have in common. Writes gather until the end of the turn.
 *
 * A turn carries out only so many frames of a stream; the others stay where they were read to, and
 * nothing more is read, until it is its turn again (stream_go_on()). So it is while a frame is
 * being carried out over several turns (stream_wait()): frames take effect in their order. Whatever
 * has come is carried out before the end of the socket is seen.
 */

#include "common/buf.h"
#include "frontd/shard/net/ctx.h"
#include "proto/frame.h"

struct stream;

struct stream_ops {
    /* A frame has come; its parts are borrowed. The stream may be closed from within. */
    void (*frame)(struct stream *stream, const struct frame *frame);
    /*
     * The head of a frame has come that is over max_frame, and right otherwise. Returns whether its
     * payload is skipped and the frames behind it are read; broken() follows where not, and where
     * this is NULL. The stream may be closed from within.
     */
    bool (*too_long)(struct stream *stream, const struct frame_head *head);
    /* The peer closed, or broke the framing; the owner closes the stream. `why`: static text. */
    void (*broken)(struct stream *stream, const char *why);
    /* Its memory may be used again. */
    void (*closed)(struct stream *stream);
    /* It has become writable for the first time (connect() has ended); NULL: it is connected. */
    void (*connected)(struct stream *stream);
};

struct stream {
    struct ctx *ctx;
    const struct stream_ops *ops;
    uv_poll_t poll;
    struct list dirty; /* in ctx->dirty_streams */
    struct list busy;  /* in ctx->busy_streams */
    struct buf in;     /* an incomplete frame, or those that are left for another turn */
    struct buf out;
    uint64_t appended; /* bytes put into `out` so far */
    uint64_t written;  /* of them, bytes that the kernel took */
    uint64_t consumed; /* bytes of frames from the peer that were carried out */
    uint64_t skip;     /* bytes of a frame over max_frame that are still to come */
    uint64_t heard_at; /* ms: last byte from the peer */
    int fd;
    int events;             /* what the poll waits for */
    uint32_t max_frame;     /* bytes of payload that a frame of the peer's may have */
    struct stream **holder; /* where what the frames wait for knows it by; NULL: for nothing */
    const char *failed; /* why it is broken, which is dealt with when the turn ends; NULL: not */
    bool connecting;
    bool left;     /* there may be whole frames in `in` */
    bool full;     /* no more frames join the one that is waited for */
    bool deaf;     /* reading is paused */
    bool ended;    /* the peer has closed it, or only its own side */
    bool given_up; /* the peer does not take what is sent to it: the kernel is not to keep that */
    bool closing;
    bool open;
};

/*
 * Starts on a socket, with FRAME_MAX_DEFAULT as max_frame. fd: consumed; it belongs to the stream,
 * also on failure. connecting: connect() is under way. Returns 0 or -errno.
 */
int stream_open(
    struct stream *stream, struct ctx *ctx, const struct stream_ops *ops, int fd, bool connecting);

/* When the last stream of the shard has been closed: frees what all of them read into. */
void stream_free_buffer(struct ctx *ctx);

/*
 * Drops what waits and closes; closed() follows. Over TCP the connection is reset where something
 * waits, or, of one that is given up, where the kernel has bytes that the peer's has no room for.
 */
void stream_close(struct stream *stream);

/*
 * Room for a frame's payload after its head, which is written; NULL when there is no memory.
 * The caller fills head->length bytes.
 */
char *stream_add(struct stream *stream, const struct frame_head *head);

/* Appends bytes that are a whole frame already. Returns where they lie now, or NULL. */
char *stream_add_raw(struct stream *stream, const char *bytes, size_t n);

/* Writes what has gathered. broken() does not come from within. */
void stream_flush(struct stream *stream);

/*
 * It is of no use any more: when the turn ends, what the peer has sent so far is read, and
 * broken() follows. So whoever sends something need not expect that it ends under their hands.
 * why: static text.
 */
void stream_fail(struct stream *stream, const char *why);

/*
 * At the end of a turn, for one that is dirty: writes what has gathered, or says that it is broken.
 */
void stream_end_turn(struct stream *stream);

/*
 * From within frame(), of a PUBLISH: it is carried out later, and the frames after it wait until
 * stream_release(). Only more PUBLISH with the same meta that lie there already are still given to
 * frame(), to be carried out together, until `full` is set.
 *
 * holder: *holder is the stream, and becomes NULL should it end before.
 */
void stream_wait(struct stream *stream, struct stream **holder);
void stream_release(struct stream *stream);

/* What `consumed` will be when all that the peer has sent so far is carried out, whole frames at
 * least. */
uint64_t stream_due(const struct stream *stream);

/* One of ctx->busy_streams: carries out more of the frames that have been read. work: units. */
void stream_go_on(struct stream *stream, uint64_t work);

/*
 * Whether there are frames to carry out before more is read: what the peer says is not heard yet.
 */
static inline bool stream_occupied(const struct stream *stream)
{
    return stream->left || stream->holder != NULL;
}

/* Pauses reading, or goes on. */
void stream_set_deaf(struct stream *stream, bool deaf);
