/*
 * managed_worker_start() binds the socket (once; it stays while processes come and go), starts the
 * program, reads its output, and asks it by a probe whether it is ready. on_ready(): it serves. A
 * moment later, when the shards have found it too, on_timer() retires the one that it replaces.
 * managed_worker_retire() unlinks the socket, so that no shard dials it any more, and sends
 * SIGTERM: the worker sends GOAWAY, finishes, and exits.
 *
 * Each worker leads a process group, and signals go to all of it. What is there of the group when
 * the worker has ended (the real one, where the command is a shell that was ended by SIGTERM) has
 * the rest of the worker's time: remains.c.
 *
 * - It ends without having been asked to: started again after a delay that doubles.
 * - It is not ready in time: killed, and that was its end.
 * - Its pool is in the config no more: not started again.
 * - It is to replace another one and either happens: it is forgotten, the old one stays.
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
#include "frontd/supervisor/workers/remains.h"
#include "frontd/supervisor/workers/worker_pool.h"
#include "frontd/system/process.h"

enum {
    DELAY_MAX_MS = 30 * 1000,
    STEADY_MS = 10 * 1000, /* who served for this long has not "kept ending" */
    /* A shard sees a new socket by inotify, dials it and has its HELLO long before that. */
    SETTLE_MS = 250,
    KILL_GRACE_MS = 2000, /* what a worker gets beyond the drain limit before it is killed */
};

static uint64_t now_of(const struct managed_worker *worker)
{
    return uv_now(worker->timer.loop);
}

void managed_worker_describe(const struct managed_worker *worker, char out[OUTPUT_NAME_MAX])
{
    if (worker->pid > 0)
        snprintf(out, OUTPUT_NAME_MAX, "worker %s/%u (pid %ld)", worker->name.pool,
            worker->name.slot, (long)worker->pid);
    else
        snprintf(out, OUTPUT_NAME_MAX, "worker %s/%u", worker->name.pool, worker->name.slot);
}

uint64_t managed_worker_delay(uint64_t first, unsigned failures)
{
    uint64_t delay = first;
    for (unsigned i = 1; i < failures && delay < DELAY_MAX_MS; i++)
        delay = MIN(delay * 2, (uint64_t)DELAY_MAX_MS);
    return delay;
}

static void on_ready(void *data);

static void on_timer(uv_timer_t *timer)
{
    struct managed_worker *worker = timer->data;
    char who[OUTPUT_NAME_MAX];
    managed_worker_describe(worker, who);
    switch (worker->state) {
    case MANAGED_WAITING: managed_worker_start(worker); break;
    case MANAGED_STARTING:
        log_error("%s is not ready in time: %s; killing it", who, probe_wrong(worker->probe));
        managed_worker_kill(worker);
        break;
    case MANAGED_SERVING:
        if (worker->suspected) {
            log_error("%s hangs: it does not answer a HELLO; killing it", who);
            managed_worker_kill(worker);
            break;
        }
        worker->settled = true;
        if (worker->old != NULL)
            managed_worker_retire(worker->old);
        managed_pool_settled(worker->pool);
        break;
    case MANAGED_LEAVING:
        log_warning("%s is still there after the drain limit, killing it", who);
        managed_worker_kill(worker);
        break;
    }
}

void managed_worker_arm(struct managed_worker *worker, uint64_t due)
{
    uint64_t now = now_of(worker);
    worker->due = due;
    CHECK(uv_timer_start(&worker->timer, on_timer, due > now ? due - now : 0, 0) == 0);
}

struct managed_worker *managed_worker_new(
    struct managed_pool *pool, uint32_t slot, struct managed_worker *old)
{
    struct managed_worker *worker = mem_zalloc(sizeof(*worker));
    if (worker == NULL) {
        log_error("worker %s/%u: no memory for it", pool->name, slot);
        return NULL;
    }
    worker->pool = pool;
    worker->old = old;
    worker->pid = worker->listener = -1;
    worker->name.slot = slot;
    memcpy(worker->name.pool, pool->name, sizeof(worker->name.pool));
    CHECK(uv_timer_init(pool->managed->loop, &worker->timer) == 0);
    worker->timer.data = worker;
    list_append(&pool->workers, &worker->node);
    return worker;
}

static void on_timer_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

/* Whether the path is the socket that was made there. */
static bool is_in_place(const struct managed_worker *worker, bool *ret_there)
{
    struct stat st;
    bool found = lstat(worker->path, &st) == 0;
    *ret_there = found || (errno != ENOENT && errno != ENOTDIR);
    if (!found || worker->ino == 0)
        return *ret_there; /* as far as anybody can tell */
    return st.st_dev == worker->dev && st.st_ino == worker->ino;
}

