#pragma once

/* A pool: its workers, which of them takes a job, and the queue of jobs that wait for one. */

#include "common/log.h"
#include "frontd/shard/upstream/channel.h"
#include "frontd/shard/upstream/job.h"

struct pool;
struct worker;

/* A worker has something for connections (protocol section 9): PUSH, PUBLISH and the like. */
typedef void pool_push_fn(struct worker *worker, const struct frame *frame);

/* That another shard's call goes first, which has waited longer. Zeroed at first. */
struct deferral {
    uint64_t from;         /* ms: it is let go first since then; 0: none is */
    uint64_t turn;         /* ms: it has waited since then */
    uint64_t passed;       /* seats that did not go when they were let, a bit each */
    uint64_t passed_until; /* ms: they are not waited for until then */
    uint32_t passed_ms;    /* how long they were waited for the last time; 0: none were */
    unsigned seat;
};

struct pool {
    struct ctx *ctx;
    const struct conf_pool *conf;
    const struct job_ops *ops;
    pool_push_fn *pushed;
    unsigned row;          /* in the shared memory */
    struct list workers;   /* all that are known */
    struct worker **ready; /* those that calls may be given to */
    uint32_t nready;
    uint32_t room;      /* of ready[] */
    uint32_t nknown;    /* workers in all */
    uint32_t narrow;    /* of the ready ones, those that take some methods only */
    struct queue queue; /* of the items of jobs; workers are their places in ready[] */
    struct wheel_timer timer;
    uint64_t no_worker_since; /* ms; valid while nready is 0 */
    struct deferral deferral; /* where all workers take all calls; else each has its own */
    bool restless;            /* what workers tell other shards of who waits for them is old */
    uint64_t random;
    struct watch *watches; /* one for each UNIX pattern */
    uint32_t nwatches;
    uint32_t closing;       /* workers on their way out */
    struct log_limit none;  /* of lines about calls that found no worker */
    struct log_limit alien; /* and about those whose method no worker takes */
    bool shutting;
};

/* index: of the pool in the config. pushed: where its workers' pushes go. Returns 0 or -errno. */
int pool_init(struct pool *pool, struct ctx *ctx, unsigned index, const struct job_ops *ops,
    pool_push_fn *pushed);

/* Starts to look for workers. Returns 0 or -errno. */
int pool_open(struct pool *pool);

/* Whether it is known of each of its workers whether it is there: else calls whose worker is given
 * by a hash, or by what it has asked, would go to another one at first. */
bool pool_settled(const struct pool *pool);

/* Whether a shard on one of these seats has a worker of the pool. */
bool pool_reached_by(const struct pool *pool, uint64_t seats);

/*
 * Whether a worker of it has taken our connection and said nothing for a while: it is held up, or
 * hangs, and no shard has answers of it now.
 */
bool pool_held_up(const struct pool *pool);

/* Why this shard has no worker of it, where it has none; valid until the loop turns. */
const char *pool_trouble(const struct pool *pool);

/* No new jobs come: says GOAWAY to all workers; jobs in progress go on. */
void pool_leave(struct pool *pool);

/*
 * After pool_leave(): shuts our side of the channels whose calls have ended. Returns whether the
 * workers have closed all of them, so that nothing that they sent is unread, or have had their time
 * for it; to be called again until then.
 */
bool pool_hang_up(struct pool *pool);

/* The calls in its queue fail, which is logged. */
void pool_drop_queue(struct pool *pool);

/* Says GOAWAY to all workers and lets go of everything; jobs still there fail. */
void pool_shut(struct pool *pool);

/* After pool_shut() and once the loop has run its close callbacks. */
void pool_deinit(struct pool *pool);

/*
 * Gives a job to a worker, or queues it, or fails it. Its frame, method, hash and flags are set.
 * Any of the ops may be called from within.
 */
void pool_submit(struct pool *pool, struct job *job);

/*
 * Nobody waits for the job any more. Returns true when it is IDLE again, and the caller's; false
 * when a worker has it: CANCEL is sent, and ops->answered() or ->failed() still comes, since only
 * the worker's answer gives the slot back (protocol section 5).
 */
bool pool_abandon(struct job *job);

/*
 * A job was abandoned `kill_after` ago, and the worker has not answered: the slot is taken back, or
 * the worker given up.
 */
void pool_give_up(struct job *job);

/*
 * Stops reading from the workers that have no calls in progress, or goes on: a sibling does not
 * keep up with what they publish. Meanwhile once a turn, for those that come, or get calls.
 */
void pool_set_deaf(struct pool *pool, bool deaf);

/* Another shard has freed a slot, or has let a call in for one of ours. */
void pool_wake(struct pool *pool);

/* When a turn ends: tells the other shards who waits for which worker. */
void pool_turn(struct pool *pool);

/* Its wheel timer is due. */
void pool_timeout(struct wheel_timer *timer);

/* Whether workers differ in what they take. */
static inline bool pool_is_selective(const struct pool *pool)
{
    return pool->narrow > 0 || pool->conf->hash != CONF_HASH_NONE;
}

/* For worker.c */

void pool_worker_ready(struct pool *pool, struct worker *worker);
void pool_worker_unready(struct pool *pool, struct worker *worker);

/* A worker's slot has become free: who waits for it gets it. */
void pool_slot_freed(struct worker *worker);

/* A worker has gone, and given jobs back: who waits for any gets it. */
void pool_dispatch(struct pool *pool);

/* Since when what waits for this worker does, ms; 0: nothing waits for it. */
uint64_t pool_waits_since(const struct worker *worker);

/* A job that no worker has started goes to the front of its client's, which is next. */
void pool_requeue(struct pool *pool, struct job *job);

/* A job that nobody can do, or nobody waits for: over, as failed() says. */
void pool_fail(struct job *job, enum rpc_error error);
