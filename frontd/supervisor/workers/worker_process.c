/*
 * worker_process_start() binds the socket (once; it stays while processes come and go), starts the
 * program, reads its output, and asks it whether it is ready (readiness.c). on_worker_ready(): it
 * serves. A moment later, when the shards have found it too, on_worker_timer() retires the one that
 * it replaces. worker_process_retire() unlinks the socket, so that no shard dials it any more, and
 * sends SIGTERM: the worker sends GOAWAY, finishes, and exits.
 *
 * Each worker leads a process group, and signals go to all of it. What is there of the group when
 * the worker has ended (the real one, where the command is a shell that was ended by SIGTERM) has
 * the rest of the worker's time: remains.c.
 *
 * - It ends without having been asked to: started again after a delay that doubles.
 * - It is not ready in time: killed, and that was its end.
 * - Its pool is in the config no more: not started again.
 * - It is to replace another one and either happens: it is forgotten, the old one stays; where that
 *   is recycled (recycle.c), it is tried again later.
 * - The old one ends meanwhile: the new one takes its place.
 * - It does not go after SIGTERM: killed after the drain limit.
 */

#include "frontd/supervisor/workers/worker_process.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/workers/launch.h"
#include "frontd/supervisor/workers/remains.h"
#include "frontd/supervisor/workers/worker_pool.h"
#include "frontd/system/process.h"

enum {
    DELAY_MAX_MS = 30 * 1000,
    STEADY_MS = 10 * 1000, /* a worker that served for this long has not "kept ending" */
    /* A shard sees a new socket by inotify, dials it and has its HELLO long before that. */
    SETTLE_MS = 250,
};

static const struct {
    const char *name;
    bool next[WORKER_STATES]; /* which state may follow */
} states[] = {
    /* The process is started; or the start has failed, and it waits again. */
    [WORKER_WAITING] = {"waiting", {[WORKER_STARTING] = true, [WORKER_WAITING] = true}},
    /* It has said HELLO; or it has ended before; or its pool needs it no more. */
    [WORKER_STARTING] = {"starting",
        {[WORKER_SERVING] = true, [WORKER_WAITING] = true, [WORKER_LEAVING] = true}},
    /* It has ended; or it is asked to. */
    [WORKER_SERVING] = {"serving", {[WORKER_WAITING] = true, [WORKER_LEAVING] = true}},
    /* It is freed when it has ended. */
    [WORKER_LEAVING] = {"leaving", {false}},
};

void worker_process_move(struct worker_process *worker, enum worker_state state)
{
    CHECK(states[worker->state].next[state]);
    worker->state = state;
}

const char *worker_process_state_name(enum worker_state state)
{
    return states[state].name;
}

static uint64_t now_of(const struct worker_process *worker)
{
    return uv_now(worker->timer.loop);
}

void worker_process_describe(const struct worker_process *worker, char out[OUTPUT_NAME_MAX])
{
    if (worker->pid > 0)
        snprintf(out, OUTPUT_NAME_MAX, "worker %s/%u (pid %ld)", worker->name.pool,
            worker->name.slot, (long)worker->pid);
    else
        snprintf(out, OUTPUT_NAME_MAX, "worker %s/%u", worker->name.pool, worker->name.slot);
}

uint64_t worker_process_delay(uint64_t first, unsigned failures)
{
    uint64_t delay = first;
    for (unsigned i = 1; i < failures && delay < DELAY_MAX_MS; i++)
        delay = MIN(delay * 2, (uint64_t)DELAY_MAX_MS);
    return delay;
}

static void on_worker_ready(void *data);

static void on_worker_timer(uv_timer_t *timer)
{
    struct worker_process *worker = timer->data;
    char name[OUTPUT_NAME_MAX];
    worker_process_describe(worker, name);
    switch (worker->state) {
    case WORKER_WAITING: worker_process_start(worker); break;
    case WORKER_STARTING:
        log_error(
            "%s is not ready in time: %s; killing it", name, readiness_wrong(worker->readiness));
        worker_process_kill(worker);
        break;
    case WORKER_SERVING:
        if (worker->suspected) {
            log_error("%s hangs: it does not answer a HELLO; killing it", name);
            worker_process_kill(worker);
            break;
        }
        worker->settled = true;
        if (worker->old != NULL)
            worker_process_retire(worker->old);
        worker->pool->ctx->ops->settled(worker->pool->ctx, worker->pool);
        break;
    case WORKER_LEAVING:
        log_warning("%s is still there after the drain limit, killing it", name);
        worker_process_kill(worker);
        break;
    }
}