bool managed_worker_lost_socket(const struct managed_worker *worker)
{
    bool there;
    char who[OUTPUT_NAME_MAX];
    if (worker->path[0] == '\0' || is_in_place(worker, &there))
        return false;
    managed_worker_describe(worker, who);
    log_warning("%s: its socket %s was %s: another one takes its place", who, worker->path,
        there ? "replaced" : "removed");
    return true;
}

/* Nobody can dial it any more. */
void managed_worker_drop_socket(struct managed_worker *worker)
{
    bool there;
    if (worker->path[0] != '\0' && is_in_place(worker, &there))
        unlink(worker->path);
    worker->path[0] = '\0';
    if (worker->listener >= 0)
        close(worker->listener);
    worker->listener = -1;
}

struct managed_worker *managed_worker_successor(const struct managed_worker *worker)
{
    list_for_each (node, &worker->pool->workers) {
        struct managed_worker *other = container_of(node, struct managed_worker, node);
        if (other->old == worker)
            return other;
    }
    return NULL;
}

static void close_probe(struct managed_worker *worker)
{
    probe_close(worker->probe);
    worker->probe = NULL;
}

static void release_process(struct managed_worker *worker)
{
    output_close(worker->output);
    worker->output = NULL;
    close_probe(worker);
    worker->pid = -1;
    worker->settled = worker->suspected = worker->killed = false;
    worker->judged = 0;
    uv_timer_stop(&worker->timer);
}

void managed_worker_destroy(struct managed_worker *worker)
{
    struct managed_worker *successor = managed_worker_successor(worker);
    if (successor != NULL)
        successor->old = NULL;
    managed_worker_drop_socket(worker);
    release_process(worker);
    list_remove(&worker->node);
    uv_close((uv_handle_t *)&worker->timer, on_timer_closed);
}

static void wait_for_restart(struct managed_worker *worker)
{
    uint64_t delay = managed_worker_delay(worker->pool->conf->restart_delay, worker->failures);
    worker->state = MANAGED_WAITING;
    log_info("worker %s/%u will be started again in %llu ms", worker->name.pool, worker->name.slot,
        (unsigned long long)delay);
    managed_worker_arm(worker, now_of(worker) + delay);
}

/* It has no process, though nobody asked for its end. */
static void fall(struct managed_worker *worker)
{
    if (worker->old != NULL) {
        log_error("pool %s: a new worker cannot take over, the old ones stay until the next reload",
            worker->name.pool);
        managed_pool_stop_rolling(worker->pool);
        managed_worker_destroy(worker);
    } else if (managed_worker_successor(worker) != NULL || worker->pool->conf == NULL) {
        managed_worker_destroy(worker);
    } else {
        wait_for_restart(worker);
    }
}

void managed_worker_note_socket(struct managed_worker *worker)
{
    struct stat st;
    bool there = lstat(worker->path, &st) == 0 && S_ISSOCK(st.st_mode);
    worker->dev = there ? st.st_dev : 0;
    worker->ino = there ? st.st_ino : 0;
}

static int bind_socket(struct managed_worker *worker)
{
    struct managed_pool *pool = worker->pool;
    if (worker->listener >= 0)
        return 0;
    worker->name.serial = pool->serial + 1;
    int fd = managed_dir_bind(pool->managed->dir, &worker->name, &pool->managed->user);
    if (fd < 0)
        return fd;
    worker->listener = fd;
    pool->serial = worker->name.serial;
    managed_dir_path(pool->managed->dir, &worker->name, worker->path);
    managed_worker_note_socket(worker);
    return 0;
}

int managed_worker_probe(struct managed_worker *worker)
{
    return probe_open(
        worker->timer.loop, worker->path, worker->name.pool, on_ready, worker, &worker->probe);
}

/* It runs. What it lacks to be of use here is the end of it, which is seen like any other. */
static void attach(struct managed_worker *worker, int output)
{
    char who[OUTPUT_NAME_MAX];
    managed_worker_describe(worker, who);
    log_info("%s is started", who);
    worker->birth = process_birth(worker->pid);
    worker->state = MANAGED_STARTING;
    int r = output_open(worker->timer.loop, output, who, &worker->output);
    if (r == 0)
        r = managed_worker_probe(worker);
    if (r < 0) {
        log_error("%s: cannot attend to it: %s; killing it", who, strerror(-r));
        managed_worker_kill(worker);
        return;
    }
    managed_worker_arm(worker, now_of(worker) + worker->pool->conf->start_timeout);
}

