#include <unistd.h>

#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/ipc/shm_workers.h"
#include "frontd/supervisor/methods/methods.h"
#include "frontd/system/process.h"

static const char *shard_state(const struct shard_process *process)
{
    static const char *const names[] = {
        [SHARD_PROCESS_DOWN] = "down",
        [SHARD_PROCESS_STARTING] = "starting",
        [SHARD_PROCESS_READY] = "ready",
    };
    if (process->state != SHARD_PROCESS_READY)
        return names[process->state];
    switch (process->generation->role) {
    case GENERATION_SERVING: return "serving";
    case GENERATION_LEAVING: return "leaving";
    case GENERATION_STOPPING: return "stopping";
    default: return "ready";
    }
}

static void put_shard(struct json_writer *out, const struct shard_process *process)
{
    const struct share *share = process->generation->share;
    json_begin(out, NULL, '{');
    json_add_number(out, "shard", process->shard);
    json_add_number(out, "seat", process->seat);
    json_add_number(out, "generation", process->generation->number);
    json_add_text(out, "state", shard_state(process));
    if (process->pid > 0)
        json_add_integer(out, "pid", process->pid);
    if (share != NULL)
        json_add_number(out, "connections", share_connections(share, process->seat));
    json_end(out, '}');
}

static uint64_t put_shards(struct json_writer *out, const struct front *front)
{
    uint64_t connections = 0;
    json_begin(out, "shards", '[');
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *generation = front->generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nprocesses; i++) {
            const struct shard_process *process = &generation->processes[i];
            put_shard(out, process);
            if (generation->share != NULL)
                connections += share_connections(generation->share, process->seat);
        }
    }
    json_end(out, ']');
    return connections;
}

static void put_listeners(struct json_writer *out, const struct conf *conf)
{
    static const char *const protocols[] = {
        [CONF_PROTOCOL_HTTP] = "http",
        [CONF_PROTOCOL_FRAME] = "frame",
        [CONF_PROTOCOL_LINE] = "line",
    };
    json_begin(out, "listeners", '[');
    for (uint32_t i = 0; i < conf->nlisteners; i++) {
        const struct conf_listener *listener = &conf->listeners[i];
        json_begin(out, NULL, '{');
        json_add_text(out, "name", listener->name);
        json_add_text(out, "address", listener->text);
        json_add_text(out, "protocol", protocols[listener->protocol]);
        json_add_flag(out, "tls", listener->tls != NULL);
        json_end(out, '}');
    }
    json_end(out, ']');
}

static void put_names(struct json_writer *out, const char *key, char *const *names, size_t n)
{
    json_begin(out, key, '[');
    for (size_t i = 0; i < n; i++)
        json_add_text(out, NULL, names[i]);
    json_end(out, ']');
}

static void put_held_back(struct json_writer *out, const struct holds *holds)
{
    put_names(out, "paused", holds->paused, holds->npaused);
    put_names(out, "drained", holds->drained, holds->ndrained);
}

/* What all shards have counted since the front was started, and the calls that workers have. */
static void put_counts(struct json_writer *out, const struct share *share)
{
    struct share_worker_view view;
    uint64_t calls = 0;
    if (share == NULL)
        return;
    for (int at = 0; share_worker_next(share, NULL, &at, &view);)
        calls += view.load;
    struct metric_totals sums = metric_totals(share);
    json_add_number(out, "calls_in_progress", calls);
    json_begin(out, "totals", '{');
    json_add_number(out, "connections", sums.accepted);
    json_add_number(out, "requests", sums.requests);
    json_add_number(out, "calls", sums.calls);
    json_end(out, '}');
}

static void put_config(struct json_writer *out, const struct front *front,
    const struct generation *serving, uint64_t now)
{
    json_begin(out, "config", '{');
    json_add_text(out, "path", front->conf_name);
    json_add_seconds(out, "loaded_at", serving->loaded);
    json_add_seconds(out, "age", now - MIN(serving->loaded, now));
    json_end(out, '}');
}

/* Bytes that are resident: of the supervisor, and of all shards. */
static void put_memory(struct json_writer *out, const struct front *front)
{
    struct process_stat stat;
    uint64_t shards = 0;
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        const struct generation *generation = front->generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nprocesses; i++) {
            pid_t pid = generation->processes[i].pid;
            shards += pid > 0 && process_stat(pid, &stat) ? stat.memory : 0;
        }
    }
    json_begin(out, "memory", '{');
    json_add_number(out, "supervisor", process_stat(getpid(), &stat) ? stat.memory : 0);
    json_add_number(out, "shards", shards);
    json_end(out, '}');
}

void method_status(struct control_call *call, struct span params)
{
    (void)params;
    const struct supervisor *supervisor = methods_supervisor(call);
    const struct front *front = &supervisor->front;
    const struct generation *serving = front_serving(front);
    uint64_t now = front_time_of_day();
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    json_add_text(&out, "version", FRONTD_VERSION);
    json_add_integer(&out, "pid", getpid());
    json_add_number(&out, "uptime", (now - MIN(front->started, now)) / 1000);
    json_add_text(&out, "state", methods_reload_state(supervisor));
    json_add_number(&out, "generation", serving->number);
    uint64_t connections = put_shards(&out, front);
    json_add_number(&out, "connections", connections);
    put_counts(&out, serving->share);
    put_config(&out, front, serving, now);
    put_memory(&out, front);
    put_listeners(&out, serving->conf);
    if (front->report.outcome != RELOAD_OUTCOME_NONE) {
        json_begin(&out, "last_reload", '{');
        methods_put_reload(&out, &front->report);
        json_end(&out, '}');
    }
    put_held_back(&out, &front->holds);
    json_end(&out, '}');
    control_call_answer(call, &out);
}
