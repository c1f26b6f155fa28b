/*
 * The workers as JSON, for the program that is executed in place of this one. Times are of the
 * monotonic clock, which goes on; descriptors keep their numbers. Members may be added; what is
 * missing in a state of an older program must have a default that works.
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "common/log.h"
#include "common/mem.h"
#include "frontd/super/managed_pool.h"
#include "frontd/super/survivor.h"

enum { VERSION = 1 };

static const char *const state_names[] = {
    [MANAGED_WAITING] = "waiting",
    [MANAGED_STARTING] = "starting",
    [MANAGED_SERVING] = "serving",
    [MANAGED_LEAVING] = "leaving",
};

/* Consumes value. Returns whether there was memory for both. */
static bool put(json_object *object, const char *key, json_object *value)
{
    if (value == NULL)
        return false;
    if (json_object_object_add(object, key, value) == 0)
        return true;
    json_object_put(value);
    return false;
}

static bool put_number(json_object *object, const char *key, uint64_t value)
{
    return put(object, key, json_object_new_uint64(value));
}

/* Bytes that need not be text. */
static bool put_bytes(json_object *object, const char *key, const char *bytes, size_t n)
{
    char hex[2 * OUTPUT_LINE_MAX + 1] = "";
    CHECK(n <= OUTPUT_LINE_MAX);
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", (unsigned char)bytes[i]);
    return put(object, key, json_object_new_string(hex));
}

static bool put_worker(json_object *list, const struct managed_worker *worker)
{
    json_object *object = json_object_new_object();
    const struct output *output = worker->output;
    if (object == NULL || json_object_array_add(list, object) < 0) {
        json_object_put(object);
        return false;
    }
    bool ok = put(object, "state", json_object_new_string(state_names[worker->state])) &&
              put_number(object, "slot", worker->name.slot) &&
              put_number(object, "serial", worker->name.serial) &&
              put_number(object, "command", worker->stamp.command) &&
              put_number(object, "files", worker->stamp.files) &&
              put_number(object, "failures", worker->failures) &&
              put_number(object, "due", worker->due);
    if (worker->listener >= 0)
        ok = ok && put_number(object, "listener", (uint64_t)worker->listener);
    if (worker->old != NULL)
        ok = ok && put_number(object, "replaces", worker->old->name.serial);
    if (worker->pid < 0)
        return ok;
    ok = ok && put_number(object, "pid", (uint64_t)worker->pid) &&
         put_number(object, "birth", worker->birth) &&
         put_number(object, "served", worker->served) &&
         put(object, "settled", json_object_new_boolean(worker->settled));
    if (output != NULL)
        ok = ok && put_number(object, "output", (uint64_t)output->fd) &&
             put(object, "continued", json_object_new_boolean(output->lines.continued)) &&
             put_bytes(object, "unended", output->lines.text, output->lines.n);
    return ok;
}

static bool put_pool(json_object *list, const struct managed_pool *pool)
{
    json_object *object = json_object_new_object();
    if (object == NULL || json_object_array_add(list, object) < 0) {
        json_object_put(object);
        return false;
    }
    json_object *workers = json_object_new_array();
    bool ok = put(object, "name", json_object_new_string(pool->name)) &&
              put_number(object, "serial", pool->serial) &&
              put(object, "rolling", json_object_new_boolean(pool->rolling)) &&
              put(object, "workers", workers);
    list_for_each (node, &pool->workers)
        ok = ok && put_worker(workers, container_of(node, struct managed_worker, node));
    return ok;
}

static bool put_survivor(json_object *list, const struct survivor *survivor)
{
    json_object *object = json_object_new_object();
    if (object == NULL || json_object_array_add(list, object) < 0) {
        json_object_put(object);
        return false;
    }
    const struct managed_process *process = &survivor->process;
    return put_number(object, "pid", (uint64_t)process->pid) &&
           put_number(object, "birth", process->birth) &&
           put(object, "pool", json_object_new_string(process->name.pool)) &&
           put_number(object, "slot", process->name.slot) &&
           put_number(object, "serial", process->name.serial);
}

