#pragma once

/* What the modules of a shard share: its loop, clock, timers, buffers, and the end of a turn. */

#include <uv.h>

#include "common/alloc.h"
#include "common/idmap.h"
#include "common/ids.h"
#include "common/list.h"
#include "common/slab.h"
#include "common/wheel.h"
#include "frontd/codec/http1.h"
#include "frontd/config/config.h"
#include "frontd/ipc/shm.h"
#include "frontd/shard/net/counts.h"
#include "frontd/shard/net/expect.h"
#include "frontd/shard/net/memory.h"
#include "frontd/shard/net/outqueue.h"
#include "frontd/shard/net/poller.h"

enum {
    /* All reads of clients land here, so that an idle connection needs no buffer. */
    CTX_READ_SIZE = 64 * 1024,
};

struct account_observer;
struct call;
struct call_ops;
struct call_parts_ops;
struct parts_ops;
struct compression;
struct client;
struct ctx;
struct gunzip;
struct access_log;
struct http2_shared;
struct incidents;
struct inspect;
struct jsonrpc;
struct marks;
struct mesh;
struct pool;
struct receiver;
struct requests_ops;
struct resolver;
struct route_ops;
struct sender;
struct session_ops;
struct stream;
struct tls;
struct tls_ticket_keys;
struct topics;
struct tracer;
struct transport_ops;
struct worker;

/* What a client connection speaks: see client/session.h. */
enum session_kind {
    SESSION_HTTP1,
    SESSION_WEBSOCKET,
    SESSION_FRAME,
    SESSION_LINE,
    SESSION_HTTP2,
    SESSION_FIRST, /* HTTP/1 or HTTP/2: its first bytes tell */
    SESSION_PROXY, /* the PROXY header, which comes before all else: client_proxy.c */
    SESSIONS
};

/*
 * The work of one turn for one client, stream or message is bounded, so that it does not hold up
 * the others. Work is counted in units: about what a frame costs that has no effect.
 */
enum {
    WORK_WRITE = 16,           /* units for a client that is written to at the turn's end */
    WORK_SHIFT = 10,           /* one unit for 2^10 bytes that are copied */
    WORK_SLICE = 128,          /* units of a stream or message until it is the next one's turn */
    WORK_STREAM = 256,         /* units of a stream when it has been read */
    WORK_TURN = 256,           /* units in a turn for all that was left over from the one before */
    WORK_HAND_OVER = 4096,     /* the same, while the hand-over waits for frames of siblings */
    WORK_VERIFY = 256,         /* units for a signature of a token: 16 to 100 us, RSA up to 250 */
    WORK_VERIFY_TURN = 1024,   /* units of such in a turn, for all clients together */
    WORK_CLIENT_MESSAGES = 64, /* requests or messages of one client in a turn */
};

/* What a wheel timer is a member of; turn.c gives each to its module when it is due. */
enum timer_kind {
    TIMER_CLIENT,
    TIMER_CALL,
    TIMER_CHANNEL,
    TIMER_WORKER,
    TIMER_POOL,
    TIMER_ACCEPT,
    TIMER_SENDER,
    TIMER_RECEIVER,
    TIMER_MEMORY,
    TIMER_TLS,
    TIMER_INSPECT,
    TIMER_TRACER,
    TIMER_ACCESS_LOG
};

/* What this shard tells of itself, in HELLO and to siblings. */
struct identity {
    const char *instance;
    uint64_t incarnation;
    uint64_t generation;
    uint32_t shard;
    uint32_t shards;
};

/* A walk over the connections, some of them in each turn (request/rebind.h). */
struct rebind {
    size_t at;   /* the bucket of ctx->conns that is next */
    size_t mask; /* of its buckets, when the walk has begun */
    bool walking;
    bool again;    /* some have to be looked at once more, later */
    size_t told;   /* of how many another worker has been told in this walk */
    size_t closed; /* how many have been closed */
};

/* Tells when all that has been passed on to the other shards so far has taken effect there. */
struct fence {
    /* Begins to wait for that. Returns a number for `passed`. */
    uint64_t (*raise)(struct ctx *ctx);
    bool (*passed)(const struct ctx *ctx, uint64_t number);
};