void managed_worker_start(struct managed_worker *worker)
{
    struct managed_pool *pool = worker->pool;
    char path[4096];
    int output = -1;
    CHECK(worker->state == MANAGED_WAITING && worker->pid < 0);
    worker->stamp = pool->wanted;
    const char *what = "make its socket";
    int r = bind_socket(worker);
    if (r == 0) {
        what = "find its program";
        r = launch_find(pool->conf->command[0], path, sizeof(path));
    }
    if (r == 0) {
        struct launch launch = {
            .path = path,
            .command = pool->conf->command,
            .n = pool->conf->ncommand,
            .user = &pool->managed->user,
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
    managed_note_processes(pool->managed);
}

static void on_ready(void *data)
{
    struct managed_worker *worker = data;
    char who[OUTPUT_NAME_MAX];
    managed_worker_describe(worker, who);
    log_info("%s is ready", who);
    close_probe(worker);
    worker->state = MANAGED_SERVING;
    worker->served = now_of(worker);
    managed_worker_arm(worker, worker->served + SETTLE_MS);
}

static void log_end(const struct managed_worker *worker, int status)
{
    char who[OUTPUT_NAME_MAX];
    bool asked = worker->state == MANAGED_LEAVING;
    managed_worker_describe(worker, who);
    if (WIFSIGNALED(status))
        log_write(asked ? LOG_INFO : LOG_ERROR, "%s was ended by signal %d", who, WTERMSIG(status));
    else
        log_write(asked && WEXITSTATUS(status) == 0 ? LOG_INFO : LOG_ERROR,
            "%s exited with status %d", who, WEXITSTATUS(status));
}

/* Others of its group are there still, with its output. */
static void leave_remains(struct managed_worker *worker)
{
    struct managed *managed = worker->pool->managed;
    const struct managed_process process = {
        .pid = worker->pid, .birth = worker->birth, .name = worker->name};
    bool asked = worker->state == MANAGED_LEAVING;
    uint64_t until = asked ? worker->due : now_of(worker) + managed->drain + KILL_GRACE_MS;
    remains_add(managed, &process, worker->output, worker->killed ? 0 : until, asked);
    worker->output = NULL;
}

void managed_worker_ended(struct managed_worker *worker, int status)
{
    bool steady = worker->state == MANAGED_SERVING && now_of(worker) - worker->served >= STEADY_MS;
    struct managed *managed = worker->pool->managed;
    bool leaves_some = remains_exist(worker->pid);
    /* What it said last comes before the news of its end. */
    if (!leaves_some) {
        output_close(worker->output);
        worker->output = NULL;
    }
    log_end(worker, status);
    if (leaves_some)
        leave_remains(worker);
    release_process(worker);
    if (worker->state == MANAGED_LEAVING) {
        managed_worker_destroy(worker);
    } else {
        worker->failures = steady ? 1 : worker->failures + 1;
        fall(worker);
    }
    managed_note_processes(managed);
}

void managed_worker_retire(struct managed_worker *worker)
{
    char who[OUTPUT_NAME_MAX];
    struct managed_worker *successor = managed_worker_successor(worker);
    if (worker->state == MANAGED_LEAVING)
        return;
    if (successor != NULL)
        successor->old = NULL;
    worker->old = NULL;
    if (worker->pid < 0) {
        managed_worker_destroy(worker);
        return;
    }
    managed_worker_drop_socket(worker);
    close_probe(worker);
    worker->suspected = false;
    worker->state = MANAGED_LEAVING;
    managed_worker_describe(worker, who);
    log_info("%s is asked to finish", who);
    launch_signal(worker->pid, SIGTERM);
    managed_worker_arm(worker, now_of(worker) + worker->pool->managed->drain + KILL_GRACE_MS);
}

static void on_alive(void *data)
{
    struct managed_worker *worker = data;
    char who[OUTPUT_NAME_MAX];
    managed_worker_describe(worker, who);
    log_info("%s answers a HELLO, it is left alone", who);
    close_probe(worker);
    worker->suspected = false;
    worker->judged = now_of(worker);
    uv_timer_stop(&worker->timer);
}

void managed_worker_suspect(struct managed_worker *worker, bool late)
{
    const struct conf_pool *conf = worker->pool->conf;
    uint64_t now = now_of(worker);
    char who[OUTPUT_NAME_MAX];
    if (worker->state != MANAGED_SERVING || !worker->settled || worker->suspected || conf == NULL)
        return;
    managed_worker_describe(worker, who);
    if (late) {
        if (now - worker->served < conf->kill_after)
            return;
        log_error("%s hangs: it has not answered a call; killing it", who);
        worker->suspected = true; /* it is killed once */
        managed_worker_kill(worker);
        return;
    }
    if (worker->judged != 0 && now - worker->judged < conf->worker_timeout)
        return;
    int r = probe_open(
        worker->timer.loop, worker->path, worker->name.pool, on_alive, worker, &worker->probe);
    if (r < 0) {
        log_error("%s may hang, and cannot be asked: %s", who, strerror(-r));
        return;
    }
    log_warning("%s seems to hang, asking it", who);
    worker->suspected = true;
    managed_worker_arm(worker, now + conf->worker_timeout);
}

void managed_worker_kill(struct managed_worker *worker)
{
    if (worker->pid <= 0)
        return;
    worker->killed = true;
    launch_signal(worker->pid, SIGKILL);
}
