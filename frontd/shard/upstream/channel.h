#pragma once

/*
 * A connection to a worker (protocol section 1): frames out, frames in, HELLO, liveness. A channel
 * knows calls by their id only; what an answer means is its owner's business.
 */

#include "common/buf.h"
#include "common/idmap.h"
#include "frontd/shard/net/framed.h"
#include "proto/hello.h"

enum {
    CHANNEL_HELLO_MS = 5000,  /* protocol section 4 */
    CHANNEL_QUIET_MS = 15000, /* section 10: then PING */
    CHANNEL_DEAD_MS = 45000,  /* section 10: nothing for so long after a PING */
    CHANNEL_PING_PART = 4,    /* PING comes after this part of channel->timeout, if calls wait */
    CHANNEL_WAIT_MS = 1000,   /* section 7: how long a worker that pushes may take to close first */
    CHANNEL_LEFT_MS = 5000,   /* how long a silent worker may take to close after GOAWAY */
    CHANNEL_LEFT_MAX_MS = 10000, /* how long any worker may */
    /* Bytes that wait for a worker that does not read; with more of them it gets no calls. */
    CHANNEL_BACKLOG_MAX = 4 * 1024 * 1024,
};

enum channel_state {
    CHANNEL_CLOSED,
    CHANNEL_CONNECTING,
    CHANNEL_GREETING, /* our HELLO is on its way, the worker's has not come */
    CHANNEL_OPEN,
    CHANNEL_LEAVING, /* the worker or we have sent GOAWAY: no new calls */
    CHANNEL_CLOSING, /* the owner has been told; waits for libuv to let go of it */
    CHANNEL_STATES,
};

struct channel;

/* Channel → pool. Borrowed arguments are valid during the call. */
struct channel_ops {
    /* The worker's HELLO has come. */
    void (*opened)(struct channel *channel, const struct hello_worker *hello);
    /* A RESPONSE (or DATA) frame for a call in progress. */
    void (*frame)(struct channel *channel, struct idmap_node *call, const struct frame *frame);
    /* The same for a frame over max_frame: its payload is skipped. */
    void (*too_long)(
        struct channel *channel, struct idmap_node *call, const struct frame_head *head);
    /* WINDOW for a call in progress: the worker has room for so many bytes of DATA more. */
    void (*window)(struct channel *channel, struct idmap_node *call, uint32_t bytes);
    /* PUSH, PUBLISH and the like (protocol section 9). */
    void (*pushed)(struct channel *channel, const struct frame *frame);
    /* A frame is dropped, and has no effect on anything else. what: why, static text. */
    void (*refused)(struct channel *channel, const struct frame_head *head, const char *what);
    /* GOAWAY: calls above last_call were not started. */
    void (*leaving)(struct channel *channel, const char *reason, uint64_t last_call);
    /* The channel is gone: the owner takes every call out of channel->calls, and settles it. */
    void (*lost)(struct channel *channel, const char *why);
    /* The channel is CLOSED: it may be dialled again, or its memory be used again. */
    void (*closed)(struct channel *channel);
    /*
     * Since when (ms) calls wait for the worker to do something; 0: none does.
     * CHANNEL_MAY_BE_SILENT: some do, but it need not answer PING.
     */
    uint64_t (*awaited)(struct channel *channel);
    /* channel_takes_data() has said no, and would not any more. */
    void (*drained)(struct channel *channel);
};

#define CHANNEL_MAY_BE_SILENT UINT64_MAX

