/*
 * recycle_look() adds up the calls that shards have counted, and gives the first worker that is due
 * to worker_pool_recycle(). Its successor serves, and the worker is retired: it leaves, and while
 * it does no other one is looked at. A successor that fails: worker_pool_recycle_failed().
 */

#include "frontd/supervisor/workers/recycle.h"

#include "common/log.h"
#include "common/siphash.h"
#include "frontd/ipc/shm_workers.h"
#include "frontd/system/process.h"

static struct worker_process *worker_of(struct list *node)
{
    return container_of(node, struct worker_process, node);
}

uint64_t recycle_age(uint64_t max_age, uint64_t chance)
{
    return max_age - chance % (max_age / 5 + 1);
}

bool recycle_is_due(
    const struct conf_pool *conf, const struct recycle_use *use, enum metric_recycle *ret_reason)
{
    if (conf->max_memory != 0 && use->memory >= conf->max_memory)
        *ret_reason = METRIC_RECYCLE_MEMORY;
    else if (conf->max_calls != 0 && use->calls >= conf->max_calls)
        *ret_reason = METRIC_RECYCLE_CALLS;
    else if (conf->max_age != 0 && use->age >= recycle_age(conf->max_age, use->chance))
        *ret_reason = METRIC_RECYCLE_AGE;
    else
        return false;
    return true;
}

/* What it is judged by has to be the same in the next program, so it is made of what that knows. */
static uint64_t chance_of(const struct worker_process *worker)
{
    static const struct hash_key key = {0x66726f6e74640000ULL, 0x72656379636c6500ULL};
    const uint64_t words[] = {
        worker->name.slot, worker->name.serial, worker->birth, (uint64_t)worker->pid};
    return hash_bytes(&key, words, sizeof(words));
}

/*
 * Adds what a worker was given since the last look. Shards count anew when all of them have lost
 * its channel, and in a memory of another layout: there are fewer calls then than before.
 */
static void count_calls(struct worker_process *worker, const struct share *share)
{
    char address[sizeof("unix:") + WORKER_PATH_MAX];
    struct share_worker_view view;
    uint64_t sum = 0;
    snprintf(address, sizeof(address), "unix:%s", worker->path);
    for (int at = 0; share_worker_next(share, address, &at, &view);)
        sum += view.calls;
    worker->calls += sum < worker->counted ? sum : sum - worker->counted;
    worker->counted = sum;
}

/* Bytes that are resident; 0: it is not known, which the log says once. */
static uint64_t memory_of(struct worker_pool *pool, const struct worker_process *worker)
{
    struct process_stat stat;
    char name[OUTPUT_NAME_MAX];
    if (process_stat(worker->pid, &stat))
        return stat.memory;
    if (!pool->blind) {
        worker_process_describe(worker, name);
        log_warning("%s: /proc does not show its memory: max_memory of its pool does nothing for "
                    "workers that are not shown there",
            name);
    }
    pool->blind = true;
    return 0;
}

static void log_due(
    const struct worker_process *worker, const struct recycle_use *use, enum metric_recycle reason)
{
    char name[OUTPUT_NAME_MAX];
    const struct conf_pool *conf = worker->pool->conf;
    worker_process_describe(worker, name);
    switch (reason) {
    case METRIC_RECYCLE_CALLS:
        log_info("%s is to be recycled: calls: it has had %llu, max_calls is %llu", name,
            (unsigned long long)use->calls, (unsigned long long)conf->max_calls);
        break;
    case METRIC_RECYCLE_AGE:
        log_info("%s is to be recycled: age: it has served for %.1f s, max_age is %.1f s", name,
            (double)use->age / 1000, (double)conf->max_age / 1000);
        break;
    default:
        log_info("%s is to be recycled: memory: it has %llu KiB, max_memory is %llu KiB", name,
            (unsigned long long)use->memory / 1024, (unsigned long long)conf->max_memory / 1024);
    }
}

/* Whether a worker is replaced, or leaves: then no other one's turn is now. */
static bool is_busy(const struct worker_pool *pool)
{
    list_for_each (node, &pool->workers) {
        if (worker_of(node)->old != NULL || worker_of(node)->state == WORKER_LEAVING)
            return true;
    }
    return pool->rolling || uv_now(pool->ctx->loop) < pool->recycle_at;
}

static bool begin(struct worker_process *worker, struct share *share)
{
    struct worker_pool *pool = worker->pool;
    struct recycle_use use = {
        .calls = worker->calls,
        .age = uv_now(pool->ctx->loop) - worker->served,
        .memory = pool->conf->max_memory == 0 ? 0 : memory_of(pool, worker),
        .chance = chance_of(worker),
    };
    enum metric_recycle reason;
    if (!recycle_is_due(pool->conf, &use, &reason))
        return false;
    log_due(worker, &use, reason);
    if (share != NULL)
        share_count(&share_front(share, SHARE_SEAT_SUPERVISOR)->recycled[reason], 1);
    worker_pool_recycle(pool, worker);
    return true;
}

void recycle_look(struct worker_pool *pool, struct share *share)
{
    const struct conf_pool *conf = pool->conf;
    if (conf == NULL || pool->ctx->stopping ||
        (conf->max_calls == 0 && conf->max_age == 0 && conf->max_memory == 0))
        return;
    list_for_each (node, &pool->workers) {
        struct worker_process *worker = worker_of(node);
        if (share != NULL && conf->max_calls != 0 && worker->pid > 0 && worker->path[0] != '\0')
            count_calls(worker, share);
    }
    if (is_busy(pool))
        return;
    list_for_each (node, &pool->workers) {
        struct worker_process *worker = worker_of(node);
        if (worker->state == WORKER_SERVING && worker->settled && !worker->suspected &&
            begin(worker, share))
            return;
    }
}
