/*
 * pool_submit() finds a worker with a free slot, or puts the job at the end of the queue. A slot
 * that becomes free (worker.c) leads to dispatch(), which takes jobs from the front of the queue.
 *
 * Shards compete for the same slots. Who frees one looks whether another shard's call has waited
 * longer; if so it leaves the slot and wakes that shard. Should that shard not take it in a moment
 * (it may have no channel to this worker, or hang), it is no longer waited for.
 *
 * While calls wait a timer tries again, since not everything that makes room comes by here: a slot
 * may be freed in another pool with the same worker or by a dying process that sends no wake-up,
 * and a worker that was slow to read may have caught up.
 */

#include "frontd/shard/pool.h"

#include <errno.h>
#include <unistd.h>

#include "common/hash.h"
#include "common/mem.h"
#include "frontd/shard/watch.h"
#include "frontd/shard/worker.h"

enum {
    FAIR_MS = 2,   /* another shard's call goes first when it is older by more than this */
    DEFER_MS = 10, /* and does not within this: then it is passed over */
    RETRY_MS = 20, /* between two looks for a slot while calls wait */
};

int pool_init(struct pool *pool, struct ctx *ctx, unsigned index, const struct pool_ops *ops)
{
    *pool = (struct pool){
        .ctx = ctx,
        .conf = &ctx->conf->pools[index],
        .ops = ops,
        .no_worker_since = ctx_now(ctx),
        .random = hash_key_random().k0 | 1,
    };
    int row = share_pool(ctx->share, pool->conf->name);
    if (row < 0)
        return row;
    pool->row = (unsigned)row;
    list_init(&pool->workers);
    list_init(&pool->queue);
    wheel_timer_init(&pool->timer, TIMER_POOL);
    pool->watches = mem_zalloc(pool->conf->nworkers * sizeof(struct watch));
    return pool->watches == NULL ? -ENOMEM : 0;
}

int pool_open(struct pool *pool)
{
    for (uint32_t i = 0; i < pool->conf->nworkers; i++) {
        const struct conf_worker *worker = &pool->conf->workers[i];
        int r = worker->pattern == NULL
                    ? worker_add(pool, worker->text, &worker->address)
                    : watch_init(&pool->watches[pool->nwatches++], pool, worker);
        if (r < 0)
            return r;
    }
    return 0;
}

bool pool_settled(const struct pool *pool)
{
    list_for_each (node, &pool->workers) {
        enum channel_state state = container_of(node, struct worker, node)->channel.state;
        if (pool->nready == 0 && (state == CHANNEL_CONNECTING || state == CHANNEL_GREETING))
            return false;
    }
    return true;
}

void pool_set_deaf(struct pool *pool, bool deaf)
{
    list_for_each (node, &pool->workers) {
        struct channel *channel = &container_of(node, struct worker, node)->channel;
        /* Before its HELLO a worker pushes nothing, and is waited for: it is read. */
        bool greeted = channel->state == CHANNEL_OPEN || channel->state == CHANNEL_LEAVING;
        stream_set_deaf(&channel->stream, deaf && greeted);
    }
}

void pool_leave(struct pool *pool)
{
    list_for_each (node, &pool->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        pool_worker_unready(pool, worker);
        worker->gone = true; /* it is not dialled again */
        channel_leave(&worker->channel);
    }
}

bool pool_hang_up(struct pool *pool)
{
    list_for_each_safe (node, &pool->workers) {
        struct worker *worker = container_of(node, struct worker, node);
        bool dialled = worker->channel.state != CHANNEL_CLOSED;
        pool_worker_unready(pool, worker);
        worker_remove(worker);
        if (dialled)
            channel_hang_up(&worker->channel);
    }
    return list_empty(&pool->workers);
}

