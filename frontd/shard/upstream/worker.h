#pragma once

/*
 * One worker process as a pool sees it: its address, its channel, dialling and dialling again. A
 * worker that is given by a name has the addresses of that name: they are tried one after the
 * other, and looked up anew when none has served.
 */

#include "common/log.h"
#include "frontd/ipc/shm_health.h"
#include "frontd/ipc/shm_troubles.h"
#include "frontd/ipc/shm_workers.h"
#include "frontd/shard/net/resolver.h"
#include "frontd/shard/upstream/answer.h"
#include "frontd/shard/upstream/balance.h"
#include "frontd/shard/upstream/fault.h"
#include "frontd/shard/upstream/pool.h"

enum {
    WORKER_RETRY_FIRST_MS = 10, /* a socket's file is there a moment before the socket listens */
    WORKER_RETRY_MAX_MS = 2000,
    WORKER_LOOK_UP_MS = 1000, /* at least, between two look-ups of its name */
    WORKER_CONNECT_MS = 1000, /* for one address, where there is another one to be tried */
    WORKER_STEADY_MS = 1000,  /* a worker that is ready for less is dialled less and less often */
    WORKER_TRIES_MAX = 3,     /* how often an idempotent call is sent, to workers that are lost */
    /* Channels of one address that their worker is to close; with more no new one is dialled. */
    WORKER_LEAVING_MAX = 8,
    /* Orphans (struct job) on one channel; with more of them the worker is given up. */
    WORKER_ORPHANS_MAX = 1000,
    WORKER_METHOD_SHOWN = 64, /* bytes of a method in the log */
};

struct worker {
    struct pool *pool;
    struct list node;               /* in pool->workers */
    char *text;                     /* for logs: "unix:/run/…", "tcp://…" */
    struct conf_address address;    /* where it is dialled; length 0: it is not known yet */
    const char *host;               /* its name, of the config; NULL: it is given by its address */
    struct conf_address *addresses; /* of the name, as looked up last; NULL: never */
    uint32_t naddresses;
    uint32_t next;      /* index in addresses[] of the one to be dialled next */
    uint64_t looked_up; /* ms: when the name was looked up */
    uint16_t port;      /* of the host */
    struct resolver_query query;
    struct channel channel;
    struct wheel_timer retry;
    char **methods; /* what it takes; NULL with narrow false: everything */
    size_t nmethods;
    char *responses;      /* how the ids of its requests to clients begin; NULL: it makes none */
    uint64_t rank;        /* hash of the address, for balance: hash */
    uint32_t weight;      /* how many calls it is to have for one of a worker with 1 */
    uint64_t home;        /* the process, by its address and pid: the same in all shards; not 0 */
    uint32_t concurrency; /* 0: no limit */
    uint32_t retry_ms;
    uint32_t short_ms;  /* what retry_ms starts at: 0, or more where it keeps ending soon */
    uint64_t opened_at; /* ms: HELLO came; 0: none has, or it has left since */
    uint32_t at;        /* in pool->ready[] while ready */
    uint64_t oldest;  /* ms: since when calls wait for it, as other shards were told; 0: none do */
    uint64_t waiting; /* ms: the same, as they are to be told */
    struct share_waiting told; /* what waits for it, as other shards were told */
    struct share_waiting tell; /* the same, as they are to be told */
    struct service service;    /* how long it takes, measured where workers differ */
    struct deferral deferral;
    struct faults faults;
    struct answers answers;
    struct trouble troubles[SHARE_WORKER_TROUBLES];
    struct trouble_reading reading;
    uint64_t late_since; /* ms: since when `late` is not 0 */
    uint32_t late;       /* calls that it holds past their deadline */
    int share;           /* number of its process in the shared memory; -1: none yet */
    int64_t pid;         /* as its HELLO says */
    uint64_t
        trial;   /* the call that is tried (health_good() and others); 0: none of this shard's is */
    int health;  /* its entry in the shared memory; -1: it is never left out */
    bool out;    /* it is left out: its channel is open, but it is not ready */
    bool trying; /* it gets one call only, and then is left out until its answer */
    bool testing;              /* the job that is being sent is that call */
    struct log_limit kept;     /* lines that it is not left out, since too few others are there */
    bool narrow;               /* it takes some methods only */
    bool ready;                /* in pool->ready */
    bool gone;                 /* its file was removed: it is not dialled again */
    bool seen;                 /* by the scan of its pattern that is going on */
    struct log_limit orphaned; /* calls that it did not answer */
    bool quiet;                /* that it cannot be reached has been logged */
    char trouble[80];          /* why it could not be, the last time; empty: it can */
};

/* Adds a worker and dials it. text: copied. Returns 0 or -errno. */
int worker_add(
    struct pool *pool, const char *text, const struct conf_address *address, uint32_t weight);

/* The same for one on TCP, as the config gives it. */
int worker_add_remote(struct pool *pool, const struct conf_worker *conf);

/* Whether it is not being looked up, dialled or greeted. */
bool worker_settled(const struct worker *worker);

/* The worker with that text, or NULL. */
struct worker *worker_find(struct pool *pool, const char *text);

/* Its socket has just appeared (again): dials at once if it is not connected. */
void worker_poke(struct worker *worker);

/* An operator may have drained it, or no more (pool_hold_back()). */
void worker_hold_back(struct worker *worker);

/* Tells the supervisor, for people, since when it has its oldest call; now and then. */
void worker_tell_oldest(const struct worker *worker);

/* Its socket has gone: it may finish what it has, and is forgotten when its channel closes. */
void worker_remove(struct worker *worker);

/* Gives it a job for which a slot has been taken. */
void worker_send(struct worker *worker, struct job *job, int slot);

