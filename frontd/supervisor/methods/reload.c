/*
 * reload, upgrade, reload_wait: each waits for the end of a reload, tells how it gets on by
 * `progress`, and what it has come to by its answer. An upgrade ends this process, and the
 * connection with it; the client asks the program that follows, by reload_wait.
 */

#include "common/alloc.h"
#include "frontd/supervisor/methods/dry_run.h"
#include "frontd/supervisor/methods/methods.h"
#include "proto/errors.h"
#include "proto/json_read.h"

const char *methods_reload_state(const struct supervisor *supervisor)
{
    static const char *const names[] = {
        [RELOAD_STEADY] = "steady",
        [RELOAD_CHECKING] = "checking",
        [RELOAD_STARTING] = "starting",
        [RELOAD_LEAVING] = "handing over",
        [RELOAD_ENDING] = "giving up",
        [RELOAD_STOPPING] = "stopping",
    };
    return names[supervisor->reload.state];
}

void methods_put_reload(struct json_writer *out, const struct reload_report *report)
{
    bool over = report->outcome != RELOAD_OUTCOME_PENDING;
    uint64_t now = front_time_of_day();
    json_add_number(out, "number", report->number);
    json_add_text(out, "kind", report->upgrade ? "upgrade" : "reload");
    json_add_text(out, "outcome", reload_report_outcome(report));
    json_add_seconds(out, "at", report->at);
    json_add_seconds(out, "seconds", over ? report->took : now - MIN(report->at, now));
    if (report->reason[0] != '\0')
        json_add_text(out, "reason", report->reason);
    if (report->generation == 0)
        return;
    json_add_number(out, "generation", report->generation);
    if (report->open == RELOAD_REPORT_UNKNOWN)
        return;
    json_add_number(out, "moved", report->moved);
    json_add_number(out, "stayed", report->open - MIN(report->moved, report->open));
}

struct waiting {
    struct reload_watcher watcher;
    struct control_call *call;
};

static struct waiting *waiting_of(struct reload_watcher *watcher)
{
    return container_of(watcher, struct waiting, watcher);
}

static void on_progress(struct reload_watcher *watcher, const struct reload_report *report)
{
    struct control_call *call = waiting_of(watcher)->call;
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    json_add_text(&out, "state", methods_reload_state(methods_supervisor(call)));
    methods_put_reload(&out, report);
    json_end(&out, '}');
    control_call_push(call, "progress", &out);
}

static void on_over(struct reload_watcher *watcher, const struct reload_report *report)
{
    struct waiting *waiting = waiting_of(watcher);
    struct control_call *call = waiting->call;
    bool is_it = watcher->number == report->number;
    mem_free(waiting);
    call->gone = NULL;
    if (!is_it) {
        control_call_fail(
            call, CONTROL_E_UNKNOWN, "that reload is over; another one came after it");
        return;
    }
    if (report->outcome == RELOAD_OUTCOME_FAILED) {
        control_call_fail(call, CONTROL_E_FAILED, "%s", report->reason);
        return;
    }
    struct json_writer out = {0};
    json_begin(&out, NULL, '{');
    methods_put_reload(&out, report);
    json_end(&out, '}');
    control_call_answer(call, &out);
}

static void on_gone(struct control_call *call)
{
    struct waiting *waiting = call->data;
    list_remove(&waiting->watcher.node);
    mem_free(waiting);
}

/* Has a call wait for the end of a reload. Returns false where it has been answered: no memory. */
static bool wait_for(struct control_call *call, uint64_t number)
{
    struct supervisor *supervisor = methods_supervisor(call);
    struct waiting *waiting = mem_zalloc(sizeof(*waiting));
    if (waiting == NULL) {
        control_call_fail(call, RPC_INTERNAL_ERROR, "no memory");
        return false;
    }
    *waiting = (struct waiting){
        .watcher = {.number = number, .progress = on_progress, .over = on_over}, .call = call};
    call->data = waiting;
    call->gone = on_gone;
    reload_report_watch(&supervisor->front.report, &waiting->watcher);
    return true;
}

static void begin(struct control_call *call, enum reload_event event)
{
    struct supervisor *supervisor = methods_supervisor(call);
    if (supervisor->reload.state == RELOAD_STOPPING) {
        control_call_fail(call, CONTROL_E_BUSY, "frontd is about to stop");
        return;
    }
    /* Watched first: it may be over before this returns. */
    if (wait_for(call, supervisor->front.report.number + 1))
        supervisor_step(supervisor, event);
}

void method_reload(struct control_call *call, struct span params)
{
    if (json_is_true(json_read_member(params, "dry_run")))
        dry_run_start(call);
    else
        begin(call, RELOAD_ON_CONFIG);
}

void method_upgrade(struct control_call *call, struct span params)
{
    (void)params;
    begin(call, RELOAD_ON_UPGRADE);
}

void method_reload_wait(struct control_call *call, struct span params)
{
    const struct reload_report *report = &methods_supervisor(call)->front.report;
    uint64_t number = json_read_number(json_read_member(params, "number"), UINT64_MAX - 1, 0);
    if (number == 0)
        control_call_fail(call, RPC_INVALID_PARAMS, "number: of a reload");
    else if (number > report->number + 1)
        control_call_fail(call, CONTROL_E_UNKNOWN, "there was no such reload");
    else
        wait_for(call, number);
}