void worker_process_arm(struct worker_process *worker, uint64_t due)
{
    uint64_t now = now_of(worker);
    worker->due = due;
    CHECK(uv_timer_start(&worker->timer, on_worker_timer, due > now ? due - now : 0, 0) == 0);
}

struct worker_process *worker_process_new(
    struct worker_pool *pool, uint32_t slot, enum worker_state state, struct worker_process *old)
{
    struct worker_process *worker = mem_zalloc(sizeof(*worker));
    if (worker == NULL) {
        log_error("worker %s/%u: no memory for it", pool->name, slot);
        return NULL;
    }
    worker->pool = pool;
    worker->old = old;
    worker->state = state;
    worker->pid = worker->listener = -1;
    worker->name.slot = slot;
    memcpy(worker->name.pool, pool->name, sizeof(worker->name.pool));
    CHECK(uv_timer_init(pool->ctx->loop, &worker->timer) == 0);
    worker->timer.data = worker;
    list_append(&pool->workers, &worker->node);
    return worker;
}

static void on_worker_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

/* Whether the socket is at its path. *ret_there: something is. */
static bool is_in_place(const struct worker_process *worker, bool *ret_there)
{
    struct stat st;
    bool found = lstat(worker->path, &st) == 0;
    *ret_there = found || (errno != ENOENT && errno != ENOTDIR);
    if (!found || worker->ino == 0)
        return *ret_there; /* as far as can be told */
    return st.st_dev == worker->dev && st.st_ino == worker->ino;
}

bool worker_process_lost_socket(const struct worker_process *worker)
{
    bool there;
    char name[OUTPUT_NAME_MAX];
    if (worker->path[0] == '\0' || is_in_place(worker, &there))
        return false;
    worker_process_describe(worker, name);
    log_warning("%s: its socket %s was %s: another one takes its place", name, worker->path,
        there ? "replaced" : "removed");
    return true;
}

void worker_process_drop_socket(struct worker_process *worker)
{
    bool there;
    if (worker->path[0] != '\0' && is_in_place(worker, &there))
        unlink(worker->path);
    worker->path[0] = '\0';
    if (worker->listener >= 0)
        close(worker->listener);
    worker->listener = -1;
}

struct worker_process *worker_process_successor(const struct worker_process *worker)
{
    list_for_each (node, &worker->pool->workers) {
        struct worker_process *other = container_of(node, struct worker_process, node);
        if (other->old == worker)
            return other;
    }
    return NULL;
}

static void stop_asking(struct worker_process *worker)
{
    readiness_close(worker->readiness);
    worker->readiness = NULL;
}

static void release_process(struct worker_process *worker)
{
    output_close(worker->output);
    worker->output = NULL;
    stop_asking(worker);
    worker->pid = -1;
    worker->settled = worker->suspected = worker->killed = false;
    worker->judged = worker->calls = worker->counted = 0;
    uv_timer_stop(&worker->timer);
}

void worker_process_destroy(struct worker_process *worker)
{
    struct worker_process *successor = worker_process_successor(worker);
    if (successor != NULL)
        successor->old = NULL;
    worker_process_drop_socket(worker);
    release_process(worker);
    list_remove(&worker->node);
    uv_close((uv_handle_t *)&worker->timer, on_worker_closed);
}

static void wait_for_restart(struct worker_process *worker)
{
    uint64_t delay = worker_process_delay(worker->pool->conf->restart_delay, worker->failures);
    worker_process_move(worker, WORKER_WAITING);
    log_info("worker %s/%u will be started again in %llu ms", worker->name.pool, worker->name.slot,
        (unsigned long long)delay);
    worker_process_arm(worker, now_of(worker) + delay);
}