struct ctx {
    uv_loop_t loop;
    struct poller poller;  /* of all clients' connections, for all events but EPOLLOUT */
    struct poller writers; /* of connections with a full socket, for EPOLLOUT */
    const struct conf *conf;
    struct share *share;
    unsigned seat;
    struct identity identity;
    struct wheel wheel;
    char *read_buf;        /* CTX_READ_SIZE bytes, valid until the next read */
    char *stream_read_buf; /* the same for streams; NULL: there is none at present: framed.c */
    size_t stream_read_size;
    /* Clients and streams that are written to when the turn ends. */
    struct client *dirty_clients; /* a queue: first, and where the next is to be linked */
    struct client **dirty_tail;
    struct list dirty_streams;
    struct list unused; /* clients that have sent nothing yet, the oldest first; see acceptor.c */
    struct list *used;  /* the list of all others; NULL: unused ones are not kept apart any more */
    /* What goes on in the next turn, since this one has done enough of it (turn_go_on()). */
    struct list busy_streams; /* with frames that have been read */
    struct list fanouts;      /* messages to many members of a topic */
    struct client *later_clients;
    struct client **later_tail;
    struct stream *reading; /* its frames are being carried out; NULL: none is */
    unsigned taken;         /* requests or messages so far of the client that is being read */
    uint64_t work;          /* units done so far, ever */
    struct slab clients;
    struct slab requests;
    struct slab calls;
    struct slab duplexes;
    struct slab queues;        /* objects of the pools' queues */
    struct mesh *mesh;         /* the sockets to the other shards */
    struct resolver *resolver; /* NULL: no worker is given by a name */
    struct topics *topics;
    struct tls *tls;
    struct auth *auth; /* tokens of clients */
    struct jsonrpc *jsonrpc;
    struct http2_shared *http2;
    struct ws_compression *ws_compression;
    struct gunzip *gunzip;           /* of bodies of requests */
    struct compression *compression; /* of answers */
    struct inspect *inspect;
    struct incidents *incidents; /* what was refused last */
    struct sender *sender;       /* of connections that go to other shards */
    struct receiver *receiver;   /* of those that come */
    struct marks *marks;         /* of requests; NULL: they have none (upstream/mark.h) */
    struct access_log *access;   /* NULL: there is none */
    struct tracer *tracer;       /* NULL: no calls are traced */
    const struct fence *fence;
    const struct session_ops *sessions[SESSIONS];
    const struct transport_ops
        *transport;     /* restores those that are not plain; NULL: there are none */
    struct pool *pools; /* of the config */
    const struct requests_ops *requests_ops;
    const struct parts_ops *parts_ops;
    int *limit_rows; /* of policies with `calls`, by number: in the shared memory; -1: none */
    const struct call_parts_ops *call_parts_ops;
    void (*call_chosen)(struct call *call, struct worker *worker);
    const struct call_ops *call_ops;            /* how calls tell their owners */
    const struct route_ops *routes[CONF_KINDS]; /* by enum conf_kind */
    struct idmap conns;        /* duplex connections, by the id that workers know */
    int wake_fds[SHARE_SEATS]; /* eventfds that wake the shard on a seat; -1: none is known there */
    struct ids conn_ids;       /* of the connections to come */
    const struct tls_ticket_keys
        *ticket_keys; /* of listeners with `tickets`; NULL: there are none */
    uint64_t date_at; /* ms: when `date` was made */
    char date[HTTP1_DATE_SIZE];
    bool draining;
    bool replaced; /* other shards serve on when this one has ended */
    /* A client with a request in progress starts no other, so that it becomes idle. */
    bool requests_paused;
    bool leaving;     /* connections go to another process; one that becomes idle joins `idle` */
    struct list idle; /* clients that became so in this turn, and wait for the next round */
    struct front_words *count; /* of this seat */
    struct counts counts;
    uint64_t
        account_from; /* us: they hear only of what has taken as long; UINT64_MAX: of nothing */
    struct account_observer *account_observers; /* hear of each call and request; NULL: none do */
    uint64_t now_us; /* of this turn; 0: not read yet, see ctx_now_us() */
    uint64_t open;   /* client connections */
    size_t streamed; /* bytes of answers in parts that have come and not left */
    size_t states;   /* bytes that workers keep with connections */
    size_t bound;    /* connections with a struct affinity */
    bool unsettled;  /* they may be bound to workers that are gone: rebind_turn() */
    struct rebind rebind;
    struct restored_messages restored;
    struct memory memory;
    struct wheel_timer memory_timer; /* for the next look at `memory` (pressure.c) */
    uint64_t expect_seed;
    struct expect expect; /* last, since it is large */
};

/* Milliseconds of the monotonic clock, taken once a turn. */
static inline uint64_t ctx_now(const struct ctx *ctx)
{
    return uv_now(&ctx->loop);
}

/* Reads the clock for ctx_now_us(). */
uint64_t ctx_read_us(struct ctx *ctx);

/*
 * Microseconds of the same clock, which is read once a turn: when they are first asked for. So
 * times of calls do not tell turns apart, and a turn without calls reads no clock.
 */
static inline uint64_t ctx_now_us(struct ctx *ctx)
{
    return LIKELY(ctx->now_us != 0) ? ctx->now_us : ctx_read_us(ctx);
}

static inline void ctx_arm(struct ctx *ctx, struct wheel_timer *timer, uint64_t delay_ms)
{
    wheel_arm(&ctx->wheel, timer, ctx_now(ctx) + delay_ms);
}

/* The level of the memory that is held now. In the course of a turn it only rises. */
static inline enum memory_level ctx_memory(struct ctx *ctx)
{
    return memory_raise(&ctx->memory, mem_held());
}

/* Wakes the shard on a seat, if it is known there; no effect where it has been woken already. */
void ctx_wake(const struct ctx *ctx, unsigned seat);

/* Sets what is counted now and then: what memory is held for, and log lines that were left out. */
void ctx_count_gauges(struct ctx *ctx);

/* The Date field's value, made at most once a second. */
const char *ctx_date(struct ctx *ctx);
