/*
 * The workers as JSON, for the program that is executed in place of this one. Times are of the
 * monotonic clock, which goes on; descriptors keep their numbers. Members may be added; what is
 * missing in a state of an older program must have a default that works.
 */

#include "frontd/supervisor/workers/workers_reexec.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/workers/remains.h"
#include "frontd/supervisor/workers/survivors.h"
#include "frontd/supervisor/workers/worker_pool.h"
#include "proto/json_read.h"

enum { VERSION = 1 };

static void put_output(struct json_writer *out, const struct output *output)
{
    if (output == NULL)
        return;
    json_add_integer(out, "output", output->fd);
    json_add_flag(out, "continued", output->lines.continued);
    json_add_bytes(out, "unended", output->lines.text, output->lines.n);
}

static void put_worker(struct json_writer *out, const struct worker_process *worker)
{
    json_begin(out, NULL, '{');
    json_add_text(out, "state", worker_process_state_name(worker->state));
    json_add_number(out, "slot", worker->name.slot);
    json_add_number(out, "serial", worker->name.serial);
    json_add_number(out, "dev", worker->dev);
    json_add_number(out, "ino", worker->ino);
    json_add_number(out, "command", worker->fingerprint.command);
    json_add_number(out, "files", worker->fingerprint.files);
    json_add_number(out, "failures", worker->failures);
    json_add_number(out, "due", worker->due);
    if (worker->listener >= 0)
        json_add_integer(out, "listener", worker->listener);
    if (worker->old != NULL)
        json_add_number(out, "replaces", worker->old->name.serial);
    if (worker->old != NULL)
        json_add_flag(out, "recycles", worker->recycles);
    if (worker->pid >= 0) {
        json_add_integer(out, "pid", worker->pid);
        json_add_number(out, "birth", worker->birth);
        json_add_number(out, "served", worker->served);
        json_add_flag(out, "settled", worker->settled);
        json_add_number(out, "calls", worker->calls);
        json_add_number(out, "counted", worker->counted);
    }
    if (worker->pid >= 0)
        put_output(out, worker->output);
    json_end(out, '}');
}

static void put_pool(struct json_writer *out, const struct worker_pool *pool)
{
    json_begin(out, NULL, '{');
    json_add_text(out, "name", pool->name);
    json_add_number(out, "serial", pool->serial);
    json_add_flag(out, "rolling", pool->rolling);
    json_begin(out, "workers", '[');
    list_for_each (node, &pool->workers)
        put_worker(out, container_of(node, struct worker_process, node));
    json_end(out, ']');
    json_end(out, '}');
}

static void put_process(struct json_writer *out, const struct worker_dir_process *process)
{
    json_begin(out, NULL, '{');
    json_add_integer(out, "pid", process->pid);
    json_add_number(out, "birth", process->birth);
    json_add_text(out, "pool", process->name.pool);
    json_add_number(out, "slot", process->name.slot);
    json_add_number(out, "serial", process->name.serial);
}

static void put_remains(struct json_writer *out, const struct remains *remains)
{
    put_process(out, &remains->process);
    json_add_number(out, "until", remains->killed ? 0 : remains->until);
    put_output(out, remains->output);
    json_end(out, '}');
}

void workers_save(const struct workers *workers, struct json_writer *out, const char *key)
{
    json_begin(out, key, '{');
    json_add_number(out, "version", VERSION);
    json_begin(out, "pools", '[');
    list_for_each (node, &workers->ctx.pools)
        put_pool(out, container_of(node, struct worker_pool, node));
    json_end(out, ']');
    json_begin(out, "survivors", '[');
    list_for_each (node, &workers->ctx.survivors) {
        put_process(out, &container_of(node, struct survivor, node)->process);
        json_end(out, '}');
    }
    json_end(out, ']');
    json_begin(out, "remains", '[');
    list_for_each (node, &workers->ctx.remains)
        put_remains(out, container_of(node, struct remains, node));
    json_end(out, ']');
    json_end(out, '}');
}