/*
 * Sends a notification that is no job, and takes no slot. frame: a REQUEST, complete but for its
 * call id. Returns 0, -EMSGSIZE when the worker takes no frame of that size, -EAGAIN when it does
 * not read, or -ENOMEM.
 */
int worker_notify(struct worker *worker, struct buf *frame);

/* How many bytes of its request worker_data() takes now. The owner is told when there is room
 * again. */
size_t worker_room(const struct job *job);

/* Sends a part of the request of a job that `uploads`, of at most worker_room() bytes. more: it is
 * not the last one. */
void worker_data(struct job *job, struct span bytes, bool more);

/* Abandons a job of the worker's: CANCEL is sent. */
void worker_abandon(struct job *job);

/* The worker may send `bytes` more of an answer that is relayed part by part: of job->unsaid. */
void worker_credit(struct job *job, uint32_t bytes);

/*
 * For a job that was abandoned `kill_after` ago. A worker that handles one call at a time is given
 * up: it hangs in this one. From any other only the slot is taken back: that it lives is known by
 * PING.
 */
void worker_give_up(struct job *job);

/* How many calls it may have; one without a limit has as many as its row. */
static inline uint32_t worker_slots(const struct worker *worker)
{
    return worker->concurrency == 0 ? SHARE_SLOTS : MIN(worker->concurrency, (uint32_t)SHARE_SLOTS);
}

/*
 * How long calls that it gets take: itself where workers differ in what they take, else any worker
 * of the pool.
 */
static inline const struct service *worker_service(const struct worker *worker)
{
    return pool_is_selective(worker->pool) ? &worker->service : &worker->pool->service;
}

/* Whether calls may be given to it: it reads, and no shard has given it up. */
static inline bool worker_usable(const struct worker *worker)
{
    return channel_usable(&worker->channel) &&
           share_worker_hung(worker->pool->ctx->share, worker->share) == 0;
}

/*
 * Whether it has a free slot, as far as can be seen without taking it. Looked at first, so that
 * shards that wait are not woken for nothing.
 */
static inline bool worker_has_slot(const struct worker *worker)
{
    return worker->concurrency == 0 ||
           balance_has_slot(
               share_worker_load(worker->pool->ctx->share, worker->share), worker->concurrency);
}

static inline bool worker_takes(const struct worker *worker, struct span method)
{
    return !worker->narrow ||
           conf_method_listed(worker->methods, (uint32_t)worker->nmethods, method);
}

/* For worker.c, in worker_dial.c: */

/* Dials the worker, or looks its name up first. Where that fails at once, it is dialled later. */
void worker_dial(struct worker *worker);

/* After a channel has closed: dials the next address of the worker's name, or dials later. */
void worker_redial(struct worker *worker);

/* Dials later: each time after twice as long. */
void worker_retry_later(struct worker *worker);

/* Logs once why the worker cannot be reached, until it has been. */
void worker_log_unreachable(struct worker *worker, const char *why);

/* Keeps that text for pool_trouble(). why: copied. */
void worker_note_trouble(struct worker *worker, const char *why);

/* Whether an address of the worker's name has not been tried since it was looked up. */
static inline bool worker_has_address(const struct worker *worker)
{
    return worker->next < worker->naddresses;
}

/* Closes its channel with GOAWAY and forgets it. */
void worker_shut(struct worker *worker);

/* Its wheel timer is due. */
void worker_timeout(struct wheel_timer *timer);

/*
 * In worker_health.c: leaves out workers that fail repeatedly (`health` of a pool): after so many
 * failures in a row, of all shards together (shm_health.h), a worker gets no calls for a time. Then
 * it gets one: an answer brings it back, a failure leaves it out for twice as long.
 *
 * A failure is a call that the worker had when it was lost, or when the call's deadline passed,
 * and an answer that cannot be relayed (-32007). The loss of a worker is one failure, however many
 * calls it had. A JSON-RPC error and a status of HTTP are answers; a call that the client has
 * cancelled is neither.
 *
 * At most half of a pool's workers that are there are left out, as each shard sees them, and none
 * whose methods no other one takes. One that is left out is not in pool->ready[], as one that is
 * drained is not; but what is bound to it since it has asked (asker.h) is given to it still.
 */

/* The worker has just been made: finds what is known of its address. */
void health_init(struct worker *worker);

/* The worker's channel is open: it is ready, unless it is left out. */
void health_admit(struct worker *worker);

/* It has answered this call, or failed in it. */
void health_good(struct worker *worker, uint64_t call);
void health_bad(struct worker *worker, uint64_t call);

/* The client has cancelled this call. */
void health_cancelled(struct worker *worker, uint64_t call);

/*
 * The call's deadline has passed: it has failed, unless it has had the call for less time than
 * calls take. Then what was left of it was too little for any worker, and workers would be left out
 * just when there are too few.
 */
void health_late(struct worker *worker, const struct job *job);

/* Its channel was lost. failed: with calls that it had. */
void health_lost(struct worker *worker, bool failed);

/*
 * For a worker of which one call is to be tried, and of which a slot was taken for this job.
 * Returns whether the job is that call, or it is well by now. until: ms, when the call will have
 * ended.
 */
bool health_may_try(struct worker *worker, uint64_t until);

/* The job that is to be tried was sent; or could not be: sent false. */
void health_tried(struct worker *worker, const struct job *job, bool sent);

/* Looks which workers of the pool are left out: now and then, and where that has changed. */
void health_look(struct pool *pool);

/* The worker is not ready: it is not left out either. */
void health_forget(struct worker *worker);

static inline bool health_has_changed(const struct pool *pool)
{
    return share_health_changes(pool->ctx->share) != pool->health_changes;
}
