#include "frontd/supervisor/workers/workers.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/workers/recycle.h"
#include "frontd/supervisor/workers/remains.h"
#include "frontd/supervisor/workers/survivors.h"
#include "frontd/supervisor/workers/worker_pool.h"
#include "frontd/system/process.h"

enum {
    /* Workers, those that each of them replaces, and as many that take their time to leave. */
    PROCESSES_MAX = 4 * CONF_MANAGED_MAX,
};

static struct worker_pool *pool_of(struct list *node)
{
    return container_of(node, struct worker_pool, node);
}

static struct worker_process *worker_of(struct list *node)
{
    return container_of(node, struct worker_process, node);
}

static struct survivor *survivor_of(struct list *node)
{
    return container_of(node, struct survivor, node);
}

static struct remains *remains_of(struct list *node)
{
    return container_of(node, struct remains, node);
}

static struct worker_pool *find_pool(const struct workers *workers, const char *name)
{
    list_for_each (node, &workers->ctx.pools) {
        if (strcmp(pool_of(node)->name, name) == 0)
            return pool_of(node);
    }
    return NULL;
}

/* The pool of that name in a config, if it has a command. */
static const struct conf_pool *find_conf(const struct conf *conf, const char *name)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (conf->pools[i].command != NULL && strcmp(conf->pools[i].name, name) == 0)
            return &conf->pools[i];
    }
    return NULL;
}

static bool has_managed(const struct conf *conf)
{
    for (uint32_t i = 0; i < conf->npools; i++) {
        if (conf->pools[i].command != NULL)
            return true;
    }
    return false;
}

static size_t list_processes(const struct workers *workers, struct worker_dir_process *processes)
{
    size_t n = 0;
    list_for_each (node, &workers->ctx.pools) {
        list_for_each (each, &pool_of(node)->workers) {
            const struct worker_process *worker = worker_of(each);
            if (worker->pid > 0 && n < PROCESSES_MAX)
                processes[n++] = (struct worker_dir_process){
                    .pid = worker->pid, .birth = worker->birth, .name = worker->name};
        }
    }
    list_for_each (node, &workers->ctx.survivors) {
        if (n < PROCESSES_MAX)
            processes[n++] = survivor_of(node)->process;
    }
    list_for_each (node, &workers->ctx.remains) {
        if (n < PROCESSES_MAX)
            processes[n++] = remains_of(node)->process;
    }
    return n;
}

/* Writes run_dir/workers/pids. */
static void write_pids(struct workers *workers)
{
    struct worker_dir_process *processes = mem_zalloc(PROCESSES_MAX * sizeof(*processes));
    int r = -ENOMEM;
    if (processes != NULL)
        r = worker_dir_write(workers->ctx.dir, processes, list_processes(workers, processes));
    if (r < 0)
        log_warning("%s/pids: cannot write it: %s", workers->ctx.dir, strerror(-r));
    mem_free(processes);
}

static bool has_survivor(const struct workers *workers, const struct worker_name *name)
{
    list_for_each (node, &workers->ctx.survivors) {
        const struct worker_name *other = &survivor_of(node)->process.name;
        if (strcmp(other->pool, name->pool) == 0 && other->slot == name->slot &&
            other->serial == name->serial)
            return true;
    }
    return false;
}

/*
 * Removes the socket of a worker that has ended: a process that holds it open will never serve
 * there.
 */
static void remove_socket(const struct workers *workers, const struct worker_name *name)
{
    char path[WORKER_PATH_MAX];
    worker_dir_path(workers->ctx.dir, name, path);
    unlink(path);
}

static void find_survivors(struct workers *workers)
{
    struct worker_dir_process *processes = mem_zalloc(PROCESSES_MAX * sizeof(*processes));
    ssize_t n = processes == NULL ? -ENOMEM
                                  : worker_dir_read(workers->ctx.dir, processes, PROCESSES_MAX);
    if (n < 0)
        log_warning("%s/pids: cannot read it: %s", workers->ctx.dir, strerror((int)-n));
    for (ssize_t i = 0; i < n; i++)
        survivor_add(&workers->ctx, &processes[i]);
    for (ssize_t i = 0; i < n; i++) {
        if (!has_survivor(workers, &processes[i].name))
            remove_socket(workers, &processes[i].name);
    }
    mem_free(processes);
    worker_dir_sweep(workers->ctx.dir);
    workers->found = true;
}