void pool_shut(struct pool *pool)
{
    pool->shutting = true;
    wheel_disarm(&pool->timer);
    for (uint32_t i = 0; i < pool->nwatches; i++)
        watch_close(&pool->watches[i]);
    list_for_each_safe (node, &pool->workers)
        worker_shut(container_of(node, struct worker, node));
    list_for_each_safe (node, &pool->queue)
        pool_fail(container_of(node, struct job, node), RPC_UNAVAILABLE);
}

void pool_deinit(struct pool *pool)
{
    CHECK(list_empty(&pool->workers) && list_empty(&pool->queue));
    mem_free(pool->ready);
    mem_free(pool->watches);
}

static uint32_t random_below(struct pool *pool, uint32_t n)
{
    pool->random ^= pool->random << 13;
    pool->random ^= pool->random >> 7;
    pool->random ^= pool->random << 17;
    return (uint32_t)(((pool->random >> 32) * n) >> 32);
}

static struct span job_method(const struct job *job)
{
    return (struct span){job->method, job->method_len};
}

/* Takes a slot of this worker for the job. */
static bool try_worker(struct worker *worker, struct job *job)
{
    struct pool *pool = worker->pool;
    if (!channel_usable(&worker->channel))
        return false;
    if (worker->narrow && !worker_takes(worker, job_method(job)))
        return false;
    return share_slot_take(
        pool->ctx->share, pool->ctx->seat, worker->share, worker->concurrency, &job->slot);
}

/* Rendezvous hashing: when a worker comes or goes, only its own share of the keys moves. */
static struct worker *pick_by_hash(struct pool *pool, struct job *job)
{
    struct worker *best = NULL;
    uint64_t best_weight = 0;
    for (uint32_t i = 0; i < pool->nready; i++) {
        struct worker *worker = pool->ready[i];
        if (worker->narrow && !worker_takes(worker, job_method(job)))
            continue;
        uint64_t weight = (job->hash ^ worker->rank) * 0x9e3779b97f4a7c15ULL;
        weight ^= weight >> 32;
        weight *= 0xd6e8feb86659fd93ULL;
        if (best == NULL || weight > best_weight) {
            best = worker;
            best_weight = weight;
        }
    }
    return best != NULL && try_worker(best, job) ? best : NULL;
}

/* The less loaded of two random workers; where neither has a slot, any that has one. */
static struct worker *pick(struct pool *pool, struct job *job)
{
    uint32_t n = pool->nready;
    if (n == 0)
        return NULL;
    if (pool->conf->hash != CONF_HASH_NONE)
        return pick_by_hash(pool, job);
    uint32_t first = n == 1 ? 0 : random_below(pool, n);
    if (n > 1) {
        uint32_t second = random_below(pool, n - 1);
        second += second >= first;
        const struct share *share = pool->ctx->share;
        if (share_worker_load(share, pool->ready[second]->share) <
            share_worker_load(share, pool->ready[first]->share))
            first = second;
    }
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = first + i < n ? first + i : first + i - n;
        if (try_worker(pool->ready[at], job))
            return pool->ready[at];
    }
    return NULL;
}

static void note_oldest(struct pool *pool)
{
    uint64_t since = list_empty(&pool->queue)
                         ? 0
                         : MAX(list_first(&pool->queue, struct job, node)->since, 1U);
    share_queue_set_oldest(pool->ctx->share, pool->ctx->seat, pool->row, since);
}