/* Goes on with a worker that has no process, though it was not asked to finish. */
static void fall(struct worker_process *worker)
{
    struct worker_pool *pool = worker->pool;
    if (worker->old != NULL && worker->recycles) {
        worker_process_destroy(worker);
        worker_pool_recycle_failed(pool);
    } else if (worker->old != NULL) {
        log_error("pool %s: a new worker cannot take over, the old ones stay until the next reload",
            worker->name.pool);
        worker_pool_stop_rolling(pool);
        worker_process_destroy(worker);
    } else if (worker_process_successor(worker) != NULL || pool->conf == NULL) {
        worker_process_destroy(worker);
    } else {
        wait_for_restart(worker);
    }
}

void worker_process_note_socket(struct worker_process *worker)
{
    struct stat st;
    bool there = lstat(worker->path, &st) == 0 && S_ISSOCK(st.st_mode);
    worker->dev = there ? st.st_dev : 0;
    worker->ino = there ? st.st_ino : 0;
}

static int bind_socket(struct worker_process *worker)
{
    struct worker_pool *pool = worker->pool;
    if (worker->listener >= 0)
        return 0;
    worker->name.serial = pool->serial + 1;
    int fd = worker_dir_bind(pool->ctx->dir, &worker->name, &pool->ctx->user);
    if (fd < 0)
        return fd;
    worker->listener = fd;
    pool->serial = worker->name.serial;
    worker_dir_path(pool->ctx->dir, &worker->name, worker->path);
    worker_process_note_socket(worker);
    return 0;
}

int worker_process_ask_ready(struct worker_process *worker)
{
    return readiness_open(worker->timer.loop, worker->path, worker->name.pool, on_worker_ready,
        worker, &worker->readiness);
}

/*
 * Attends to a process that was started. Where that fails it is killed; its end is seen like any
 * other.
 */
static void attach(struct worker_process *worker, int output)
{
    char name[OUTPUT_NAME_MAX];
    worker_process_describe(worker, name);
    log_info("%s is started", name);
    worker->birth = process_birth(worker->pid);
    worker_process_move(worker, WORKER_STARTING);
    int r = output_open(worker->timer.loop, output, name, &worker->output);
    if (r == 0)
        r = worker_process_ask_ready(worker);
    if (r < 0) {
        log_error("%s: cannot attend to it: %s; killing it", name, strerror(-r));
        worker_process_kill(worker);
        return;
    }
    worker_process_arm(worker, now_of(worker) + worker->pool->conf->start_timeout);
}

void worker_process_start(struct worker_process *worker)
{
    struct worker_pool *pool = worker->pool;
    char path[4096];
    int output = -1;
    CHECK(worker->state == WORKER_WAITING && worker->pid < 0);
    worker->fingerprint = pool->wanted;
    const char *what = "make its socket";
    int r = bind_socket(worker);
    if (r == 0) {
        what = "find its program";
        r = spawn_find(pool->conf->command[0], path, sizeof(path));
    }
    if (r == 0) {
        struct launch launch = {
            .path = path,
            .command = pool->conf->command,
            .n = pool->conf->ncommand,
            .user = &pool->ctx->user,
            .pool = pool->name,
            .listener = worker->listener,
        };
        what = "start a process";
        r = launch_start(&launch, &worker->pid, &output);
    }
    if (r < 0) {
        log_error("worker %s/%u: cannot %s: %s", worker->name.pool, worker->name.slot, what,
            strerror(-r));
        worker->failures++;
        fall(worker);
        return;
    }
    attach(worker, output);
    pool->ctx->ops->changed(pool->ctx);
}

static void on_worker_ready(void *data)
{
    struct worker_process *worker = data;
    char name[OUTPUT_NAME_MAX];
    worker_process_describe(worker, name);
    log_info("%s is ready", name);
    stop_asking(worker);
    worker_process_move(worker, WORKER_SERVING);
    worker->served = now_of(worker);
    worker_process_arm(worker, worker->served + SETTLE_MS);
}

static void log_end(const struct worker_process *worker, int status)
{
    char name[OUTPUT_NAME_MAX];
    bool asked = worker->state == WORKER_LEAVING;
    worker_process_describe(worker, name);
    if (status == -1)
        log_write(asked ? LOG_INFO : LOG_ERROR, "%s has ended", name);
    else if (WIFSIGNALED(status))
        log_write(
            asked ? LOG_INFO : LOG_ERROR, "%s was ended by signal %d", name, WTERMSIG(status));
    else
        log_write(asked && WEXITSTATUS(status) == 0 ? LOG_INFO : LOG_ERROR,
            "%s exited with status %d", name, WEXITSTATUS(status));
}