/* Retires survivors of a pool that has workers of ours in each slot. */
static void retire_replaced_survivors(struct workers *workers)
{
    list_for_each_safe (node, &workers->ctx.survivors) {
        struct survivor *survivor = survivor_of(node);
        const struct worker_pool *pool = find_pool(workers, survivor->process.name.pool);
        if (pool != NULL && worker_pool_serves(pool))
            survivor_retire(survivor);
    }
}

/* Frees pools that are of no use any more; tells when no worker is left after workers_stop(). */
static void tidy(struct workers *workers)
{
    list_for_each_safe (node, &workers->ctx.pools) {
        struct worker_pool *pool = pool_of(node);
        if (list_empty(&pool->workers) && pool->conf == NULL)
            worker_pool_free(pool);
    }
    if (workers->ctx.stopping && workers->gone != NULL && list_empty(&workers->ctx.pools) &&
        list_empty(&workers->ctx.survivors) && list_empty(&workers->ctx.remains)) {
        void (*gone)(void *data) = workers->gone;
        workers->gone = NULL;
        gone(workers->gone_data);
    }
}

static struct workers *workers_of(struct workers_ctx *ctx)
{
    return container_of(ctx, struct workers, ctx);
}

static void on_processes_changed(struct workers_ctx *ctx)
{
    write_pids(workers_of(ctx));
    tidy(workers_of(ctx));
}

static void on_worker_settled(struct workers_ctx *ctx, struct worker_pool *pool)
{
    retire_replaced_survivors(workers_of(ctx));
    worker_pool_settled(pool);
}

static const struct workers_ops ops = {
    .changed = on_processes_changed, .settled = on_worker_settled};

void workers_init(struct workers *workers, uv_loop_t *loop, const char *run_dir)
{
    *workers = (struct workers){.ctx = {.ops = &ops, .loop = loop}};
    list_init(&workers->ctx.pools);
    list_init(&workers->ctx.survivors);
    list_init(&workers->ctx.remains);
    /* Longer than a socket's path may be, it stays empty: there are no managed pools then. */
    int n = snprintf(workers->ctx.dir, sizeof(workers->ctx.dir), "%.*s/" CONF_MANAGED_DIR,
        (int)sizeof(workers->ctx.dir), run_dir);
    if ((size_t)n >= sizeof(workers->ctx.dir))
        workers->ctx.dir[0] = '\0';
}

int workers_prepare(
    const struct workers *workers, const struct conf *conf, char *error, size_t error_size)
{
    struct spawn_user user;
    size_t n = strlen(conf->run_dir);
    int r = spawn_user_find(conf->user, &user);
    if (r < 0) {
        snprintf(error, error_size, "user %s: %s", conf->user, strerror(-r));
        return r;
    }
    if (!has_managed(conf))
        return 0;
    /* Shards look for the sockets where the config says. */
    if (strncmp(conf->run_dir, workers->ctx.dir, n) != 0 ||
        strcmp(workers->ctx.dir + n, "/" CONF_MANAGED_DIR) != 0) {
        snprintf(error, error_size, "run_dir cannot change: workers that frontd runs are in %s",
            workers->ctx.dir);
        return -EINVAL;
    }
    r = worker_dir_make(workers->ctx.dir, &user);
    if (r < 0)
        snprintf(error, error_size, "%s: cannot use it for the sockets of workers: %s",
            workers->ctx.dir, strerror(-r));
    return r;
}

void workers_apply(struct workers *workers, const struct conf *conf, bool replace)
{
    int r = spawn_user_find(conf->user, &workers->ctx.user);
    if (r < 0)
        log_error("user %s is not known any more: %s", conf->user, strerror(-r));
    workers->ctx.drain = conf->drain;
    if (!workers->found && workers->ctx.dir[0] != '\0')
        find_survivors(workers);
    list_for_each (node, &workers->ctx.pools) {
        struct worker_pool *pool = pool_of(node);
        worker_pool_apply(pool, find_conf(conf, pool->name), replace);
    }
    for (uint32_t i = 0; i < conf->npools; i++) {
        const struct conf_pool *each = &conf->pools[i];
        if (each->command == NULL || find_pool(workers, each->name) != NULL)
            continue;
        struct worker_pool *pool = worker_pool_new(&workers->ctx, each->name);
        if (pool != NULL)
            worker_pool_apply(pool, each, replace);
    }
    tidy(workers);
}