json_object *managed_save(const struct managed *managed)
{
    json_object *state = json_object_new_object();
    if (state == NULL)
        return NULL;
    json_object *pools = json_object_new_array();
    bool ok = put_number(state, "version", VERSION) && put(state, "pools", pools);
    list_for_each (node, &managed->pools)
        ok = ok && put_pool(pools, container_of(node, struct managed_pool, node));
    json_object *survivors = json_object_new_array();
    ok = ok && put(state, "survivors", survivors);
    list_for_each (node, &managed->survivors)
        ok = ok && put_survivor(survivors, container_of(node, struct survivor, node));
    if (ok)
        return state;
    json_object_put(state);
    return NULL;
}

void managed_each_fd(const struct managed *managed, void (*each)(int fd, void *data), void *data)
{
    list_for_each (node, &managed->pools) {
        const struct managed_pool *pool = container_of(node, struct managed_pool, node);
        list_for_each (inner, &pool->workers) {
            const struct managed_worker *worker = container_of(inner, struct managed_worker, node);
            if (worker->listener >= 0)
                each(worker->listener, data);
            if (worker->output != NULL)
                each(worker->output->fd, data);
        }
    }
}

/* A number of at most max, or the fallback where there is none. */
static uint64_t get_number(json_object *object, const char *key, uint64_t max, uint64_t fallback)
{
    json_object *member;
    if (!json_object_object_get_ex(object, key, &member) ||
        !json_object_is_type(member, json_type_int))
        return fallback;
    uint64_t value = json_object_get_uint64(member);
    return value <= max ? value : fallback;
}

static const char *get_text(json_object *object, const char *key)
{
    json_object *member;
    if (!json_object_object_get_ex(object, key, &member) ||
        !json_object_is_type(member, json_type_string))
        return "";
    return json_object_get_string(member);
}

static bool get_flag(json_object *object, const char *key)
{
    json_object *member;
    return json_object_object_get_ex(object, key, &member) && json_object_get_boolean(member);
}

static json_object *get_list(json_object *object, const char *key)
{
    json_object *member;
    if (!json_object_object_get_ex(object, key, &member) ||
        !json_object_is_type(member, json_type_array))
        return NULL;
    return member;
}

static size_t length_of(json_object *list)
{
    return list == NULL ? 0 : json_object_array_length(list);
}

static int find_state(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(state_names); i++) {
        if (strcmp(state_names[i], name) == 0)
            return (int)i;
    }
    return -1;
}

/* A descriptor that is open, close-on-exec from here on; -1 where there is none. */
static int get_fd(json_object *object, const char *key)
{
    int fd = (int)get_number(object, key, INT32_MAX, INT32_MAX);
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -1 : fd;
}

static void read_lines(json_object *object, struct output_lines *lines)
{
    const char *hex = get_text(object, "unended");
    unsigned byte;
    lines->continued = get_flag(object, "continued");
    for (; lines->n < sizeof(lines->text) && sscanf(hex, "%2x", &byte) == 1; hex += 2)
        lines->text[lines->n++] = (char)byte;
}

/* Goes on where the worker's state has stopped. Returns 0 or -errno. */
static int resume(struct managed_worker *worker, json_object *object)
{
    char who[OUTPUT_NAME_MAX];
    int r = 0;
    int fd = get_fd(object, "output");
    managed_worker_describe(worker, who);
    if (fd >= 0)
        r = output_open(worker->timer.loop, fd, who, &worker->output);
    if (r == 0 && fd >= 0)
        read_lines(object, &worker->output->lines);
    if (r == 0 && worker->state == MANAGED_STARTING)
        r = managed_worker_probe(worker);
    if (r == 0 && (worker->state != MANAGED_SERVING || !worker->settled))
        managed_worker_arm(worker, get_number(object, "due", INT64_MAX, 0));
    return r;
}

