/*
 * survivor_add() opens a pidfd, and looks only then whether the process is the one that stands in
 * `pids`: from here on no other can get its place. survivor_retire() unlinks the socket and sends
 * SIGTERM to its process group; on_survivor_ended() forgets it, and leaves the rest of the group,
 * if there is any, to remains.c. What has not ended at the drain limit is killed.
 */

#include "frontd/supervisor/workers/survivors.h"

#include <signal.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/supervisor/workers/launch.h"
#include "frontd/supervisor/workers/remains.h"
#include "frontd/system/loop.h"
#include "frontd/system/process.h"

static void on_survivor_closed(uv_handle_t *handle)
{
    struct survivor *survivor = handle->data;
    if (--survivor->open > 0)
        return;
    close(survivor->pidfd);
    mem_free(survivor);
}

void survivor_destroy(struct survivor *survivor)
{
    list_remove(&survivor->node);
    uv_close((uv_handle_t *)&survivor->poll, on_survivor_closed);
    uv_close((uv_handle_t *)&survivor->limit, on_survivor_closed);
}

/* Signals the group as long as the worker itself is there: so the number is that of its group. */
static bool signal_group(const struct survivor *survivor, int number)
{
    return pidfd_send_signal(survivor->pidfd, 0, NULL, 0) == 0 &&
           launch_signal(survivor->process.pid, number) == 0;
}

static void leave_remains(const struct survivor *survivor)
{
    struct workers_ctx *ctx = survivor->ctx;
    uint64_t until = uv_now(ctx->loop) + ctx->drain + WORKER_KILL_GRACE_MS;
    if (survivor->leaving)
        until = survivor->until;
    remains_add(ctx, &survivor->process, NULL, survivor->killed ? 0 : until, survivor->asked);
}

static void on_survivor_ended(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct survivor *survivor = poll->data;
    struct workers_ctx *ctx = survivor->ctx;
    char path[WORKER_PATH_MAX];
    log_write(survivor->leaving ? LOG_INFO : LOG_WARNING,
        "worker %s/%u (pid %ld) of the frontd before has ended", survivor->process.name.pool,
        survivor->process.name.slot, (long)survivor->process.pid);
    worker_dir_path(ctx->dir, &survivor->process.name, path);
    if (!survivor->leaving)
        unlink(path);
    if (remains_exist(survivor->process.pid))
        leave_remains(survivor);
    survivor_destroy(survivor);
    ctx->ops->changed(ctx);
}

/*
 * Ends what is left of a worker that has ended, where its group's number is not that of another by
 * now.
 */
static void end_group(struct workers_ctx *ctx, const struct worker_dir_process *process)
{
    if (process_group_lives(process->pid, process->birth))
        remains_add(
            ctx, process, NULL, uv_now(ctx->loop) + ctx->drain + WORKER_KILL_GRACE_MS, false);
}

void survivor_add(struct workers_ctx *ctx, const struct worker_dir_process *process)
{
    int pidfd = pidfd_open(process->pid, 0);
    if (pidfd < 0) {
        if (process->same_boot) {
            log_warning("worker %s/%u (pid %ld) of the frontd before has ended meanwhile",
                process->name.pool, process->name.slot, (long)process->pid);
            end_group(ctx, process);
        }
        return;
    }
    uint64_t birth = process_birth(process->pid);
    struct survivor *survivor = NULL;
    if (birth != 0 && birth == process->birth)
        survivor = mem_zalloc(sizeof(*survivor));
    if (survivor == NULL || loop_poll_init(ctx->loop, &survivor->poll, pidfd) < 0) {
        close(pidfd);
        mem_free(survivor);
        return;
    }
    survivor->ctx = ctx;
    survivor->process = *process;
    survivor->pidfd = pidfd;
    survivor->open = 2;
    CHECK(uv_timer_init(ctx->loop, &survivor->limit) == 0);
    survivor->poll.data = survivor->limit.data = survivor;
    list_append(&ctx->survivors, &survivor->node);
    CHECK(uv_poll_start(&survivor->poll, UV_READABLE, on_survivor_ended) == 0);
    log_info("worker %s/%u (pid %ld) of the frontd before still runs: it serves until workers of "
             "ours do",
        process->name.pool, process->name.slot, (long)process->pid);
}

void survivor_kill(struct survivor *survivor)
{
    survivor->killed = signal_group(survivor, SIGKILL);
}

static void on_survivor_limit(uv_timer_t *timer)
{
    survivor_kill(timer->data);
}

void survivor_retire(struct survivor *survivor)
{
    char path[WORKER_PATH_MAX];
    if (survivor->leaving)
        return;
    survivor->leaving = true;
    worker_dir_path(survivor->ctx->dir, &survivor->process.name, path);
    unlink(path);
    survivor->asked = signal_group(survivor, SIGTERM);
    uint64_t limit = survivor->ctx->drain + WORKER_KILL_GRACE_MS;
    survivor->until = uv_now(survivor->ctx->loop) + limit;
    CHECK(uv_timer_start(&survivor->limit, on_survivor_limit, limit, 0) == 0);
}
