#pragma once

/* A pool: its workers, which of them takes a job, and the queue of jobs that wait for one. */

#include "common/log.h"
#include "frontd/shard/upstream/channel.h"
#include "frontd/shard/upstream/job.h"
#include "frontd/shard/upstream/service.h"
#include "frontd/shard/upstream/trouble.h"

struct pool;
struct worker;

/* A worker has sent a frame for connections (protocol section 9): PUSH, PUBLISH and the like. */
typedef void pool_push_fn(struct worker *worker, const struct frame *frame);

/*
 * A free slot is left to another shard with a call that has waited longer; zeroed: to none. A shard
 * that does not take the slot in time is passed over for a while (pool_share.c).
 */
struct deferral {
    uint64_t from;         /* ms: since when slots are left to that shard; 0: to none */
    uint64_t turn;         /* ms: since when its call has waited */
    uint64_t passed;       /* seats that are passed over, a bit each */
    uint64_t passed_until; /* ms: until when they are */
    uint32_t passed_ms;    /* how long the last of them had been waited for; 0: none was */
    unsigned seat;         /* that shard's */
};

struct pool {
    struct ctx *ctx;
    const struct conf_pool *conf;
    const struct job_ops *ops;
    pool_push_fn *pushed;
    unsigned row;          /* in the shared memory */
    struct list workers;   /* all known ones, connected or not */
    struct worker **ready; /* those with an open channel: they get calls */
    uint32_t nready;
    uint32_t room;           /* of ready[] */
    uint32_t nknown;         /* length of `workers` */
    uint32_t weight;         /* of the ready workers together */
    uint32_t slots;          /* of the ready workers, all shards' calls together */
    uint32_t narrow;         /* ready workers that take some methods only */
    uint32_t nout;           /* workers that are left out (worker_health.c) */
    uint32_t health_changes; /* share_health_changes() when they were looked at */
    struct queue queue;      /* of jobs' items; a worker's number there is its place in ready[] */
    struct wheel_timer timer;
    struct service service;   /* how long its workers take */
    uint64_t slow_until;      /* ms: until then some worker starts slowly (slow_start.h) */
    uint64_t no_worker_since; /* ms; valid while nready is 0 */
    uint64_t resumed_at;      /* ms: until then it was paused; 0: it never was */
    struct deferral deferral; /* where all workers take all calls; else each worker has one */
    bool restless;            /* the news of each worker for other shards is to be refreshed */
    uint64_t random;
    struct ssl_ctx_st *tls; /* for workers that are dialled over TLS; borrowed; NULL: none is */
    struct watch *watches;  /* one for each UNIX pattern */
    uint32_t nwatches;
    uint32_t closing;       /* workers on their way out */
    struct log_limit none;  /* of lines about calls without a worker in time */
    struct log_limit alien; /* of lines about calls of a method that no worker takes */
    bool paused;            /* by an operator: its calls wait */
    struct trouble crowded; /* its calls wait */
    bool shutting;
};

/*
 * index: of the pool in the config. ops: what its jobs end by. pushed: what its workers' pushes are
 * given to. Returns 0 or -errno.
 */
int pool_init(struct pool *pool, struct ctx *ctx, unsigned index, const struct job_ops *ops,
    pool_push_fn *pushed);

/* Starts to look for workers, once pool->tls is set. Returns 0 or -errno. */
int pool_open(struct pool *pool);

/*
 * Whether no worker is being looked up, dialled or greeted. Before that, a call with a worker of
 * its own, by its hash or since the worker has asked for it, would go to another one.
 */
bool pool_settled(const struct pool *pool);

/* Whether a shard on one of these seats has a worker of the pool. */
bool pool_reached_by(const struct pool *pool, uint64_t seats);

/*
 * Whether a worker has accepted our connection and not sent HELLO for a while: it is busy, or
 * hangs, and answers no other shard either.
 */
bool pool_held_up(const struct pool *pool);

/* The ready worker that is this process (worker->home), or NULL. */
struct worker *pool_home(const struct pool *pool, uint64_t home);

/* The ready worker that a hash gives calls of this method to; NULL: none takes it. */
struct worker *pool_by_hash(const struct pool *pool, uint64_t hash, struct span method);

/* Why this shard has no worker of the pool, for the log; valid until the loop turns. */
const char *pool_trouble(const struct pool *pool);

