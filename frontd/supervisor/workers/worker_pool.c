#include "frontd/supervisor/workers/worker_pool.h"

#include <string.h>

#include "common/alloc.h"
#include "common/log.h"

struct managed_pool *managed_pool_new(struct managed *managed, const char *name)
{
    struct managed_pool *pool = mem_zalloc(sizeof(*pool));
    if (pool == NULL) {
        log_error("pool %s: no memory for its workers", name);
        return NULL;
    }
    pool->managed = managed;
    list_init(&pool->workers);
    CHECK(strlen(name) < sizeof(pool->name));
    memcpy(pool->name, name, strlen(name));
    list_append(&managed->pools, &pool->node);
    return pool;
}

void managed_pool_free(struct managed_pool *pool)
{
    CHECK(list_empty(&pool->workers));
    list_remove(&pool->node);
    mem_free(pool);
}

static struct managed_worker *worker_of(struct list *node)
{
    return container_of(node, struct managed_worker, node);
}

static bool has_slot(const struct managed_pool *pool, uint32_t slot)
{
    list_for_each (node, &pool->workers) {
        if (worker_of(node)->name.slot == slot && worker_of(node)->state != MANAGED_LEAVING)
            return true;
    }
    return false;
}

static void fill(struct managed_pool *pool)
{
    for (uint32_t slot = 0; slot < pool->conf->instances; slot++) {
        struct managed_worker *worker;
        if (!has_slot(pool, slot) && (worker = managed_worker_new(pool, slot, NULL)) != NULL)
            managed_worker_start(worker);
    }
}

/* Without a process there is nothing to replace: the next start is what is wanted anyway, and may
 * do better than the last one. */
static void start_now(struct managed_worker *worker)
{
    worker->failures = 0;
    uv_timer_stop(&worker->timer);
    managed_worker_start(worker);
}

static void roll(struct managed_pool *pool)
{
    if (!pool->rolling || pool->conf == NULL || pool->managed->stopping)
        return;
    list_for_each (node, &pool->workers) {
        if (worker_of(node)->old != NULL)
            return; /* one at a time */
    }
    list_for_each_safe (node, &pool->workers) {
        struct managed_worker *worker = worker_of(node);
        if (worker->state == MANAGED_LEAVING || stamp_equal(&worker->stamp, &pool->wanted))
            continue;
        if (worker->pid < 0) {
            start_now(worker);
            continue;
        }
        struct managed_worker *successor = managed_worker_new(pool, worker->name.slot, worker);
        if (successor != NULL) {
            managed_worker_start(successor);
            return;
        }
        break; /* no memory: at the next reload */
    }
    pool->rolling = false;
}

static void announce(const struct managed_pool *pool)
{
    list_for_each (node, &pool->workers) {
        if (worker_of(node)->pid > 0 && !stamp_equal(&worker_of(node)->stamp, &pool->wanted)) {
            log_info("pool %s: its command or files have changed, replacing its workers one at a "
                     "time",
                pool->name);
            return;
        }
    }
}

static struct stamp take_stamp(const struct managed_pool *pool)
{
    char path[4096];
    const struct conf_pool *conf = pool->conf;
    bool found = launch_find(conf->command[0], path, sizeof(path)) == 0;
    return stamp_take(found ? path : NULL, conf->command, conf->ncommand, pool->managed->user.name);
}

void managed_pool_apply(struct managed_pool *pool, const struct conf_pool *conf, bool replace)
{
    pool->conf = conf;
    list_for_each_safe (node, &pool->workers) {
        struct managed_worker *worker = worker_of(node);
        if (conf == NULL ? worker->pid < 0 : worker->name.slot >= conf->instances)
            managed_worker_retire(worker);
    }
    if (conf == NULL)
        return;
    pool->wanted = take_stamp(pool);
    fill(pool);
    if (replace) {
        announce(pool);
        pool->rolling = true;
    }
    roll(pool);
}

void managed_pool_mend(struct managed_pool *pool)
{
    list_for_each_safe (node, &pool->workers) {
        struct managed_worker *worker = worker_of(node);
        if (worker->state == MANAGED_LEAVING || !managed_worker_lost_socket(worker))
            continue;
        if (worker->pid < 0) {
            managed_worker_drop_socket(worker); /* its next start makes another one */
            start_now(worker);
            continue;
        }
        if (managed_worker_successor(worker) != NULL)
            continue;
        struct managed_worker *old = worker;
        if (worker->old != NULL) { /* it was about to replace another one: it is of no use */
            old = worker->old;
            managed_worker_retire(worker);
        }
        struct managed_worker *successor = managed_worker_new(pool, old->name.slot, old);
        if (successor != NULL)
            managed_worker_start(successor);
    }
}

void managed_pool_retire(struct managed_pool *pool)
{
    list_for_each_safe (node, &pool->workers)
        managed_worker_retire(worker_of(node));
}

void managed_pool_settled(struct managed_pool *pool)
{
    managed_survivors_check(pool->managed);
    roll(pool);
}

void managed_pool_stop_rolling(struct managed_pool *pool)
{
    pool->rolling = false;
}

bool managed_pool_serves(const struct managed_pool *pool)
{
    uint32_t serving = 0;
    list_for_each (node, &pool->workers)
        serving += worker_of(node)->settled && worker_of(node)->old == NULL &&
                   worker_of(node)->state == MANAGED_SERVING;
    return pool->conf != NULL && serving >= pool->conf->instances;
}