static void restore_worker(struct managed_pool *pool, json_object *object)
{
    int state = find_state(get_text(object, "state"));
    uint64_t slot = get_number(object, "slot", CONF_INSTANCES_MAX - 1, UINT64_MAX);
    pid_t pid = (pid_t)get_number(object, "pid", INT32_MAX, 0);
    if (state < 0 || slot == UINT64_MAX || (state == MANAGED_WAITING) != (pid == 0))
        return;
    struct managed_worker *worker = managed_worker_new(pool, (uint32_t)slot, NULL);
    if (worker == NULL)
        return;
    worker->state = (enum managed_state)state;
    worker->name.serial = (uint32_t)get_number(object, "serial", UINT32_MAX, 0);
    worker->stamp.command = get_number(object, "command", UINT64_MAX, 0);
    worker->stamp.files = get_number(object, "files", UINT64_MAX, 0);
    worker->failures = (unsigned)get_number(object, "failures", UINT32_MAX, 0);
    worker->birth = get_number(object, "birth", UINT64_MAX, 0);
    worker->served = get_number(object, "served", INT64_MAX, 0);
    worker->settled = get_flag(object, "settled");
    worker->pid = pid == 0 ? -1 : pid;
    worker->listener = get_fd(object, "listener");
    managed_dir_path(pool->managed->dir, &worker->name, worker->path);
    int r = resume(worker, object);
    if (r < 0) {
        log_error("worker %s/%u: cannot go on with it: %s; killing it", pool->name,
            worker->name.slot, strerror(-r));
        managed_worker_kill(worker);
    }
}

/* Who replaces whom, once all are there. */
static void relate(struct managed_pool *pool, json_object *workers)
{
    for (size_t i = 0; i < length_of(workers); i++) {
        json_object *object = json_object_array_get_idx(workers, i);
        uint64_t serial = get_number(object, "serial", UINT32_MAX, UINT64_MAX);
        uint64_t replaced = get_number(object, "replaces", UINT32_MAX, UINT64_MAX);
        struct managed_worker *worker = NULL;
        struct managed_worker *old = NULL;
        list_for_each (node, &pool->workers) {
            struct managed_worker *each = container_of(node, struct managed_worker, node);
            worker = each->name.serial == serial ? each : worker;
            old = each->name.serial == replaced ? each : old;
        }
        if (worker != NULL && worker != old)
            worker->old = old;
    }
}

static void restore_pool(struct managed *managed, json_object *object)
{
    const char *name = get_text(object, "name");
    json_object *workers = get_list(object, "workers");
    if (name[0] == '\0' || strlen(name) >= MANAGED_NAME_MAX)
        return;
    struct managed_pool *pool = managed_pool_new(managed, name);
    if (pool == NULL)
        return;
    pool->serial = (uint32_t)get_number(object, "serial", UINT32_MAX, 0);
    pool->rolling = get_flag(object, "rolling");
    for (size_t i = 0; i < length_of(workers); i++)
        restore_worker(pool, json_object_array_get_idx(workers, i));
    relate(pool, workers);
}

static void restore_survivor(struct managed *managed, json_object *object)
{
    struct managed_process process = {
        .pid = (pid_t)get_number(object, "pid", INT32_MAX, 0),
        .birth = get_number(object, "birth", UINT64_MAX, 0),
        .name.slot = (uint32_t)get_number(object, "slot", UINT32_MAX, 0),
        .name.serial = (uint32_t)get_number(object, "serial", UINT32_MAX, 0),
    };
    const char *pool = get_text(object, "pool");
    if (process.pid <= 1 || pool[0] == '\0' || strlen(pool) >= MANAGED_NAME_MAX)
        return;
    memcpy(process.name.pool, pool, strlen(pool));
    survivor_add(managed, &process);
}

int managed_restore(struct managed *managed, json_object *state)
{
    json_object *pools = get_list(state, "pools");
    json_object *survivors = get_list(state, "survivors");
    if (pools == NULL)
        return -EINVAL;
    for (size_t i = 0; i < length_of(pools); i++)
        restore_pool(managed, json_object_array_get_idx(pools, i));
    for (size_t i = 0; i < length_of(survivors); i++)
        restore_survivor(managed, json_object_array_get_idx(survivors, i));
    managed->found = true;
    return 0;
}
