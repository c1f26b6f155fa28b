/*
 * survivor_add() opens a pidfd, and looks only then whether the process is the one that stands in
 * `pids`: from here on no other can get its place. survivor_retire() unlinks the socket and sends
 * SIGTERM; on_ended() forgets it. What has not ended at the drain limit is killed.
 */

#include "frontd/super/survivor.h"

#include <signal.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "common/log.h"
#include "common/mem.h"
#include "frontd/loop.h"
#include "frontd/super/managed.h"

enum { KILL_GRACE_MS = 2000 };

static void on_handle_closed(uv_handle_t *handle)
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
    uv_close((uv_handle_t *)&survivor->poll, on_handle_closed);
    uv_close((uv_handle_t *)&survivor->limit, on_handle_closed);
}

static void on_ended(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct survivor *survivor = poll->data;
    struct managed *managed = survivor->managed;
    char path[MANAGED_PATH_MAX];
    log_write(survivor->leaving ? LOG_INFO : LOG_WARNING,
        "worker %s/%u (pid %ld) of the frontd before has ended", survivor->process.name.pool,
        survivor->process.name.slot, (long)survivor->process.pid);
    managed_dir_path(managed->dir, &survivor->process.name, path);
    if (!survivor->leaving)
        unlink(path);
    survivor_destroy(survivor);
    managed_note_processes(managed);
    managed_tidy(managed);
}

void survivor_add(struct managed *managed, const struct managed_process *process)
{
    int pidfd = pidfd_open(process->pid, 0);
    if (pidfd < 0)
        return;
    uint64_t birth = managed_process_birth(process->pid);
    struct survivor *survivor = NULL;
    if (birth != 0 && birth == process->birth)
        survivor = mem_zalloc(sizeof(*survivor));
    if (survivor == NULL || loop_poll_init(managed->loop, &survivor->poll, pidfd) < 0) {
        close(pidfd);
        mem_free(survivor);
        return;
    }
    survivor->managed = managed;
    survivor->process = *process;
    survivor->pidfd = pidfd;
    survivor->open = 2;
    CHECK(uv_timer_init(managed->loop, &survivor->limit) == 0);
    survivor->poll.data = survivor->limit.data = survivor;
    list_append(&managed->survivors, &survivor->node);
    CHECK(uv_poll_start(&survivor->poll, UV_READABLE, on_ended) == 0);
    log_info("worker %s/%u (pid %ld) of the frontd before still runs: it serves until workers of "
             "ours do",
        process->name.pool, process->name.slot, (long)process->pid);
}

void survivor_kill(struct survivor *survivor)
{
    pidfd_send_signal(survivor->pidfd, SIGKILL, NULL, 0);
}

static void on_limit(uv_timer_t *timer)
{
    survivor_kill(timer->data);
}

void survivor_retire(struct survivor *survivor)
{
    char path[MANAGED_PATH_MAX];
    if (survivor->leaving)
        return;
    survivor->leaving = true;
    managed_dir_path(survivor->managed->dir, &survivor->process.name, path);
    unlink(path);
    pidfd_send_signal(survivor->pidfd, SIGTERM, NULL, 0);
    uint64_t limit = survivor->managed->drain + KILL_GRACE_MS;
    CHECK(uv_timer_start(&survivor->limit, on_limit, limit, 0) == 0);
}
