#include "frontd/supervisor/reload_report.h"

#include <stdio.h>

#include "proto/json_read.h"

void reload_report_init(struct reload_report *report)
{
    list_init(&report->watchers);
}

void reload_report_begin(struct reload_report *report, bool upgrade, uint64_t at)
{
    report->number++;
    report->outcome = RELOAD_OUTCOME_PENDING;
    report->upgrade = upgrade;
    report->at = at;
    report->took = report->generation = report->open = report->moved = 0;
    report->reason[0] = '\0';
}

void reload_report_serves(
    struct reload_report *report, uint64_t generation, uint64_t open, uint64_t moved_before)
{
    report->generation = generation;
    report->open = open;
    report->moved_before = moved_before;
}

static struct reload_watcher *watcher_of(struct list *node)
{
    return container_of(node, struct reload_watcher, node);
}

void reload_report_progress(struct reload_report *report, uint64_t moved)
{
    if (report->outcome != RELOAD_OUTCOME_PENDING)
        return;
    if (report->generation != 0 && moved >= report->moved_before)
        report->moved = moved - report->moved_before;
    list_for_each_safe (node, &report->watchers) {
        struct reload_watcher *watcher = watcher_of(node);
        if (watcher->number == report->number)
            watcher->progress(watcher, report);
    }
}

static bool is_over(const struct reload_report *report, uint64_t number)
{
    return number < report->number ||
           (number == report->number && report->outcome != RELOAD_OUTCOME_PENDING);
}

void reload_report_end(struct reload_report *report, uint64_t took, const char *reason)
{
    if (report->outcome != RELOAD_OUTCOME_PENDING)
        return;
    report->outcome = reason[0] == '\0' ? RELOAD_OUTCOME_OK : RELOAD_OUTCOME_FAILED;
    report->took = took;
    snprintf(report->reason, sizeof(report->reason), "%s", reason);
    list_for_each_safe (node, &report->watchers) {
        struct reload_watcher *watcher = watcher_of(node);
        if (!is_over(report, watcher->number))
            continue;
        list_remove(&watcher->node);
        watcher->over(watcher, report);
    }
}

void reload_report_stop(struct reload_report *report)
{
    list_for_each (node, &report->watchers)
        watcher_of(node)->number = report->number;
    report->outcome = RELOAD_OUTCOME_PENDING;
    reload_report_end(report, 0, "frontd is told to stop");
}

void reload_report_watch(struct reload_report *report, struct reload_watcher *watcher)
{
    list_init(&watcher->node);
    if (is_over(report, watcher->number))
        watcher->over(watcher, report);
    else
        list_append(&report->watchers, &watcher->node);
}

const char *reload_report_outcome(const struct reload_report *report)
{
    static const char *const names[] = {
        [RELOAD_OUTCOME_NONE] = "none",
        [RELOAD_OUTCOME_PENDING] = "pending",
        [RELOAD_OUTCOME_OK] = "ok",
        [RELOAD_OUTCOME_FAILED] = "failed",
    };
    return names[report->outcome];
}

void reload_report_save(const struct reload_report *report, struct json_writer *out)
{
    json_begin(out, "reload", '{');
    json_add_number(out, "number", report->number);
    json_add_number(out, "at", report->at);
    json_end(out, '}');
}

void reload_report_restore(struct reload_report *report, struct span state)
{
    struct span reload = json_read_member(state, "reload");
    /* An upgrade is in progress, whether the program before has numbered it or not. */
    report->number = json_read_number(json_read_member(reload, "number"), UINT64_MAX - 1, 1);
    report->at = json_read_number(json_read_member(reload, "at"), UINT64_MAX, 0);
    report->number = MAX(report->number, (uint64_t)1);
    report->outcome = RELOAD_OUTCOME_PENDING;
    report->upgrade = true;
}
