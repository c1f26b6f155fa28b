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

static struct managed_pool *pool_of(struct list *node)
{
    return container_of(node, struct managed_pool, node);
}

static struct managed_worker *worker_of(struct list *node)
{
    return container_of(node, struct managed_worker, node);
}

static struct survivor *survivor_of(struct list *node)
{
    return container_of(node, struct survivor, node);
}

static struct remains *remains_of(struct list *node)
{
    return container_of(node, struct remains, node);
}

void managed_init(struct managed *managed, uv_loop_t *loop, const char *run_dir)
{
    *managed = (struct managed){.loop = loop};
    list_init(&managed->pools);
    list_init(&managed->survivors);
    list_init(&managed->remains);
    /* Longer than a socket's path may be, it stays empty: there are no managed pools then. */
    int n = snprintf(managed->dir, sizeof(managed->dir), "%.*s/" CONF_MANAGED_DIR,
        (int)sizeof(managed->dir), run_dir);
    if ((size_t)n >= sizeof(managed->dir))
        managed->dir[0] = '\0';
}

static struct managed_pool *find_pool(const struct managed *managed, const char *name)
{
    list_for_each (node, &managed->pools) {
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

static size_t list_processes(const struct managed *managed, struct managed_process *processes)
{
    size_t n = 0;
    list_for_each (node, &managed->pools) {
        list_for_each (each, &pool_of(node)->workers) {
            const struct managed_worker *worker = worker_of(each);
            if (worker->pid > 0 && n < PROCESSES_MAX)
                processes[n++] = (struct managed_process){
                    .pid = worker->pid, .birth = worker->birth, .name = worker->name};
        }
    }
    list_for_each (node, &managed->survivors) {
        if (n < PROCESSES_MAX)
            processes[n++] = survivor_of(node)->process;
    }
    list_for_each (node, &managed->remains) {
        if (n < PROCESSES_MAX)
            processes[n++] = remains_of(node)->process;
    }
    return n;
}

void managed_note_processes(struct managed *managed)
{
    struct managed_process *processes = mem_zalloc(PROCESSES_MAX * sizeof(*processes));
    int r = -ENOMEM;
    if (processes != NULL)
        r = managed_dir_write(managed->dir, processes, list_processes(managed, processes));
    if (r < 0)
        log_warning("%s/pids: cannot write it: %s", managed->dir, strerror(-r));
    mem_free(processes);
}

static bool has_survivor(const struct managed *managed, const struct managed_name *name)
{
    list_for_each (node, &managed->survivors) {
        const struct managed_name *other = &survivor_of(node)->process.name;
        if (strcmp(other->pool, name->pool) == 0 && other->slot == name->slot &&
            other->serial == name->serial)
            return true;
    }
    return false;
}

/* Of a worker that has ended: somebody may still hold it open, who will never serve there. */
static void remove_socket(const struct managed *managed, const struct managed_name *name)
{
    char path[MANAGED_PATH_MAX];
    managed_dir_path(managed->dir, name, path);
    unlink(path);
}

static void find_survivors(struct managed *managed)
{
    struct managed_process *processes = mem_zalloc(PROCESSES_MAX * sizeof(*processes));
    ssize_t n = processes == NULL ? -ENOMEM
                                  : managed_dir_read(managed->dir, processes, PROCESSES_MAX);
    if (n < 0)
        log_warning("%s/pids: cannot read it: %s", managed->dir, strerror((int)-n));
    for (ssize_t i = 0; i < n; i++)
        survivor_add(managed, &processes[i]);
    for (ssize_t i = 0; i < n; i++) {
        if (!has_survivor(managed, &processes[i].name))
            remove_socket(managed, &processes[i].name);
    }
    mem_free(processes);
    managed_dir_sweep(managed->dir);
    managed->found = true;
}

void managed_survivors_check(struct managed *managed)
{
    list_for_each_safe (node, &managed->survivors) {
        struct survivor *survivor = survivor_of(node);
        const struct managed_pool *pool = find_pool(managed, survivor->process.name.pool);
        if (pool != NULL && managed_pool_serves(pool))
            survivor_retire(survivor);
    }
}

int managed_prepare(
    const struct managed *managed, const struct conf *conf, char *error, size_t error_size)
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
    if (strncmp(conf->run_dir, managed->dir, n) != 0 ||
        strcmp(managed->dir + n, "/" CONF_MANAGED_DIR) != 0) {
        snprintf(error, error_size, "run_dir cannot change: workers that frontd runs are in %s",
            managed->dir);
        return -EINVAL;
    }
    r = managed_dir_make(managed->dir, &user);
    if (r < 0)
        snprintf(error, error_size, "%s: cannot use it for the sockets of workers: %s",
            managed->dir, strerror(-r));
    return r;
}

void managed_apply(struct managed *managed, const struct conf *conf, bool replace)
{
    int r = launch_user_find(conf->user, &managed->user);
    if (r < 0)
        log_error("user %s is not known any more: %s", conf->user, strerror(-r));
    managed->drain = conf->drain;
    if (!managed->found && managed->dir[0] != '\0')
        find_survivors(managed);
    list_for_each (node, &managed->pools) {
        struct managed_pool *pool = pool_of(node);
        managed_pool_apply(pool, find_conf(conf, pool->name), replace);
    }
    for (uint32_t i = 0; i < conf->npools; i++) {
        const struct conf_pool *each = &conf->pools[i];
        if (each->command == NULL || find_pool(managed, each->name) != NULL)
            continue;
        struct managed_pool *pool = managed_pool_new(managed, each->name);
        if (pool != NULL)
            managed_pool_apply(pool, each, replace);
    }
    managed_tidy(managed);
}

void managed_mend(struct managed *managed)
{
    list_for_each (node, &managed->pools) {
        if (pool_of(node)->conf != NULL)
            managed_pool_mend(pool_of(node));
    }
}

void managed_prune(struct managed *managed)
{
    list_for_each (node, &managed->pools) {
        if (pool_of(node)->conf == NULL)
            managed_pool_retire(pool_of(node));
    }
    list_for_each (node, &managed->survivors) {
        struct survivor *survivor = survivor_of(node);
        const struct managed_pool *pool = find_pool(managed, survivor->process.name.pool);
        if (pool == NULL || pool->conf == NULL)
            survivor_retire(survivor);
    }
    managed_tidy(managed);
}

bool managed_child_ended(struct managed *managed, pid_t pid, int status)
{
    list_for_each (node, &managed->pools) {
        list_for_each (each, &pool_of(node)->workers) {
            if (worker_of(each)->pid == pid) {
                managed_worker_ended(worker_of(each), status);
                managed_tidy(managed);
                return true;
            }
        }
    }
    return false;
}

static struct managed_worker *find_worker(const struct managed *managed, const char *file)
{
    struct managed_name name;
    if (!managed_dir_parse(file, &name))
        return NULL;
    const struct managed_pool *pool = find_pool(managed, name.pool);
    if (pool == NULL || pool->conf == NULL)
        return NULL;
    list_for_each (node, &pool->workers) {
        struct managed_worker *worker = worker_of(node);
        if (worker->name.slot == name.slot && worker->name.serial == name.serial &&
            worker->path[0] != '\0')
            return worker;
    }
    return NULL;
}

void managed_hung(struct managed *managed, const char *file, bool late)
{
    struct managed_worker *worker = find_worker(managed, file);
    if (worker != NULL)
        managed_worker_suspect(worker, late);
    else
        log_limited(&managed->odd, uv_now(managed->loop), LOG_WARNING,
            "a shard says that worker socket %s hangs, which there is not", file);
}

size_t managed_count(const struct managed *managed)
{
    size_t n = 0;
    list_for_each (node, &managed->pools) {
        list_for_each (each, &pool_of(node)->workers)
            n += worker_of(each)->pid > 0;
    }
    list_for_each (node, &managed->survivors)
        n++;
    list_for_each (node, &managed->remains)
        n++;
    return n;
}

void managed_tidy(struct managed *managed)
{
    list_for_each_safe (node, &managed->pools) {
        struct managed_pool *pool = pool_of(node);
        if (list_empty(&pool->workers) && pool->conf == NULL)
            managed_pool_free(pool);
    }
    if (managed->stopping && managed->gone != NULL && list_empty(&managed->pools) &&
        list_empty(&managed->survivors) && list_empty(&managed->remains)) {
        void (*gone)(void *data) = managed->gone;
        managed->gone = NULL;
        gone(managed->gone_data);
    }
}

void managed_stop(struct managed *managed, void (*gone)(void *data), void *data)
{
    managed->stopping = true;
    managed->gone = gone;
    managed->gone_data = data;
    list_for_each (node, &managed->pools) {
        pool_of(node)->conf = NULL;
        managed_pool_retire(pool_of(node));
    }
    list_for_each (node, &managed->survivors)
        survivor_retire(survivor_of(node));
    managed_tidy(managed);
}

void managed_kill(struct managed *managed)
{
    list_for_each (node, &managed->pools) {
        list_for_each (each, &pool_of(node)->workers)
            managed_worker_kill(worker_of(each));
    }
    list_for_each (node, &managed->survivors)
        survivor_kill(survivor_of(node));
    list_for_each (node, &managed->remains)
        remains_kill(remains_of(node));
}

void managed_close(struct managed *managed)
{
    list_for_each_safe (node, &managed->pools) {
        struct managed_pool *pool = pool_of(node);
        list_for_each_safe (each, &pool->workers)
            managed_worker_destroy(worker_of(each));
        managed_pool_free(pool);
    }
    list_for_each_safe (node, &managed->survivors)
        survivor_destroy(survivor_of(node));
    list_for_each_safe (node, &managed->remains)
        remains_destroy(remains_of(node));
    managed->gone = NULL;
}
