/*
 * Where all workers take all calls there is one queue. Where they differ each has one of its own,
 * of which calls that others may have too are a part (struct share_waiting), and takes a time of
 * its own for a call; the worker with the shortest wait says how long that is. So it is rather said
 * to be less than more: what other workers have to do is not all that this one will get.
 */

#include "frontd/shard/upstream/forecast.h"

#include "frontd/ipc/shm_queues.h"
#include "frontd/shard/upstream/worker.h"

/* How long a job may still take, us. */
static uint64_t time_left(const struct job *job)
{
    uint64_t now = ctx_now(job->pool->ctx);
    return job->expires > now ? MIN(job->expires - now, (uint64_t)UINT32_MAX) * 1000 : 0;
}

/* Whether it is known how long such calls take. */
static bool is_known(const struct pool *pool, const struct service *service)
{
    return service_known(service, ctx_now(pool->ctx));
}

static uint64_t wait_for_any(const struct pool *pool, uint64_t flow)
{
    uint32_t own = queue_flow_count(&pool->queue, flow);
    uint64_t ahead = share_queue_ahead(pool->ctx->share, pool->row, own);
    return service_wait(&pool->service, ahead, pool->slots);
}

/* own: calls that its client has waiting. */
static uint64_t wait_for_one(const struct worker *worker, uint32_t own)
{
    uint64_t ahead = share_worker_ahead(worker->pool->ctx->share, worker->share, own);
    uint64_t slots = (uint64_t)SHARE_WAITING_ONE * worker_slots(worker);
    return service_wait(&worker->service, ahead, slots);
}

uint64_t forecast_wait(const struct pool *pool, uint64_t flow, const struct queue_set *set)
{
    if (pool->slots == 0 || pool->paused)
        return 0;
    if (!pool_is_selective(pool))
        return is_known(pool, &pool->service) ? wait_for_any(pool, flow) : 0;
    uint32_t own = queue_flow_count(&pool->queue, flow);
    uint64_t least = UINT64_MAX;
    for (uint32_t i = 0; i < pool->nready && least > 0; i++) {
        const struct worker *worker = pool->ready[i];
        if (queue_set_has(set, i))
            least = is_known(pool, &worker->service) ? MIN(least, wait_for_one(worker, own)) : 0;
    }
    return least == UINT64_MAX ? 0 : least;
}

/*
 * Whether each of the workers in the set would answer a job too late, with the wait for it or, when
 * its turn has come, without. Not where nothing is known of one.
 */
static bool all_are_late(const struct job *job, const struct queue_set *set, bool waits)
{
    const struct pool *pool = job->pool;
    uint32_t own = waits ? queue_flow_count(&pool->queue, job->flow) : 0;
    uint64_t left = time_left(job);
    bool late = false;
    for (uint32_t i = 0; i < pool->nready; i++) {
        const struct worker *worker = pool->ready[i];
        const struct service *service = &worker->service;
        if (!queue_set_has(set, i))
            continue;
        late = is_known(pool, service) &&
               (waits ? service_is_late(service, wait_for_one(worker, own), left)
                      : service_least(service) > left);
        if (!late)
            return false;
    }
    return late;
}

bool forecast_waits_too_long(const struct job *job, const struct queue_set *set)
{
    const struct pool *pool = job->pool;
    if (job->notify || pool->slots == 0 || pool->paused)
        return false;
    if (pool_is_selective(pool))
        return all_are_late(job, set, true);
    return is_known(pool, &pool->service) &&
           service_is_late(&pool->service, wait_for_any(pool, job->flow), time_left(job));
}

/* A notification has no answer, and a call whose request comes in parts gets more time with each.
 */
bool forecast_is_too_late(const struct job *job, const struct queue_set *set)
{
    const struct pool *pool = job->pool;
    if (job->notify || job->uploads)
        return false;
    if (pool_is_selective(pool))
        return all_are_late(job, set, false);
    return is_known(pool, &pool->service) && service_least(&pool->service) > time_left(job);
}