static void wake(struct pool *pool, unsigned seat)
{
    uint64_t one = 1;
    int fd = pool->ctx->wake_fds[seat];
    if (fd >= 0 && write(fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
        CHECK(errno == EINTR);
}

/*
 * Whether a call that waits since then may take a free slot now, other shards' calls considered.
 * Where not, the shard whose turn it is has been woken.
 */
static bool may_take(struct pool *pool, uint64_t since)
{
    unsigned seat;
    uint64_t other;
    if (!share_queue_oldest_other(pool->ctx->share, pool->ctx->seat, pool->row, &seat, &other) ||
        other + FAIR_MS >= since || other == pool->ignored_since) {
        pool->deferred_since = 0;
        return true;
    }
    uint64_t now = ctx_now(pool->ctx);
    if (pool->deferred_since == 0) {
        pool->deferred_since = now;
    } else if (now - pool->deferred_since >= DEFER_MS) {
        pool->ignored_since = other;
        pool->deferred_since = 0;
        return true;
    }
    wake(pool, seat);
    return false;
}

static void unqueue(struct job *job)
{
    struct pool *pool = job->pool;
    CHECK(job->state == JOB_QUEUED);
    list_remove(&job->node);
    pool->queued--;
    share_queue_remove(pool->ctx->share, pool->ctx->seat, pool->row);
    job->state = JOB_IDLE;
    note_oldest(pool);
}

void pool_fail(struct job *job, enum rpc_error error)
{
    if (job->state == JOB_QUEUED)
        unqueue(job);
    CHECK(job->state == JOB_IDLE);
    job->pool->ops->failed(job, error);
}

/* The first waiting job that a worker has a slot for; NULL where none has, or others go first. */
static struct job *next_job(struct pool *pool, struct worker **ret_worker)
{
    /* Only where workers differ in what they take can a later job go when the first cannot. */
    bool selective = pool->narrow > 0 || pool->conf->hash != CONF_HASH_NONE;
    list_for_each (node, &pool->queue) {
        struct job *job = container_of(node, struct job, node);
        if (!may_take(pool, job->since))
            return NULL;
        *ret_worker = pick(pool, job);
        if (*ret_worker != NULL)
            return job;
        if (!selective)
            return NULL;
    }
    return NULL;
}

/* Gives waiting jobs to workers for as long as there are slots. */
static void dispatch(struct pool *pool)
{
    struct worker *worker;
    struct job *job;
    while (pool->nready > 0 && (job = next_job(pool, &worker)) != NULL) {
        unqueue(job);
        worker_send(worker, job);
    }
}

void pool_slot_freed(struct pool *pool)
{
    unsigned seat;
    uint64_t since;
    if (!list_empty(&pool->queue))
        dispatch(pool);
    else if (share_queue_oldest_other(pool->ctx->share, pool->ctx->seat, pool->row, &seat, &since))
        wake(pool, seat);
}

void pool_wake(struct pool *pool)
{
    dispatch(pool);
}

/* Whether any worker that is there takes the method; true where none is there to ask. */
static bool takes_method(const struct pool *pool, const struct job *job)
{
    if (pool->narrow < pool->nready || pool->nready == 0)
        return true;
    for (uint32_t i = 0; i < pool->nready; i++) {
        if (worker_takes(pool->ready[i], job_method(job)))
            return true;
    }
    return false;
}

/* When to look for a slot again; without any worker, when the first job has waited too long. */
static void arm(struct pool *pool)
{
    struct ctx *ctx = pool->ctx;
    if (list_empty(&pool->queue) || pool->shutting)
        return;
    if (pool->nready > 0) {
        if (!wheel_armed(&pool->timer))
            ctx_arm(ctx, &pool->timer, RETRY_MS);
        return;
    }
    const struct job *first = list_first(&pool->queue, struct job, node);
    uint64_t from = MAX(first->since, pool->no_worker_since);
    wheel_arm(&ctx->wheel, &pool->timer, from + pool->conf->wait_for_worker);
}

static void expire_waiting(struct pool *pool)
{
    uint64_t now = ctx_now(pool->ctx);
    while (!list_empty(&pool->queue)) {
        struct job *job = list_first(&pool->queue, struct job, node);
        if (MAX(job->since, pool->no_worker_since) + pool->conf->wait_for_worker > now)
            break;
        pool_fail(job, RPC_UNAVAILABLE);
    }
}

/* Methods that only a worker that is not there could take wait no longer than for any worker. */
static void expire_untaken(struct pool *pool)
{
    uint64_t now = ctx_now(pool->ctx);
    struct list *node = pool->queue.next;
    while (node != &pool->queue) {
        struct job *job = container_of(node, struct job, node);
        node = node->next;
        if (job->since + pool->conf->wait_for_worker <= now && !takes_method(pool, job)) {
            pool_fail(job, RPC_METHOD_NOT_FOUND);
            node = pool->queue.next; /* others may have left with it */
        }
    }
}

void pool_timeout(struct wheel_timer *timer)
{
    struct pool *pool = container_of(timer, struct pool, timer);
    if (pool->nready == 0)
        expire_waiting(pool);
    else
        dispatch(pool);
    if (pool->narrow > 0)
        expire_untaken(pool);
    arm(pool);
}

static void enqueue(struct pool *pool, struct job *job, bool in_front, uint32_t limit)
{
    struct ctx *ctx = pool->ctx;
    if (pool->shutting || (pool->nready == 0 && (pool->conf->wait_for_worker == 0 || limit == 0))) {
        pool_fail(job, RPC_UNAVAILABLE);
        return;
    }
    if (!share_queue_add(ctx->share, ctx->seat, pool->row, limit)) {
        pool_fail(job, RPC_OVERLOADED);
        return;
    }
    job->state = JOB_QUEUED;
    job->since = ctx_now(ctx);
    list_append(in_front ? pool->queue.next : &pool->queue, &job->node);
    pool->queued++;
    note_oldest(pool);
    arm(pool);
}

void pool_submit(struct pool *pool, struct job *job)
{
    CHECK(job->state == JOB_IDLE);
    job->pool = pool;
    if (UNLIKELY(pool->nready == pool->nknown && !takes_method(pool, job))) {
        pool_fail(job, RPC_METHOD_NOT_FOUND);
        return;
    }
    bool selective = pool->narrow > 0 || pool->conf->hash != CONF_HASH_NONE;
    if ((list_empty(&pool->queue) || selective) && may_take(pool, ctx_now(pool->ctx))) {
        struct worker *worker = pick(pool, job);
        if (LIKELY(worker != NULL)) {
            worker_send(worker, job);
            return;
        }
    }
    bool was_empty = list_empty(&pool->queue);
    enqueue(pool, job, false, pool->conf->queue);
    /* A slot may have become free just before others could see that we wait. */
    if (was_empty)
        dispatch(pool);
}

void pool_requeue(struct pool *pool, struct job *job)
{
    enqueue(pool, job, true, UINT32_MAX); /* it was admitted before */
}

bool pool_abandon(struct job *job)
{
    if (job->state == JOB_SENT) {
        worker_abandon(job);
        return false;
    }
    if (job->state == JOB_QUEUED)
        unqueue(job);
    return true;
}

void pool_worker_ready(struct pool *pool, struct worker *worker)
{
    if (pool->nready == pool->room) {
        uint32_t room = MAX(pool->room * 2, 8U);
        struct worker **ready = mem_zalloc(room * sizeof(struct worker *));
        if (ready == NULL) {
            channel_shut(&worker->channel, "no memory"); /* it is dialled again later */
            return;
        }
        for (uint32_t i = 0; i < pool->nready; i++)
            ready[i] = pool->ready[i];
        mem_free(pool->ready);
        pool->ready = ready;
        pool->room = room;
    }
    pool->ready[pool->nready++] = worker;
    pool->narrow += worker->narrow;
    worker->ready = true;
    wheel_disarm(&pool->timer);
    dispatch(pool);
    arm(pool);
}

void pool_worker_unready(struct pool *pool, struct worker *worker)
{
    if (!worker->ready)
        return;
    uint32_t at = 0;
    while (pool->ready[at] != worker)
        at++;
    pool->ready[at] = pool->ready[--pool->nready];
    pool->narrow -= worker->narrow;
    worker->ready = false;
    if (pool->nready == 0) {
        pool->no_worker_since = ctx_now(pool->ctx);
        arm(pool);
    }
}