void workers_each_fd(const struct workers *workers, void (*each)(int fd, void *data), void *data)
{
    list_for_each (node, &workers->ctx.pools) {
        const struct worker_pool *pool = container_of(node, struct worker_pool, node);
        list_for_each (inner, &pool->workers) {
            const struct worker_process *worker = container_of(inner, struct worker_process, node);
            if (worker->listener >= 0)
                each(worker->listener, data);
            if (worker->output != NULL)
                each(worker->output->fd, data);
        }
    }
    list_for_each (node, &workers->ctx.remains) {
        const struct remains *remains = container_of(node, struct remains, node);
        if (remains->output != NULL)
            each(remains->output->fd, data);
    }
}

/* A number of at most max, or the fallback where there is none. */
static uint64_t get_number(struct span object, const char *key, uint64_t max, uint64_t fallback)
{
    return json_read_number(json_read_member(object, key), max, fallback);
}

static bool get_flag(struct span object, const char *key)
{
    return json_is_true(json_read_member(object, key));
}

static int find_state(const char *name)
{
    for (int i = 0; i < WORKER_STATES; i++) {
        if (strcmp(worker_process_state_name((enum worker_state)i), name) == 0)
            return i;
    }
    return -1;
}

/* A descriptor that is open, close-on-exec from here on; -1 where there is none. */
static int get_fd(struct span object, const char *key)
{
    int fd = (int)get_number(object, key, INT32_MAX, INT32_MAX);
    return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? -1 : fd;
}

static void read_lines(struct span object, struct output_lines *lines)
{
    lines->continued = get_flag(object, "continued");
    lines->n = json_read_bytes(
        json_read_member(object, "unended"), lines->text, sizeof(lines->text));
}

/* Goes on reading an output where put_output() has written one. Returns 0 or -errno. */
static int resume_output(
    uv_loop_t *loop, const char *name, struct span object, struct output **ret_output)
{
    int fd = get_fd(object, "output");
    int r = fd < 0 ? 0 : output_open(loop, fd, name, ret_output);
    if (r == 0 && fd >= 0)
        read_lines(object, &(*ret_output)->lines);
    return r;
}

/* Goes on where the worker's state has stopped. Returns 0 or -errno. */
static int resume(struct worker_process *worker, struct span object)
{
    char name[OUTPUT_NAME_MAX];
    worker_process_describe(worker, name);
    int r = resume_output(worker->timer.loop, name, object, &worker->output);
    if (r == 0 && worker->state == WORKER_STARTING)
        r = worker_process_ask_ready(worker);
    if (r == 0 && (worker->state != WORKER_SERVING || !worker->settled))
        worker_process_arm(worker, get_number(object, "due", INT64_MAX, 0));
    return r;
}

static int restore_worker(struct worker_pool *pool, struct span object)
{
    char name[16];
    json_read_plain(json_read_member(object, "state"), name, sizeof(name));
    int state = find_state(name);
    uint64_t slot = get_number(object, "slot", CONF_INSTANCES_MAX - 1, UINT64_MAX);
    pid_t pid = (pid_t)get_number(object, "pid", INT32_MAX, 0);
    if (state < 0 || slot == UINT64_MAX || (state == WORKER_WAITING) != (pid == 0))
        return 0;
    struct worker_process *worker = worker_process_new(
        pool, (uint32_t)slot, (enum worker_state)state, NULL);
    if (worker == NULL)
        return -ENOMEM;
    worker->name.serial = (uint32_t)get_number(object, "serial", UINT32_MAX, 0);
    worker->fingerprint.command = get_number(object, "command", UINT64_MAX, 0);
    worker->fingerprint.files = get_number(object, "files", UINT64_MAX, 0);
    worker->failures = (unsigned)get_number(object, "failures", UINT32_MAX, 0);
    worker->birth = get_number(object, "birth", UINT64_MAX, 0);
    worker->served = get_number(object, "served", INT64_MAX, 0);
    worker->settled = get_flag(object, "settled");
    worker->calls = get_number(object, "calls", UINT64_MAX, 0);
    worker->counted = get_number(object, "counted", UINT64_MAX, 0);
    worker->recycles = get_flag(object, "recycles");
    worker->pid = pid == 0 ? -1 : pid;
    worker->listener = get_fd(object, "listener");
    if (worker->listener >= 0)
        worker_dir_path(pool->ctx->dir, &worker->name, worker->path);
    worker->dev = get_number(object, "dev", UINT64_MAX, 0);
    worker->ino = get_number(object, "ino", UINT64_MAX, 0);
    if (worker->ino == 0 && worker->listener >= 0) /* a program before has not said it */
        worker_process_note_socket(worker);
    int r = resume(worker, object);
    if (r < 0) {
        log_error("worker %s/%u: cannot go on with it: %s; killing it", pool->name,
            worker->name.slot, strerror(-r));
        worker_process_kill(worker);
    }
    return 0;
}

