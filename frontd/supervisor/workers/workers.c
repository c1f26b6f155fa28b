#include "frontd/supervisor/workers/workers.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/workers/remains.h"
#include "frontd/supervisor/workers/survivors.h"
#include "frontd/supervisor/workers/worker_pool.h"

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

void workers_init(struct workers *workers, uv_loop_t *loop, const char *run_dir)
{
    *workers = (struct workers){.loop = loop};
    list_init(&workers->pools);
    list_init(&workers->survivors);
    list_init(&workers->remains);
    /* Longer than a socket's path may be, it stays empty: there are no managed pools then. */
    int n = snprintf(workers->dir, sizeof(workers->dir), "%.*s/" CONF_MANAGED_DIR,
        (int)sizeof(workers->dir), run_dir);
    if ((size_t)n >= sizeof(workers->dir))
        workers->dir[0] = '\0';
}

static struct worker_pool *find_pool(const struct workers *workers, const char *name)
{
    list_for_each (node, &workers->pools) {
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
    list_for_each (node, &workers->pools) {
        list_for_each (each, &pool_of(node)->workers) {
            const struct worker_process *worker = worker_of(each);
            if (worker->pid > 0 && n < PROCESSES_MAX)
                processes[n++] = (struct worker_dir_process){
                    .pid = worker->pid, .birth = worker->birth, .name = worker->name};
        }
    }
    list_for_each (node, &workers->survivors) {
        if (n < PROCESSES_MAX)
            processes[n++] = survivor_of(node)->process;
    }
    list_for_each (node, &workers->remains) {
        if (n < PROCESSES_MAX)
            processes[n++] = remains_of(node)->process;
    }
    return n;
}

void workers_note_processes(struct workers *workers)
{
    struct worker_dir_process *processes = mem_zalloc(PROCESSES_MAX * sizeof(*processes));
    int r = -ENOMEM;
    if (processes != NULL)
        r = worker_dir_write(workers->dir, processes, list_processes(workers, processes));
    if (r < 0)
        log_warning("%s/pids: cannot write it: %s", workers->dir, strerror(-r));
    mem_free(processes);
}

static bool has_survivor(const struct workers *workers, const struct worker_name *name)
{
    list_for_each (node, &workers->survivors) {
        const struct worker_name *other = &survivor_of(node)->process.name;
        if (strcmp(other->pool, name->pool) == 0 && other->slot == name->slot &&
            other->serial == name->serial)
            return true;
    }
    return false;
}

/* Of a worker that has ended: somebody may still hold it open, who will never serve there. */
static void remove_socket(const struct workers *workers, const struct worker_name *name)
{
    char path[WORKER_PATH_MAX];
    worker_dir_path(workers->dir, name, path);
    unlink(path);
}

static void find_survivors(struct workers *workers)
{
    struct worker_dir_process *processes = mem_zalloc(PROCESSES_MAX * sizeof(*processes));
    ssize_t n = processes == NULL ? -ENOMEM
                                  : worker_dir_read(workers->dir, processes, PROCESSES_MAX);
    if (n < 0)
        log_warning("%s/pids: cannot read it: %s", workers->dir, strerror((int)-n));
    for (ssize_t i = 0; i < n; i++)
        survivor_add(workers, &processes[i]);
    for (ssize_t i = 0; i < n; i++) {
        if (!has_survivor(workers, &processes[i].name))
            remove_socket(workers, &processes[i].name);
    }
    mem_free(processes);
    worker_dir_sweep(workers->dir);
    workers->found = true;
}

void workers_survivors_check(struct workers *workers)
{
    list_for_each_safe (node, &workers->survivors) {
        struct survivor *survivor = survivor_of(node);
        const struct worker_pool *pool = find_pool(workers, survivor->process.name.pool);
        if (pool != NULL && worker_pool_serves(pool))
            survivor_retire(survivor);
    }
}

int workers_prepare(
    const struct workers *workers, const struct conf *conf, char *error, size_t error_size)
{
    struct launch_user user;
    size_t n = strlen(conf->run_dir);
    int r = launch_user_find(conf->user, &user);
    if (r < 0) {
        snprintf(error, error_size, "user %s: %s", conf->user, strerror(-r));
        return r;
    }
    if (!has_managed(conf))
        return 0;
    /* Shards look for the sockets where the config says. */
    if (strncmp(conf->run_dir, workers->dir, n) != 0 ||
        strcmp(workers->dir + n, "/" CONF_MANAGED_DIR) != 0) {
        snprintf(error, error_size, "run_dir cannot change: workers that frontd runs are in %s",
            workers->dir);
        return -EINVAL;
    }
    r = worker_dir_make(workers->dir, &user);
    if (r < 0)
        snprintf(error, error_size, "%s: cannot use it for the sockets of workers: %s",
            workers->dir, strerror(-r));
    return r;
}

void workers_apply(struct workers *workers, const struct conf *conf, bool replace)
{
    int r = launch_user_find(conf->user, &workers->user);
    if (r < 0)
        log_error("user %s is not known any more: %s", conf->user, strerror(-r));
    workers->drain = conf->drain;
    if (!workers->found && workers->dir[0] != '\0')
        find_survivors(workers);
    list_for_each (node, &workers->pools) {
        struct worker_pool *pool = pool_of(node);
        worker_pool_apply(pool, find_conf(conf, pool->name), replace);
    }
    for (uint32_t i = 0; i < conf->npools; i++) {
        const struct conf_pool *each = &conf->pools[i];
        if (each->command == NULL || find_pool(workers, each->name) != NULL)
            continue;
        struct worker_pool *pool = worker_pool_new(workers, each->name);
        if (pool != NULL)
            worker_pool_apply(pool, each, replace);
    }
    workers_tidy(workers);
}

void workers_mend(struct workers *workers)
{
    list_for_each (node, &workers->pools) {
        if (pool_of(node)->conf != NULL)
            worker_pool_mend(pool_of(node));
    }
}

void workers_prune(struct workers *workers)
{
    list_for_each (node, &workers->pools) {
        if (pool_of(node)->conf == NULL)
            worker_pool_retire(pool_of(node));
    }
    list_for_each (node, &workers->survivors) {
        struct survivor *survivor = survivor_of(node);
        const struct worker_pool *pool = find_pool(workers, survivor->process.name.pool);
        if (pool == NULL || pool->conf == NULL)
            survivor_retire(survivor);
    }
    workers_tidy(workers);
}

bool workers_child_ended(struct workers *workers, pid_t pid, int status)
{
    list_for_each (node, &workers->pools) {
        list_for_each (each, &pool_of(node)->workers) {
            if (worker_of(each)->pid == pid) {
                worker_process_ended(worker_of(each), status);
                workers_tidy(workers);
                return true;
            }
        }
    }
    return false;
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
        log_limited(&workers->odd, uv_now(workers->loop), LOG_WARNING,
            "a shard says that worker socket %s hangs, which there is not", file);
}

size_t workers_count(const struct workers *workers)
{
    size_t n = 0;
    list_for_each (node, &workers->pools) {
        list_for_each (each, &pool_of(node)->workers)
            n += worker_of(each)->pid > 0;
    }
    list_for_each (node, &workers->survivors)
        n++;
    list_for_each (node, &workers->remains)
        n++;
    return n;
}

void workers_tidy(struct workers *workers)
{
    list_for_each_safe (node, &workers->pools) {
        struct worker_pool *pool = pool_of(node);
        if (list_empty(&pool->workers) && pool->conf == NULL)
            worker_pool_free(pool);
    }
    if (workers->stopping && workers->gone != NULL && list_empty(&workers->pools) &&
        list_empty(&workers->survivors) && list_empty(&workers->remains)) {
        void (*gone)(void *data) = workers->gone;
        workers->gone = NULL;
        gone(workers->gone_data);
    }
}

void workers_stop(struct workers *workers, void (*gone)(void *data), void *data)
{
    workers->stopping = true;
    workers->gone = gone;
    workers->gone_data = data;
    list_for_each (node, &workers->pools) {
        pool_of(node)->conf = NULL;
        worker_pool_retire(pool_of(node));
    }
    list_for_each (node, &workers->survivors)
        survivor_retire(survivor_of(node));
    workers_tidy(workers);
}

void workers_kill(struct workers *workers)
{
    list_for_each (node, &workers->pools) {
        list_for_each (each, &pool_of(node)->workers)
            worker_process_kill(worker_of(each));
    }
    list_for_each (node, &workers->survivors)
        survivor_kill(survivor_of(node));
    list_for_each (node, &workers->remains)
        remains_kill(remains_of(node));
}

void workers_close(struct workers *workers)
{
    list_for_each_safe (node, &workers->pools) {
        struct worker_pool *pool = pool_of(node);
        list_for_each_safe (each, &pool->workers)
            worker_process_destroy(worker_of(each));
        worker_pool_free(pool);
    }
    list_for_each_safe (node, &workers->survivors)
        survivor_destroy(survivor_of(node));
    list_for_each_safe (node, &workers->remains)
        remains_destroy(remains_of(node));
    workers->gone = NULL;
}