void workers_mend(struct workers *workers)
{
    list_for_each (node, &workers->ctx.pools) {
        if (pool_of(node)->conf != NULL)
            worker_pool_mend(pool_of(node));
    }
}

void workers_prune(struct workers *workers)
{
    list_for_each (node, &workers->ctx.pools) {
        if (pool_of(node)->conf == NULL)
            worker_pool_retire(pool_of(node));
    }
    list_for_each (node, &workers->ctx.survivors) {
        struct survivor *survivor = survivor_of(node);
        const struct worker_pool *pool = find_pool(workers, survivor->process.name.pool);
        if (pool == NULL || pool->conf == NULL)
            survivor_retire(survivor);
    }
    tidy(workers);
}

bool workers_process_ended(struct workers *workers, pid_t pid, int status)
{
    list_for_each (node, &workers->ctx.pools) {
        list_for_each (each, &pool_of(node)->workers) {
            if (worker_of(each)->pid == pid) {
                worker_process_ended(worker_of(each), status);
                return true;
            }
        }
    }
    return false;
}

static struct worker_process *first_lost(const struct workers *workers)
{
    list_for_each (node, &workers->ctx.pools) {
        list_for_each (each, &pool_of(node)->workers) {
            struct worker_process *worker = worker_of(each);
            if (worker->pid > 0 && !process_is_child(worker->pid))
                return worker;
        }
    }
    return NULL;
}

void workers_find_lost(struct workers *workers)
{
    struct worker_process *worker;
    while ((worker = first_lost(workers)) != NULL)
        worker_process_ended(worker, -1);
}

static struct worker_process *find_worker(const struct workers *workers, const char *file)
{
    struct worker_name name;
    if (!worker_dir_parse(file, &name))
        return NULL;
    const struct worker_pool *pool = find_pool(workers, name.pool);
    if (pool == NULL || pool->conf == NULL)
        return NULL;
    list_for_each (node, &pool->workers) {
        struct worker_process *worker = worker_of(node);
        if (worker->name.slot == name.slot && worker->name.serial == name.serial &&
            worker->path[0] != '\0')
            return worker;
    }
    return NULL;
}

void workers_hung(struct workers *workers, const char *file, bool late)
{
    struct worker_process *worker = find_worker(workers, file);
    if (worker != NULL)
        worker_process_suspect(worker, late);
    else
        log_limited(&workers->odd, uv_now(workers->ctx.loop), LOG_WARNING,
            "a shard says that worker socket %s hangs, which there is not", file);
}

void workers_look(struct workers *workers, struct share *share)
{
    list_for_each (node, &workers->ctx.pools)
        recycle_look(pool_of(node), share);
}

size_t workers_count(const struct workers *workers)
{
    size_t n = 0;
    list_for_each (node, &workers->ctx.pools) {
        list_for_each (each, &pool_of(node)->workers)
            n += worker_of(each)->pid > 0;
    }
    list_for_each (node, &workers->ctx.survivors)
        n++;
    list_for_each (node, &workers->ctx.remains)
        n++;
    return n;
}

void workers_stop(struct workers *workers, void (*gone)(void *data), void *data)
{
    workers->ctx.stopping = true;
    workers->gone = gone;
    workers->gone_data = data;
    list_for_each (node, &workers->ctx.pools) {
        pool_of(node)->conf = NULL;
        worker_pool_retire(pool_of(node));
    }
    list_for_each (node, &workers->ctx.survivors)
        survivor_retire(survivor_of(node));
    tidy(workers);
}

void workers_kill(struct workers *workers)
{
    list_for_each (node, &workers->ctx.pools) {
        list_for_each (each, &pool_of(node)->workers)
            worker_process_kill(worker_of(each));
    }
    list_for_each (node, &workers->ctx.survivors)
        survivor_kill(survivor_of(node));
    list_for_each (node, &workers->ctx.remains)
        remains_kill(remains_of(node));
}

void workers_close(struct workers *workers)
{
    list_for_each_safe (node, &workers->ctx.pools) {
        struct worker_pool *pool = pool_of(node);
        list_for_each_safe (each, &pool->workers)
            worker_process_destroy(worker_of(each));
        worker_pool_free(pool);
    }
    list_for_each_safe (node, &workers->ctx.survivors)
        survivor_destroy(survivor_of(node));
    list_for_each_safe (node, &workers->ctx.remains)
        remains_destroy(remains_of(node));
    workers->gone = NULL;
}