/* Which worker replaces which one, once all are there. */
static void relate(struct worker_pool *pool, struct span entries)
{
    struct span object;
    for (size_t at = 0; json_read_next(entries, &at, &object);) {
        uint64_t serial = get_number(object, "serial", UINT32_MAX, UINT64_MAX);
        uint64_t replaced = get_number(object, "replaces", UINT32_MAX, UINT64_MAX);
        struct worker_process *worker = NULL;
        struct worker_process *old = NULL;
        list_for_each (node, &pool->workers) {
            struct worker_process *each = container_of(node, struct worker_process, node);
            worker = each->name.serial == serial ? each : worker;
            old = each->name.serial == replaced ? each : old;
        }
        if (worker != NULL && worker != old)
            worker->old = old;
    }
}

static int restore_pool(struct workers_ctx *ctx, struct span object)
{
    char name[WORKER_NAME_MAX];
    struct span entries = json_read_member(object, "workers");
    struct span worker;
    if (!json_read_plain(json_read_member(object, "name"), name, sizeof(name)) || name[0] == '\0')
        return 0;
    struct worker_pool *pool = worker_pool_new(ctx, name);
    if (pool == NULL)
        return -ENOMEM;
    pool->serial = (uint32_t)get_number(object, "serial", UINT32_MAX, 0);
    pool->rolling = get_flag(object, "rolling");
    int r = 0;
    for (size_t at = 0; r == 0 && json_read_next(entries, &at, &worker);)
        r = restore_worker(pool, worker);
    relate(pool, entries);
    return r;
}

static bool read_process(struct span object, struct worker_dir_process *ret_process)
{
    struct worker_dir_process process = {
        .pid = (pid_t)get_number(object, "pid", INT32_MAX, 0),
        .birth = get_number(object, "birth", UINT64_MAX, 0),
        .name.slot = (uint32_t)get_number(object, "slot", UINT32_MAX, 0),
        .name.serial = (uint32_t)get_number(object, "serial", UINT32_MAX, 0),
        .same_boot = true,
    };
    if (process.pid <= 1 ||
        !json_read_plain(
            json_read_member(object, "pool"), process.name.pool, sizeof(process.name.pool)) ||
        process.name.pool[0] == '\0')
        return false;
    *ret_process = process;
    return true;
}

static void restore_survivor(struct workers_ctx *ctx, struct span object)
{
    struct worker_dir_process process;
    if (read_process(object, &process))
        survivor_add(ctx, &process);
}

/* Goes on with what a worker has left, which SIGTERM has been sent to already. */
static void restore_remains(struct workers_ctx *ctx, struct span object)
{
    struct worker_dir_process process;
    struct output *output = NULL;
    char name[OUTPUT_NAME_MAX];
    if (!read_process(object, &process))
        return;
    snprintf(name, sizeof(name), "worker %s/%u (pid %ld)", process.name.pool, process.name.slot,
        (long)process.pid);
    resume_output(ctx->loop, name, object, &output);
    if (remains_exist(process.pid))
        remains_add(ctx, &process, output, get_number(object, "until", INT64_MAX, 0), true);
    else
        output_close(output);
}

int workers_restore(struct workers *workers, struct span state)
{
    struct span pools = json_read_member(state, "pools");
    struct span survivors = json_read_member(state, "survivors");
    struct span remains = json_read_member(state, "remains");
    struct span each;
    if (!json_is_array(pools))
        return -EINVAL;
    int r = 0;
    for (size_t at = 0; r == 0 && json_read_next(pools, &at, &each);)
        r = restore_pool(&workers->ctx, each);
    if (r < 0)
        return r;
    for (size_t at = 0; json_read_next(survivors, &at, &each);)
        restore_survivor(&workers->ctx, each);
    for (size_t at = 0; json_read_next(remains, &at, &each);)
        restore_remains(&workers->ctx, each);
    workers->found = true;
    return 0;
}
