#pragma once

/*
 * A connection to a worker (protocol section 1): frames out, frames in, HELLO, liveness. It knows
 * calls by their id only; what an answer means is its owner's business.
 */

#include "common/buf.h"
#include "common/idmap.h"
#include "frontd/shard/net/framed.h"
#include "proto/hello.h"

enum {
    CHANNEL_HELLO_MS = 5000,     /* protocol section 4 */
    CHANNEL_QUIET_MS = 15000,    /* section 10: then PING */
    CHANNEL_DEAD_MS = 45000,     /* section 10: nothing for so long after a PING */
    CHANNEL_PING_PART = 4,       /* of channel->timeout a PING is sent after, while calls wait */
    CHANNEL_WAIT_MS = 1000,      /* section 7: for a worker that pushes to close first when we go */
    CHANNEL_LEFT_MS = 5000,      /* for a silent one to close at all, when no connection is left */
    CHANNEL_LEFT_MAX_MS = 10000, /* for any */
    /* Waiting for a worker that does not read; past it no more calls are given to it. */
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
    /* The same for one that is over max_frame, whose payload is skipped. */
    void (*too_long)(
        struct channel *channel, struct idmap_node *call, const struct frame_head *head);
    /* PUSH, PUBLISH and the like. */
    void (*pushed)(struct channel *channel, const struct frame *frame);
    /* A frame is not carried out, and nothing else is touched. what: why, static text. */
    void (*refused)(struct channel *channel, const struct frame_head *head, const char *what);
    /* GOAWAY: calls above last_call were not started. */
    void (*leaving)(struct channel *channel, const char *reason, uint64_t last_call);
    /* It is gone; every call in channel->calls is the owner's to take out and settle. */
    void (*lost)(struct channel *channel, const char *why);
    /* Its memory may be used again. */
    void (*closed)(struct channel *channel);
    /*
     * Since when (ms) calls wait for a worker that could tell that it is alive; 0: none does.
     * CHANNEL_MAY_BE_SILENT: it works on one and need not tell.
     */
    uint64_t (*awaited)(struct channel *channel);
};

#define CHANNEL_MAY_BE_SILENT UINT64_MAX

struct channel {
    struct stream stream;
    const struct channel_ops *ops;
    const char *pool;
    struct ctx *ctx;
    enum channel_state state;
    bool said_goaway;
    bool hung;      /* it is lost since the worker did not answer */
    bool mute;      /* it is lost since no HELLO came */
    bool pushes;    /* the worker may send what is no answer */
    bool hung_up;   /* our side is shut */
    bool overdue;   /* it is lost since the worker has not closed it, though we go */
    uint64_t left;  /* ms: since when we wait for it to close; 0: we do not */
    uint64_t quiet; /* ms: when we had no more to say to a worker that is to close; 0: we have */
    uint64_t asked; /* of ctx->fence, when the worker had closed; 0: it has not */
    struct idmap calls;
    size_t orphans; /* of them, those that are not waited for and have no slot any more */
    struct wheel_timer timer;
    uint32_t dial_ms;   /* for connecting; the owner sets it, 0: CHANNEL_HELLO_MS */
    uint64_t timeout;   /* ms: how long it may be silent while calls wait; the owner sets it */
    uint64_t busy_at;   /* ms: since when there are calls that are no orphans, if there are */
    uint64_t due;       /* ms: when the timer is to come */
    uint64_t ping_end;  /* position in the stream after the last PING */
    uint64_t ping_seen; /* how far the stream was written when that was last looked at */
    uint64_t last_id;   /* of a call */
    uint64_t pinged_at; /* ms; later than stream.heard_at: a PING waits for an answer */
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
 * Starts to connect. The outcome comes as opened() or lost(), never from within.
 * Returns 0, or -errno with nothing started.
 */
int channel_dial(struct channel *channel, const struct sockaddr *address, socklen_t len);

/*
 * Sends a REQUEST: `frame` is complete but for its call id, which is set here and in call->id.
 * The call is in channel->calls afterwards, unless it is a notification. *ret_end is the position
 * in the stream after it: not executed as long as channel->stream.written is below it.
 * Returns 0, -EMSGSIZE when the worker takes no frame of that size, or -ENOMEM.
 */
int channel_send_call(struct channel *channel, struct idmap_node *call, struct buf *frame,
    bool notify, uint64_t *ret_end);

/* CANCEL for a call in progress. */
void channel_cancel(struct channel *channel, uint64_t call);

/* WINDOW: `bytes` more of DATA may come for that call (protocol section 8). */
void channel_window(struct channel *channel, uint64_t call, size_t bytes);

/* Whether calls may be given to it. */
static inline bool channel_usable(const struct channel *channel)
{
    return channel->state == CHANNEL_OPEN && buf_len(&channel->stream.out) < CHANNEL_BACKLOG_MAX;
}

/* We are going to go (protocol section 7): GOAWAY; no new calls, those in progress go on. */
void channel_leave(struct channel *channel);

/*
 * For one that we leave: once its calls have ended, what the worker still says is read until it
 * closes the channel, and when that has taken effect on all shards we close it too. A worker that
 * does not close in time, or never pushes, sees our side shut first. One that does not close after
 * that either (CHANNEL_LEFT_MS), since it is stopped, or a child of it has a copy of the socket, is
 * lost, with `overdue` set, whatever is in progress. To be called again, each turn, until it is
 * lost.
 */
void channel_hang_up(struct channel *channel);

/* Its worker has hung: it is lost, with `hung` set. */
void channel_give_up(struct channel *channel);

/* We go: GOAWAY with that reason, then what is in progress is lost, then it closes. */
void channel_shut(struct channel *channel, const char *reason);

/* Its wheel timer is due. */
void channel_timeout(struct wheel_timer *timer);