/* When no new jobs come: sends GOAWAY to all workers; jobs in progress go on. */
void pool_leave(struct pool *pool);

/*
 * After pool_leave(), each turn: shuts our side of channels without calls in progress. Returns
 * whether all channels are gone: closed by the workers, so that nothing that those sent is unread,
 * or given up when the time for it was over.
 */
bool pool_hang_up(struct pool *pool);

/* Fails the jobs in its queue, and logs that. */
void pool_drop_queue(struct pool *pool);

/* Sends GOAWAY to all workers and closes their channels; jobs still there fail. */
void pool_shut(struct pool *pool);

/* After pool_shut() and once the loop has run its close callbacks. */
void pool_deinit(struct pool *pool);

/*
 * Gives a job to a worker, or queues it, or fails it. Its frame, method, hash and flags are set.
 * Any of the ops may be called from within.
 */
void pool_submit(struct pool *pool, struct job *job);

/*
 * When a client may come again whose job the pool has refused, or its worker's channel could not
 * take: the time for which one more of its calls would wait, rounded up to seconds, 1 to 60; 1
 * where that is not known.
 */
unsigned pool_retry_after(const struct job *job);

/*
 * Abandons a job: its answer is not waited for any more. Returns true when it is IDLE again, and
 * the caller's; false when a worker has it: CANCEL is sent, and ops->answered() or ->failed() still
 * comes, since only the worker's answer gives the slot back (protocol section 5).
 */
bool pool_abandon(struct job *job);

/*
 * For a job that was abandoned `kill_after` ago and not answered since: its slot is taken back, or
 * its worker given up.
 */
void pool_give_up(struct job *job);

/*
 * Stops reading from workers without calls in progress (deaf), since a sibling does not keep up
 * with what they publish, or reads again. While it is stopped to be called once a turn, since
 * workers may have come, or got calls.
 */
void pool_set_deaf(struct pool *pool, bool deaf);

/*
 * This shard has been woken: another one has freed a slot, or has let a call into the full queue,
 * for which this one gives up one of its own.
 */
void pool_wake(struct pool *pool);

/*
 * What an operator holds back (shm_holds.h) has changed, or is looked at for the first time:
 * whether the pool is paused, and which of its workers are drained. A paused pool gives no call to
 * a worker, and fails none for want of one: calls wait up to their deadline. A worker that is
 * drained is as one that goes away: it finishes the calls that it has, and gets no new ones.
 */
void pool_hold_back(struct pool *pool);

/*
 * To be called now and then: looks which workers are left out (worker_health.c), and refreshes what
 * people are told of them (shm_workers.h).
 */
void pool_beat(struct pool *pool);

/* When a turn ends: tells the other shards since when calls wait for which worker. */
void pool_turn(struct pool *pool);

/* Now and then: tells the shared memory of its workers, for the metrics. */
void pool_count_workers(const struct pool *pool);

/* Its wheel timer is due. */
void pool_timeout(struct wheel_timer *timer);

/* Whether each call has one worker, by its hash, however loaded that is. */
static inline bool pool_is_hashed(const struct pool *pool)
{
    return pool->conf->hash != CONF_HASH_NONE && !pool->conf->bounded;
}

/* Whether workers differ in the calls that they take. */
static inline bool pool_is_selective(const struct pool *pool)
{
    return pool->narrow > 0 || pool_is_hashed(pool);
}

/* For worker.c */

void pool_worker_ready(struct pool *pool, struct worker *worker);
void pool_worker_unready(struct pool *pool, struct worker *worker);

/* A worker's slot has become free: the job with the next turn gets it. */
void pool_slot_freed(struct worker *worker);

/* The pool is not paused any more: what waits is given to workers. */
void pool_resume(struct pool *pool);

/* Jobs have come back from a worker that is gone: those that wait get the slots that are free. */
void pool_dispatch(struct pool *pool);

/* Since when the longest-waiting job for this worker has waited, ms; 0: none waits for it. */
uint64_t pool_waits_since(const struct worker *worker);

/* Queues a job again that no worker has started: as its client's first, and with the next turn. */
void pool_requeue(struct pool *pool, struct job *job);

/* Ends a job that is IDLE or QUEUED, with ops->failed(). */
void pool_fail(struct job *job, enum rpc_error error);
