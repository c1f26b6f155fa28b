#pragma once

/* The worker itself: one loop, one socket, its channels, its methods. */

#include <stdatomic.h>
#include <uv.h>

#include "common/buf.h"
#include "common/list.h"
#include "common/slab.h"
#include "workerd/asks.h"
#include "workerd/handover.h"
#include "workerd/methods.h"
#include "workerd/posts.h"
#include "workerd/socket.h"
#include "workerd/workerd.h"

enum {
    READ_SIZE = 256 * 1024, /* bytes: what one read may bring, many frames at once */
};

/* Waiting times in ms (protocol sections 4 and 10); a test makes them shorter. */
struct worker_times {
    uint64_t hello;   /* until the first HELLO */
    uint64_t ping;    /* of silence before a PING */
    uint64_t dead;    /* of silence after a PING */
    uint64_t linger;  /* for the front to close after our last byte */
    uint64_t replace; /* for a successor to be ready */
};

enum worker_state { WORKER_RUNNING, WORKER_STOPPING, WORKER_FINISHED };

struct channel;
struct frame;

/* What stands above the worker's parts and is called from them; serve.c fills it. */
struct worker_ops {
    /* A frame has come on a channel (dispatch.h). */
    void (*frame)(struct channel *channel, const struct frame *frame);

    /* A client's Response has come; returns whether it is for a request of ours (ask.h). */
    bool (*answered)(struct workerd_call *call);

    /* The time of worker_due() has come. now: ms of uv_now(). */
    void (*due)(struct workerd *worker, uint64_t now);

    /* Stops as workerd_stop() does; reason: what GOAWAY says. From the loop's thread. */
    void (*stop)(struct workerd *worker, const char *reason);
};

struct workerd {
    const struct worker_ops *ops;
    uv_loop_t loop;
    uv_check_t check;     /* writes out what one turn made ready, after polling … */
    uv_prepare_t prepare; /* … and before it, for what timers made */
    uv_timer_t timer;     /* the next thing that is due, see worker_due() */
    uv_timer_t accept_timer;
    struct posts posts; /* of other threads */
    uv_poll_t listen_poll;
    uv_signal_t signals[2];
    bool listen_open;
    bool signals_open;
    bool aborted;
    bool passed;            /* the socket was made by the process that started this one */
    bool notify;            /* the service manager is told what becomes of this process */
    atomic_bool stop_asked; /* by any thread */
    enum worker_state state;
    struct socket socket;
    struct takeover takeover;
    struct replace replace;
    struct worker_times times;

    struct list channels;
    struct list fronts;  /* of the open channels (front.h) */
    struct list dirty;   /* channels with something to write or to finish */
    struct list orphans; /* calls without a channel: it has closed */
    size_t nchannels;
    uint64_t last_serial; /* of a channel */
    size_t ncalls;        /* in progress over all channels, orphans included */
    struct slab calls;
    struct asks asks; /* requests to clients */

    char *read_buffer;
    struct methods methods;
    char *name;
    uint32_t concurrency;
    uint32_t max_frame; /* bytes: what we announce */
    struct list hooks;  /* of workerd_on_stop() */

    _Atomic(uv_thread_t) thread; /* the loop's */
    atomic_uint nopen;           /* channels that are open … */
    atomic_uint nfull;           /* … and those of them for which too much waits (push.c) */
    atomic_size_t late;          /* bytes that other threads have given and the loop has not sent */
    size_t lost; /* messages of other threads for which there was no channel or room */
};

/* Has ops->due() called at `due` (ms of uv_now()) or before. */
void worker_due(struct workerd *worker, uint64_t due);

/* Finishes if the worker is to stop and nothing is left to do. */
void worker_maybe_finish(struct workerd *worker);

/* Calls what workerd_on_stop() has registered, the last one first. */
void worker_run_hooks(struct workerd *worker);
