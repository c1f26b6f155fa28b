/*
 * remains_add() sends SIGTERM and looks every LOOK_MS whether the group has members. on_look() says
 * once that there are some, kills them when their time is over, and forgets the group when it is
 * empty; or END_MS after it was killed: then its members have ended and wait to be reaped by
 * their parents, or are caught in the kernel.
 *
 * The group's number is not given to any other as long as it has members; between two looks it
 * could be, if all numbers were used up in that time.
 */

#include "frontd/supervisor/workers/remains.h"

#include <errno.h>
#include <signal.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/system/process.h"

enum { LOOK_MS = 50, END_MS = 2000 };

bool remains_exist(pid_t leader)
{
    return kill(-leader, 0) == 0 || errno == EPERM;
}

static void describe(const struct remains *remains, char out[OUTPUT_NAME_MAX])
{
    const struct worker_dir_process *process = &remains->process;
    snprintf(out, OUTPUT_NAME_MAX, "worker %s/%u (pid %ld)", process->name.pool, process->name.slot,
        (long)process->pid);
}

static void on_remains_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

void remains_destroy(struct remains *remains)
{
    output_close(remains->output);
    list_remove(&remains->node);
    uv_close((uv_handle_t *)&remains->timer, on_remains_closed);
}

static void forget(struct remains *remains)
{
    struct workers_ctx *ctx = remains->ctx;
    remains_destroy(remains);
    ctx->ops->changed(ctx);
}

static void on_look(uv_timer_t *timer)
{
    struct remains *remains = timer->data;
    uint64_t now = uv_now(timer->loop);
    char name[OUTPUT_NAME_MAX];
    describe(remains, name);
    if (!remains_exist(remains->process.pid)) {
        if (remains->told)
            log_info("%s: what it had left behind has ended", name);
        forget(remains);
        return;
    }
    if (!remains->told)
        log_info("%s has left processes of its group behind: they have %llu ms to end", name,
            (unsigned long long)(remains->until > now ? remains->until - now : 0));
    remains->told = true;
    if (now < remains->until)
        return;
    if (!remains->killed) {
        log_warning("%s: what it has left behind is still there, killing it", name);
        remains_kill(remains);
        return;
    }
    if (process_group_lives(remains->process.pid, remains->process.birth))
        log_error("%s: what it has left behind does not end", name);
    else
        log_info("%s: what it had left behind has ended", name);
    forget(remains);
}

void remains_kill(struct remains *remains)
{
    if (remains->killed)
        return;
    kill(-remains->process.pid, SIGKILL);
    remains->killed = true;
    remains->until = uv_now(remains->timer.loop) + END_MS;
}

void remains_add(struct workers_ctx *ctx, const struct worker_dir_process *process,
    struct output *output, uint64_t until, bool asked)
{
    struct remains *remains = mem_zalloc(sizeof(*remains));
    if (remains == NULL) { /* they could not be looked after */
        kill(-process->pid, SIGKILL);
        output_close(output);
        return;
    }
    remains->ctx = ctx;
    remains->process = *process;
    remains->output = output;
    remains->until = until;
    CHECK(uv_timer_init(ctx->loop, &remains->timer) == 0);
    remains->timer.data = remains;
    list_append(&ctx->remains, &remains->node);
    if (until == 0) {
        remains_kill(remains);
        remains->told = true;
    } else if (!asked) {
        kill(-process->pid, SIGTERM);
    }
    CHECK(uv_timer_start(&remains->timer, on_look, LOOK_MS, LOOK_MS) == 0);
}