struct channel {
    struct stream stream;
    const struct channel_ops *ops;
    const char *pool;
    struct ctx *ctx;
    enum channel_state state;
    bool said_goaway;
    bool hung;      /* lost because the worker did not answer */
    bool mute;      /* lost because no HELLO came */
    bool pushes;    /* the worker has the feature `push` */
    bool streams;   /* the worker has the feature `stream` */
    bool hung_up;   /* our side is shut */
    bool overdue;   /* lost because the worker did not close it in time after GOAWAY */
    uint64_t left;  /* ms: since when the worker is waited for to close it; 0: it is not */
    uint64_t quiet; /* ms: since when it is idle, as channel_hang_up() has seen; 0: it is not */
    uint64_t asked; /* the number of ctx->fence, raised when the worker closed; 0: it has not */
    struct idmap calls;
    size_t orphans; /* calls among them that are orphans (struct job) */
    struct wheel_timer timer;
    struct ssl_ctx_st *tls;  /* the owner sets it, borrowed; NULL: it is dialled without TLS */
    const char *server_name; /* with TLS: what the worker's certificate has to be for; borrowed */
    uint32_t dial_ms;        /* for connecting; the owner sets it, 0: CHANNEL_HELLO_MS */
    uint64_t timeout;        /* ms: how long it may be silent while calls wait; the owner sets it */
    uint64_t busy_at;   /* ms: since when there are calls that are no orphans; valid if there are */
    uint64_t due;       /* ms: when the timer is to come */
    uint64_t ping_end;  /* position in the stream after the last PING */
    uint64_t ping_seen; /* how far the stream had been written when that was looked at last */
    uint64_t last_id;   /* the id of the call that was sent last */
    uint64_t pinged_at; /* ms; later than stream.heard_at: a PING is not answered yet */
    uint32_t max_frame; /* what the worker takes, bytes of payload */
};

/* Whether there is a move from one state to another. */
bool channel_may_become(enum channel_state from, enum channel_state to);

/* A channel in state CLOSED. pool: its name, borrowed. Returns 0 or -ENOMEM. */
int channel_init(
    struct channel *channel, struct ctx *ctx, const struct channel_ops *ops, const char *pool);

/* Only in state CLOSED. */
void channel_deinit(struct channel *channel);

/*
 * Starts to connect. The outcome comes as opened() or lost(), never from within. Returns 0, or
 * -errno with nothing started.
 */
int channel_dial(struct channel *channel, const struct sockaddr *address, socklen_t len);

/*
 * Sends a REQUEST: `frame` is complete but for its call id, which is set here and in call->id. The
 * call is in channel->calls afterwards, unless it is a notification. *ret_end is the position in
 * the stream after it: not executed as long as channel->stream.written is below it. Returns 0,
 * -EMSGSIZE when the worker takes no frame of that size, or -ENOMEM.
 */
int channel_send_call(struct channel *channel, struct idmap_node *call, struct buf *frame,
    bool notify, uint64_t *ret_end);

/* CANCEL for a call in progress. */
void channel_cancel(struct channel *channel, uint64_t call);

/* WINDOW: `bytes` more of DATA may come for that call (protocol section 8). */
void channel_window(struct channel *channel, uint64_t call, size_t bytes);

/* DATA: more of the request of a call in progress (protocol section 8). Where there is no memory
 * the channel is lost. */
void channel_data(struct channel *channel, uint64_t call, struct span bytes, bool more);

/* Whether calls may be sent: it is OPEN, and the worker reads. */
static inline bool channel_usable(const struct channel *channel)
{
    return channel->state == CHANNEL_OPEN && buf_len(&channel->stream.out) < CHANNEL_BACKLOG_MAX;
}

/* Whether DATA may be sent: what a worker does not read waits here for all of its calls together.
 * Where not, drained() says when it may. */
static inline bool channel_takes_data(struct channel *channel)
{
    if (LIKELY(buf_len(&channel->stream.out) < CHANNEL_BACKLOG_MAX))
        return true;
    channel->stream.drain_to = CHANNEL_BACKLOG_MAX / 2;
    return false;
}

/* Sends GOAWAY (protocol section 7), with nothing else: calls in progress go on. */
void channel_leave(struct channel *channel);

/*
 * Brings a channel to its end after channel_leave(). To be called each turn until it is lost.
 *
 * - While it has calls in progress, they go on.
 * - Then what the worker sends is read until the worker closes the channel; when that has taken
 *   effect on all shards, it is closed here too.
 * - Where the worker does not close within CHANNEL_WAIT_MS, or has not the feature `push`, our side
 *   is shut first.
 * - Where the worker does not close after that either (CHANNEL_LEFT_MS), since it is stopped, or a
 *   child of it has a copy of the socket, the channel is lost, with `overdue` set, whatever is in
 *   progress.
 */
void channel_hang_up(struct channel *channel);

/* Gives the worker up, since it hangs: the channel is lost, with `hung` set. */
void channel_give_up(struct channel *channel);

/* Closes a channel in any state: GOAWAY with that reason, then lost(), then closed(). */
void channel_shut(struct channel *channel, const char *reason);

/* The channel's wheel timer is due. */
void channel_timeout(struct wheel_timer *timer);
