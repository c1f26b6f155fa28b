#include "frontd/supervisor/workers/worker_pool.h"

#include <string.h>

#include "common/alloc.h"
#include "common/log.h"

struct worker_pool *worker_pool_new(struct workers_ctx *ctx, const char *name)
{
    struct worker_pool *pool = mem_zalloc(sizeof(*pool));
    if (pool == NULL) {
        log_error("pool %s: no memory for its workers", name);
        return NULL;
    }
    pool->ctx = ctx;
    list_init(&pool->workers);
    CHECK(strlen(name) < sizeof(pool->name));
    memcpy(pool->name, name, strlen(name));
    list_append(&ctx->pools, &pool->node);
    return pool;
}

void worker_pool_free(struct worker_pool *pool)
{
    CHECK(list_empty(&pool->workers));
    list_remove(&pool->node);
    mem_free(pool);
}

static struct worker_process *worker_of(struct list *node)
{
    return container_of(node, struct worker_process, node);
}

static bool has_slot(const struct worker_pool *pool, uint32_t slot)
{
    list_for_each (node, &pool->workers) {
        if (worker_of(node)->name.slot == slot && worker_of(node)->state != WORKER_LEAVING)
            return true;
    }
    return false;
}

static void fill(struct worker_pool *pool)
{
    for (uint32_t slot = 0; slot < pool->conf->instances; slot++) {
        struct worker_process *worker;
        if (!has_slot(pool, slot) &&
            (worker = worker_process_new(pool, slot, WORKER_WAITING, NULL)) != NULL)
            worker_process_start(worker);
    }
}

/*
 * Starts a worker that waits, now. There is nothing to replace: its next start is what is wanted
 * anyway, and may do better than the last one.
 */
static void start_now(struct worker_process *worker)
{
    worker->failures = 0;
    uv_timer_stop(&worker->timer);
    worker_process_start(worker);
}

static void roll(struct worker_pool *pool)
{
    if (!pool->rolling || pool->conf == NULL || pool->ctx->stopping)
        return;
    list_for_each (node, &pool->workers) {
        if (worker_of(node)->old != NULL)
            return; /* one at a time */
    }
    list_for_each_safe (node, &pool->workers) {
        struct worker_process *worker = worker_of(node);
        if (worker->state == WORKER_LEAVING ||
            fingerprint_equal(&worker->fingerprint, &pool->wanted))
            continue;
        if (worker->pid < 0) {
            start_now(worker);
            continue;
        }
        struct worker_process *successor = worker_process_new(
            pool, worker->name.slot, WORKER_WAITING, worker);
        if (successor != NULL) {
            worker_process_start(successor);
            return;
        }
        break; /* no memory: at the next reload */
    }
    pool->rolling = false;
}

static void announce(const struct worker_pool *pool)
{
    list_for_each (node, &pool->workers) {
        if (worker_of(node)->pid > 0 &&
            !fingerprint_equal(&worker_of(node)->fingerprint, &pool->wanted)) {
            log_info("pool %s: its command or files have changed, replacing its workers one at a "
                     "time",
                pool->name);
            return;
        }
    }
}

static struct fingerprint take_fingerprint(const struct worker_pool *pool)
{
    char path[4096];
    const struct conf_pool *conf = pool->conf;
    bool found = spawn_find(conf->command[0], path, sizeof(path)) == 0;
    return fingerprint_take(
        found ? path : NULL, conf->command, conf->ncommand, pool->ctx->user.name);
}

void worker_pool_apply(struct worker_pool *pool, const struct conf_pool *conf, bool replace)
{
    pool->conf = conf;
    list_for_each_safe (node, &pool->workers) {
        struct worker_process *worker = worker_of(node);
        if (conf == NULL ? worker->pid < 0 : worker->name.slot >= conf->instances)
            worker_process_retire(worker);
    }
    if (conf == NULL)
        return;
    pool->wanted = take_fingerprint(pool);
    fill(pool);
    if (replace) {
        announce(pool);
        pool->rolling = true;
    }
    roll(pool);
}

void worker_pool_mend(struct worker_pool *pool)
{
    list_for_each_safe (node, &pool->workers) {
        struct worker_process *worker = worker_of(node);
        if (worker->state == WORKER_LEAVING || !worker_process_lost_socket(worker))
            continue;
        if (worker->pid < 0) {
            worker_process_drop_socket(worker); /* its next start makes another one */
            start_now(worker);
            continue;
        }
        if (worker_process_successor(worker) != NULL)
            continue;
        struct worker_process *old = worker;
        if (worker->old != NULL) { /* it was about to replace another one: it is of no use */
            old = worker->old;
            worker_process_retire(worker);
        }
        struct worker_process *successor = worker_process_new(
            pool, old->name.slot, WORKER_WAITING, old);
        if (successor != NULL)
            worker_process_start(successor);
    }
}

void worker_pool_retire(struct worker_pool *pool)
{
    list_for_each_safe (node, &pool->workers)
        worker_process_retire(worker_of(node));
}

void worker_pool_recycle(struct worker_pool *pool, struct worker_process *worker)
{
    struct worker_process *successor = worker_process_new(
        pool, worker->name.slot, WORKER_WAITING, worker);
    if (successor == NULL)
        return; /* at the next look */
    successor->recycles = true;
    worker_process_start(successor);
}

void worker_pool_recycle_failed(struct worker_pool *pool)
{
    if (pool->conf == NULL)
        return;
    uint64_t delay = worker_process_delay(pool->conf->restart_delay, ++pool->recycle_failures);
    pool->recycle_at = uv_now(pool->ctx->loop) + delay;
    log_error("pool %s: a new worker cannot take over, the one that is to be recycled stays: next "
              "try in %llu ms",
        pool->name, (unsigned long long)delay);
    roll(pool);
}

void worker_pool_settled(struct worker_pool *pool)
{
    pool->recycle_failures = 0;
    roll(pool);
}

void worker_pool_stop_rolling(struct worker_pool *pool)
{
    pool->rolling = false;
}

bool worker_pool_serves(const struct worker_pool *pool)
{
    uint32_t serving = 0;
    list_for_each (node, &pool->workers)
        serving += worker_of(node)->settled && worker_of(node)->old == NULL &&
                   worker_of(node)->state == WORKER_SERVING;
    return pool->conf != NULL && serving >= pool->conf->instances;
}