/*
 * Whether others of its group are left. Where another process has waited for it, its number may be
 * one that others have now.
 */
static bool has_remains(const struct worker_process *worker, int status)
{
    uint64_t birth = status == -1 ? process_birth(worker->pid) : 0;
    return (birth == 0 || birth == worker->birth) && remains_exist(worker->pid);
}

/* Leaves what there is still of its group, with its output, to remains.c. */
static void leave_remains(struct worker_process *worker)
{
    struct workers_ctx *ctx = worker->pool->ctx;
    const struct worker_dir_process process = {
        .pid = worker->pid, .birth = worker->birth, .name = worker->name};
    bool asked = worker->state == WORKER_LEAVING;
    uint64_t until = asked ? worker->due : now_of(worker) + ctx->drain + WORKER_KILL_GRACE_MS;
    remains_add(ctx, &process, worker->output, worker->killed ? 0 : until, asked);
    worker->output = NULL;
}

void worker_process_ended(struct worker_process *worker, int status)
{
    bool steady = worker->state == WORKER_SERVING && now_of(worker) - worker->served >= STEADY_MS;
    struct workers_ctx *ctx = worker->pool->ctx;
    bool leaves_some = has_remains(worker, status);
    /* What it said last comes before the news of its end. */
    if (!leaves_some) {
        output_close(worker->output);
        worker->output = NULL;
    }
    log_end(worker, status);
    if (leaves_some)
        leave_remains(worker);
    release_process(worker);
    if (worker->state == WORKER_LEAVING) {
        worker_process_destroy(worker);
    } else {
        worker->failures = steady ? 1 : worker->failures + 1;
        fall(worker);
    }
    ctx->ops->changed(ctx);
}

void worker_process_retire(struct worker_process *worker)
{
    char name[OUTPUT_NAME_MAX];
    struct worker_process *successor = worker_process_successor(worker);
    if (worker->state == WORKER_LEAVING)
        return;
    if (successor != NULL)
        successor->old = NULL;
    worker->old = NULL;
    if (worker->pid < 0) {
        worker_process_destroy(worker);
        return;
    }
    worker_process_drop_socket(worker);
    stop_asking(worker);
    worker->suspected = false;
    worker_process_move(worker, WORKER_LEAVING);
    worker_process_describe(worker, name);
    log_info("%s is asked to finish", name);
    launch_signal(worker->pid, SIGTERM);
    worker_process_arm(worker, now_of(worker) + worker->pool->ctx->drain + WORKER_KILL_GRACE_MS);
}

static void on_worker_alive(void *data)
{
    struct worker_process *worker = data;
    char name[OUTPUT_NAME_MAX];
    worker_process_describe(worker, name);
    log_info("%s answers a HELLO, it is left alone", name);
    stop_asking(worker);
    worker->suspected = false;
    worker->judged = now_of(worker);
    uv_timer_stop(&worker->timer);
}

void worker_process_suspect(struct worker_process *worker, bool late)
{
    const struct conf_pool *conf = worker->pool->conf;
    uint64_t now = now_of(worker);
    char name[OUTPUT_NAME_MAX];
    if (worker->state != WORKER_SERVING || !worker->settled || worker->suspected || conf == NULL)
        return;
    worker_process_describe(worker, name);
    if (late) {
        if (now - worker->served < conf->kill_after)
            return;
        log_error("%s hangs: it has not answered a call; killing it", name);
        worker->suspected = true; /* it is killed once */
        worker_process_kill(worker);
        return;
    }
    if (worker->judged != 0 && now - worker->judged < conf->worker_timeout)
        return;
    int r = readiness_open(worker->timer.loop, worker->path, worker->name.pool, on_worker_alive,
        worker, &worker->readiness);
    if (r < 0) {
        log_error("%s may hang, and cannot be asked: %s", name, strerror(-r));
        return;
    }
    log_warning("%s seems to hang, asking it", name);
    worker->suspected = true;
    worker_process_arm(worker, now + conf->worker_timeout);
}

void worker_process_kill(struct worker_process *worker)
{
    if (worker->pid <= 0)
        return;
    worker->killed = true;
    launch_signal(worker->pid, SIGKILL);
}
