#include "frontd/supervisor/methods/worker_list.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>

#include "common/alloc.h"
#include "frontd/ipc/shm_health.h"
#include "frontd/supervisor/workers/worker_pool.h"

/* The addresses of one pool. */
struct addresses {
    char **all;
    size_t n;
    size_t room;
};

static void drop(struct addresses *addresses)
{
    for (size_t i = 0; i < addresses->n; i++)
        mem_free(addresses->all[i]);
    mem_free(addresses->all);
}

/* Adds an address that is not there yet. Returns 0 or -ENOMEM. */
static int add(struct addresses *addresses, const char *address)
{
    for (size_t i = 0; i < addresses->n; i++) {
        if (strcmp(addresses->all[i], address) == 0)
            return 0;
    }
    if (addresses->n == WORKER_LIST_MAX)
        return 0;
    if (addresses->n == addresses->room) {
        size_t room = MAX(2 * addresses->room, (size_t)16);
        char **all = mem_widen(addresses->all, addresses->n, room, sizeof(*all));
        if (all == NULL)
            return -ENOMEM;
        addresses->all = all;
        addresses->room = room;
    }
    addresses->all[addresses->n] = mem_strdup(address);
    return addresses->all[addresses->n] == NULL ? -ENOMEM : (int)(addresses->n++, 0);
}

/* Adds the sockets in a folder that fit; a folder that cannot be read has none. */
static int add_files(struct addresses *addresses, const char *folder, const char *pattern)
{
    char address[sizeof("unix:") + 2 * NAME_MAX];
    struct stat st;
    DIR *dir = opendir(folder);
    int r = 0;
    for (struct dirent *entry; r == 0 && dir != NULL && (entry = readdir(dir)) != NULL;) {
        if (fnmatch(pattern, entry->d_name, FNM_PERIOD) != 0 ||
            fstatat(dirfd(dir), entry->d_name, &st, 0) < 0 || !S_ISSOCK(st.st_mode))
            continue;
        int n = snprintf(address, sizeof(address), "unix:%s/%s", folder, entry->d_name);
        if (n > 0 && (size_t)n < sizeof(address))
            r = add(addresses, address);
    }
    if (dir != NULL)
        closedir(dir);
    return r;
}

static int add_pattern(struct addresses *addresses, const char *pattern)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(pattern, '/');
    size_t n = slash == NULL ? 0 : (size_t)(slash - pattern);
    if (slash == NULL || n >= sizeof(folder))
        return 0;
    memcpy(folder, pattern, n);
    folder[n] = '\0';
    return add_files(addresses, folder, slash + 1);
}

static const struct worker_pool *managed_pool(const struct supervisor *supervisor, const char *name)
{
    list_for_each (node, &supervisor->workers.ctx.pools) {
        const struct worker_pool *pool = container_of(node, struct worker_pool, node);
        if (strcmp(pool->name, name) == 0)
            return pool;
    }
    return NULL;
}

static int add_managed(struct addresses *addresses, const struct worker_pool *pool)
{
    char address[sizeof("unix:") + WORKER_PATH_MAX];
    list_for_each (node, &pool->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        if (worker->path[0] == '\0')
            continue;
        snprintf(address, sizeof(address), "unix:%s", worker->path);
        if (add(addresses, address) < 0)
            return -ENOMEM;
    }
    return 0;
}

static int collect(
    const struct supervisor *supervisor, const struct conf_pool *conf, struct addresses *addresses)
{
    const struct worker_pool *pool = managed_pool(supervisor, conf->name);
    int r = pool == NULL ? 0 : add_managed(addresses, pool);
    for (uint32_t i = 0; r == 0 && i < conf->nworkers; i++) {
        const struct conf_worker *worker = &conf->workers[i];
        r = worker->pattern == NULL ? add(addresses, worker->text)
                                    : add_pattern(addresses, worker->pattern);
    }
    return r;
}

static const struct worker_process *find_managed(
    const struct worker_pool *pool, const char *address)
{
    if (pool == NULL || strncmp(address, "unix:", 5) != 0)
        return NULL;
    list_for_each (node, &pool->workers) {
        const struct worker_process *worker = container_of(node, struct worker_process, node);
        if (strcmp(worker->path, address + 5) == 0)
            return worker;
    }
    return NULL;
}

/* All processes at one address. */
static void tell(const struct supervisor *supervisor, struct worker_entry *entry,
    void (*fn)(const struct worker_entry *entry, void *data), void *data)
{
    const struct share *share = front_serving(&supervisor->front)->share;
    int at = 0;
    entry->managed = find_managed(managed_pool(supervisor, entry->pool->name), entry->address);
    entry->drained = holds_is_drained(&supervisor->front.holds, entry->address);
    entry->ejected_until = 0;
    if (share != NULL)
        share_health_find(share, entry->address, log_clock(), &entry->ejected_until);
    entry->known = false;
    while (share != NULL && share_worker_next(share, entry->address, &at, &entry->view)) {
        entry->known = true;
        fn(entry, data);
    }
    entry->view = (struct share_worker_view){0};
    if (!entry->known)
        fn(entry, data);
}

int worker_list(const struct supervisor *supervisor,
    void (*fn)(const struct worker_entry *entry, void *data), void *data)
{
    const struct conf *conf = front_serving(&supervisor->front)->conf;
    int r = 0;
    for (uint32_t i = 0; r == 0 && i < conf->npools; i++) {
        struct addresses addresses = {0};
        r = collect(supervisor, &conf->pools[i], &addresses);
        for (size_t k = 0; r == 0 && k < addresses.n; k++) {
            struct worker_entry entry = {.pool = &conf->pools[i], .address = addresses.all[k]};
            tell(supervisor, &entry, fn, data);
        }
        drop(&addresses);
    }
    return r;
}

int64_t worker_list_pid(const struct worker_entry *entry)
{
    if (entry->managed != NULL && entry->managed->pid > 0)
        return entry->managed->pid;
    return entry->known && entry->view.pid > 0 && entry->view.pid <= INT32_MAX ? entry->view.pid
                                                                               : 0;
}

const char *worker_list_state(const struct worker_entry *entry)
{
    if (entry->managed != NULL && entry->managed->state != WORKER_SERVING)
        return worker_process_state_name(entry->managed->state);
    if (!entry->known)
        return "down";
    if (entry->view.hung != 0)
        return "hung";
    if (entry->drained)
        return "drained";
    return entry->ejected_until != 0 ? "ejected" : "ready";
}
