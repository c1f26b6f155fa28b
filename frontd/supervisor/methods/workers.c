#include <errno.h>

#include "common/log.h"
#include "frontd/supervisor/methods/methods.h"
#include "frontd/supervisor/methods/worker_list.h"
#include "frontd/supervisor/workers/worker_process.h"
#include "frontd/system/process.h"

static unsigned count_bits(uint64_t set)
{
    return (unsigned)__builtin_popcountll(set);
}

/* What the kernel says of it; only of a process that can be one of this machine. */
static void put_process(struct json_writer *out, const struct worker_entry *entry, int64_t pid)
{
    struct process_stat stat;
    bool here = entry->address[0] == 'u'; /* unix: */
    if (pid == 0)
        return;
    json_add_integer(out, "pid", pid);
    if (!here || !process_stat((pid_t)pid, &stat))
        return;
    json_add_flag(out, "stopped", stat.stopped);
    json_add_number(out, "memory", stat.memory);
    json_add_seconds(out, "cpu_seconds", stat.cpu_ms);
}

/* Calls so far: the supervisor remembers what shards have forgotten, where it counts. */
static uint64_t served_by(const struct worker_entry *entry)
{
    return MAX(entry->view.calls, entry->managed == NULL ? 0 : entry->managed->calls);
}

static void put_worker(const struct worker_entry *entry, void *data)
{
    struct json_writer *out = data;
    uint64_t now = log_clock();
    const struct share_worker_view *view = &entry->view;
    json_begin(out, NULL, '{');
    json_add_text(out, "pool", entry->pool->name);
    json_add_text(out, "address", entry->address);
    json_add_text(out, "state", worker_list_state(entry));
    json_add_flag(out, "managed", entry->managed != NULL);
    json_add_flag(out, "drained", entry->drained);
    put_process(out, entry, worker_list_pid(entry));
    if (entry->managed != NULL && entry->managed->state == WORKER_SERVING)
        json_add_seconds(out, "age", now - MIN(entry->managed->served, now));
    if (entry->known) {
        json_add_number(out, "shards", count_bits(view->seats));
        json_add_number(out, "in_progress", view->load);
        json_add_number(out, "served", served_by(entry));
        json_add_number(out, "abandoned", view->abandoned);
        json_add_number(out, "concurrency", view->concurrency);
        if (view->sent != 0)
            json_add_seconds(out, "oldest", now - MIN(view->sent, now));
        if (entry->ejected_until != 0)
            json_add_seconds(out, "ejected_for", MAX(entry->ejected_until, now) - now);
        uint64_t warm = view->came + entry->pool->slow_start;
        if (view->came != 0 && now < warm)
            json_add_seconds(out, "slow_start_for", warm - now);
        if (view->hung != 0)
            json_add_seconds(out, "hung_for", now - MIN(view->hung, now));
    }
    json_end(out, '}');
}

void method_workers(struct control_call *call, struct span params)
{
    (void)params;
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    json_begin(&out, "workers", '[');
    if (worker_list(methods_supervisor(call), put_worker, &out) < 0)
        out.failed = true;
    json_end(&out, ']');
    json_end(&out, '}');
    control_call_answer(call, &out);
}
