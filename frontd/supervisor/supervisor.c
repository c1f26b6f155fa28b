/*
 * Signals and the ends of processes are events of a reload (reload.c); supervisor_step() does what
 * it says. At the start the shards of the first generation are made like those of any other.
 *
 * A replacement: the program of the shards to come checks the config (config_check.c): this
 * one, or for SIGUSR2 the binary on disk, which this process then becomes (execute.c), and which
 * goes on where this one was (reexec_state.c); new shards start beside the old ones; when all are
 * ready the old ones give them their clients and end. Whatever fails before that is logged, and the
 * old ones serve on.
 */

#include "frontd/supervisor/supervisor.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/wait.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/config/file.h"
#include "frontd/ipc/metric_sums.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/ipc/shm_clients.h"
#include "frontd/supervisor/adopt.h"
#include "frontd/supervisor/hold_back.h"
#include "frontd/supervisor/oddities.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/reexec_state.h"
#include "frontd/supervisor/startup.h"

void supervisor_blame(struct supervisor *supervisor, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(supervisor->reason, sizeof(supervisor->reason), format, args);
    va_end(args);
    log_error("%s", supervisor->reason);
}

/* The program of the shards that the reload in progress will start, as a name for the log. */
static const char *next_program(const struct supervisor *supervisor)
{
    return supervisor->reload.upgrade ? supervisor->front.paths.exe : "frontd";
}

/* Tells the service manager what `systemctl status` shows. */
static void tell_status(const struct supervisor *supervisor)
{
    const struct generation *generation = front_serving(&supervisor->front);
    sd_notify_status(&supervisor->sd_notify, "%u shards, %u listeners%s%s", generation->nprocesses,
        generation->conf->nlisteners,
        supervisor->reason[0] == '\0' ? "" : "; the last reload came to nothing: ",
        supervisor->reason);
}

void supervisor_close_handles(struct supervisor *supervisor)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    sd_notify_close(&supervisor->sd_notify);
    for (size_t i = 0; i < ARRAY_LEN(supervisor->signals); i++)
        uv_close((uv_handle_t *)&supervisor->signals[i], NULL);
    uv_close((uv_handle_t *)&supervisor->deadline, NULL);
    uv_close((uv_handle_t *)&supervisor->look, NULL);
    rotation_close(&supervisor->rotation);
    control_close(&supervisor->control);
    asks_close(&supervisor->asks);
    admins_close(&supervisor->admins);
}

void supervisor_forget(struct supervisor *supervisor, struct generation *generation)
{
    size_t i = supervisor->front.generations[0] == generation ? 0 : 1;
    supervisor->front.generations[i] = NULL;
    generation_close(generation);
}

/* Logs what was counted, over all generations that shared memory. */
static void log_sums(const struct generation *generation)
{
    if (generation == NULL || generation->share == NULL)
        return;
    struct metric_totals sums = metric_totals(generation->share);
    log_info(
        "served %llu connections, %llu requests, %llu calls; %llu connections moved, %llu pushes "
        "dropped, %llu lost between shards",
        (unsigned long long)sums.accepted, (unsigned long long)sums.requests,
        (unsigned long long)sums.calls, (unsigned long long)sums.handed_over,
        (unsigned long long)sums.dropped, (unsigned long long)sums.unheard);
}

static void stop_when_alone(struct supervisor *supervisor);

static void on_workers_gone(void *data)
{
    stop_when_alone(data);
}

/*
 * Stopping: workers go when no shard needs them any more, then the admin process, which tells of
 * them until then; the loop ends when no process is left.
 */
static void stop_when_alone(struct supervisor *supervisor)
{
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        struct generation *generation = supervisor->front.generations[i];
        if (generation != NULL && generation_alive(generation))
            return;
    }
    uv_timer_stop(&supervisor->deadline);
    if (!supervisor->workers.ctx.stopping) {
        if (workers_count(&supervisor->workers) > 0) /* they have as long as the shards had */
            sd_notify_stopping(
                &supervisor->sd_notify, supervisor->workers.ctx.drain + 2ULL * RELOAD_GRACE_MS);
        workers_stop(&supervisor->workers, on_workers_gone, supervisor);
        return;
    }
    if (workers_count(&supervisor->workers) > 0)
        return;
    admins_stop(&supervisor->admins, supervisor->at_once);
    if (admins_alive(&supervisor->admins))
        return;
    log_sums(front_serving(&supervisor->front));
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            supervisor_forget(supervisor, supervisor->front.generations[i]);
    }
    if (!uv_is_closing((uv_handle_t *)&supervisor->deadline) && supervisor->check.pid < 0)
        supervisor_close_handles(supervisor);
}

bool supervisor_admin_ended(struct supervisor *supervisor, pid_t pid, int status)
{
    bool ours = admins_ended(&supervisor->admins, pid, status);
    if (ours && supervisor->reload.state == RELOAD_STOPPING)
        stop_when_alone(supervisor);
    return ours;
}

void supervisor_stop_at_once(struct supervisor *supervisor)
{
    log_info("stopping at once");
    supervisor->at_once = true;
    supervisor_step(supervisor, RELOAD_ON_STOP);
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            generation_kill(supervisor->front.generations[i]);
    }
    if (!supervisor->workers.ctx.stopping)
        workers_stop(&supervisor->workers, on_workers_gone, supervisor);
    workers_kill(&supervisor->workers);
}

static struct supervisor *supervisor_of(struct front *front)
{
    return container_of(front, struct supervisor, front);
}

static void on_shard_ready(struct front *front, struct generation *generation)
{
    struct supervisor *supervisor = supervisor_of(front);
    if (!generation_ready(generation))
        return;
    if (generation->role == GENERATION_STARTING && supervisor->front.generations[1] == generation) {
        supervisor_step(supervisor, RELOAD_ON_READY);
        return;
    }
    if (supervisor->announced)
        return;
    supervisor->announced = true;
    log_info(
        "ready: %u shards, %u listeners", generation->nprocesses, generation->conf->nlisteners);
    sd_notify_ready(&supervisor->sd_notify);
    tell_status(supervisor);
}

static void on_shard_gone(struct front *front, struct generation *generation)
{
    struct supervisor *supervisor = supervisor_of(front);
    bool alive = generation_alive(generation);
    if (supervisor->reload.state == RELOAD_STOPPING) {
        stop_when_alone(supervisor);
    } else if (generation->role == GENERATION_STARTING) {
        supervisor_blame(
            supervisor, "a new shard has ended before all were ready: the old ones serve on");
        supervisor_step(supervisor, RELOAD_ON_FAILED);
    } else if (!alive) {
        supervisor_forget(supervisor, generation);
        supervisor_step(supervisor, RELOAD_ON_GONE);
    }
}

static void on_shards_changed(struct front *front)
{
    reexec_write_record(front, &supervisor_of(front)->reload);
}

static void on_worker_hung(struct front *front, const char *file, bool late)
{
    workers_hung(&supervisor_of(front)->workers, file, late);
}

static void on_told(struct front *front, struct shard_process *process, const struct ctl_tell *tell,
    struct span text)
{
    asks_told(&supervisor_of(front)->asks, process, tell, text);
}

static const struct generation_ops ops = {
    .ready = on_shard_ready,
    .gone = on_shard_gone,
    .changed = on_shards_changed,
    .hung = on_worker_hung,
    .told = on_told,
};

void supervisor_init(struct supervisor *supervisor)
{
    front_init(&supervisor->front, &ops);
    reload_init(&supervisor->reload);
    config_check_init(&supervisor->check);
}

static void on_deadline(uv_timer_t *timer)
{
    struct supervisor *supervisor = timer->data;
    if (supervisor->reload.state == RELOAD_STOPPING) {
        log_warning("shards are still there after the drain limit, killing them");
        for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
            if (supervisor->front.generations[i] != NULL)
                generation_kill(supervisor->front.generations[i]);
        }
        return;
    }
    if (supervisor->reload.state == RELOAD_CHECKING)
        supervisor_blame(supervisor, "%s --check does not end: the config is as it was",
            next_program(supervisor));
    else if (supervisor->reload.state == RELOAD_STARTING)
        supervisor_blame(supervisor, "new shards are not ready within %d s: the old ones serve on",
            RELOAD_START_MS / 1000);
    else
        log_warning("old shards are still there after the drain limit, killing them");
    supervisor_step(supervisor, RELOAD_ON_TIME);
}

static void set_deadline(struct supervisor *supervisor)
{
    uint64_t at = supervisor->reload.deadline;
    uint64_t now = uv_now(&supervisor->front.loop);
    if (supervisor->reload.state == RELOAD_STOPPING)
        return;
    if (at == UINT64_MAX)
        uv_timer_stop(&supervisor->deadline);
    else
        uv_timer_start(&supervisor->deadline, on_deadline, at > now ? at - now : 0, 0);
}

/* What a reload asks for */

static void do_check(struct supervisor *supervisor)
{
    supervisor->reload.asked_at = uv_now(&supervisor->front.loop);
    reload_report_begin(&supervisor->front.report, supervisor->reload.upgrade, front_time_of_day());
    log_info("%s: checking %s", supervisor->reload.upgrade ? "replacing the program" : "reloading",
        supervisor->front.conf_name);
    sd_notify_reloading(&supervisor->sd_notify);
    /* SIGHUP does not need the binary on disk, which may be gone, or not meant to be used yet. */
    const char *exe = supervisor->reload.upgrade ? supervisor->front.paths.exe : PATHS_SELF;
    int r = config_check_start(
        &supervisor->check, &supervisor->front.loop, exe, supervisor->front.conf_name);
    if (r < 0) {
        supervisor_blame(supervisor, "cannot check the config: %s", strerror(-r));
        supervisor_step(supervisor, RELOAD_ON_REFUSED);
    }
}

static void do_end_check(struct supervisor *supervisor)
{
    config_check_kill(&supervisor->check);
}

/* Stops the loop: execute_upgrade() comes next. */
static void do_execute(struct supervisor *supervisor)
{
    supervisor->execute = true;
    uv_stop(&supervisor->front.loop);
}

static void do_start(struct supervisor *supervisor)
{
    struct buf text = {0};
    struct conf *conf;
    char error[512];
    struct generation *next = NULL;
    struct buf oddities = {0};
    const struct conf_findings findings = {.odd = oddities_keep, .data = &oddities};
    supervisor->endpoints_before = supervisor->front.endpoints;
    int r = conf_file_try(
        supervisor->front.conf_name, &findings, &text, &conf, error, sizeof(error));
    oddities_tell(&oddities);
    if (r == 0) {
        bool stays = strcmp(conf->run_dir, front_serving(&supervisor->front)->conf->run_dir) == 0;
        if (!stays) /* where it is locked, and where the next supervisor looks for shards */
            snprintf(error, sizeof(error), "run_dir cannot change while the front runs: it is %s",
                front_serving(&supervisor->front)->conf->run_dir);
        if (stays && workers_prepare(&supervisor->workers, conf, error, sizeof(error)) == 0 &&
            endpoints_bind(&supervisor->front.endpoints, conf, error, sizeof(error)) == 0 &&
            endpoints_renew(&supervisor->front.endpoints, conf, error, sizeof(error)) == 0) {
            workers_mend(&supervisor->workers);
            next = generation_new(&supervisor->front, conf, &text,
                front_serving(&supervisor->front), error, sizeof(error));
        } else {
            conf_free(conf);
        }
        buf_deinit(&text);
    }
    if (next == NULL) {
        supervisor_blame(supervisor, "%s", error);
        endpoints_roll_back(&supervisor->front.endpoints, &supervisor->endpoints_before);
        supervisor_step(supervisor, RELOAD_ON_REFUSED);
        return;
    }
    startup_warn_of_root(conf);
    supervisor->reload.drain = front_serving(&supervisor->front)->conf->drain;
    supervisor->front.generations[1] = next;
    rotation_renew(&supervisor->rotation, false);
    hold_back(&supervisor->front);
    generation_start(next);
}

static void do_abort(struct supervisor *supervisor)
{
    struct generation *next = supervisor->front.generations[1];
    next->role = GENERATION_STOPPING;
    generation_kill(next);
    endpoints_roll_back(&supervisor->front.endpoints, &supervisor->endpoints_before);
    if (!generation_alive(next)) {
        supervisor_forget(supervisor, next);
        supervisor_step(supervisor, RELOAD_ON_GONE);
    }
}

/*
 * Goes where the working directory's name leads now: new workers, and paths in their commands, are
 * of there.
 */
static void enter_directory(const struct supervisor *supervisor)
{
    int r = paths_enter(&supervisor->front.paths);
    if (r < 0)
        log_warning("the working directory %s: %s; new workers start in the one that it was",
            supervisor->front.paths.cwd, strerror(-r));
}

static uint64_t moved_so_far(const struct supervisor *supervisor)
{
    const struct generation *serving = front_serving(&supervisor->front);
    return serving == NULL || serving->share == NULL ? 0
                                                     : metric_totals(serving->share).handed_over;
}

/* Notes what there is to move. Shards that count in another memory do not say. */
static void note_serving(struct supervisor *supervisor)
{
    const struct generation *serving = supervisor->front.generations[0];
    const struct generation *old = supervisor->front.generations[1];
    uint64_t open = 0;
    for (uint32_t i = 0; old->share != NULL && i < old->nprocesses; i++)
        open += share_connections(old->share, old->processes[i].seat);
    reload_report_serves(&supervisor->front.report, serving->number,
        old->share == NULL ? RELOAD_REPORT_UNKNOWN : open, moved_so_far(supervisor));
}

static void do_leave(struct supervisor *supervisor)
{
    struct generation *old = supervisor->front.generations[0];
    struct generation *next = supervisor->front.generations[1];
    supervisor->front.generations[0] = next;
    supervisor->front.generations[1] = old;
    supervisor->reason[0] = '\0';
    supervisor->announced = true;
    supervisor->front.holds.log_level = -1;
    hold_back(&supervisor->front);
    log_init(next->conf->log_level, next->conf->log_format, "supervisor");
    log_info("generation %llu serves: %u shards, %u listeners", (unsigned long long)next->number,
        next->nprocesses, next->conf->nlisteners);
    int r = endpoints_listen(&supervisor->front.endpoints);
    if (r < 0)
        log_error("cannot listen on all addresses: %s", strerror(-r));
    generation_count_config(next);
    next->role = GENERATION_SERVING;
    old->role = GENERATION_LEAVING;
    note_serving(supervisor);
    reexec_write_record(&supervisor->front, &supervisor->reload); /* before any shard does so */
    generation_serve(next);
    generation_leave(old, next);
    if (!supervisor->reload.upgrade)
        enter_directory(supervisor);
    /* A new program leaves workers alone: what has changed waits for the next reload. */
    workers_apply(&supervisor->workers, next->conf, !supervisor->reload.upgrade);
    admins_renew(&supervisor->admins);
    endpoints_prune(&supervisor->front.endpoints, next->conf);
    reexec_write_record(&supervisor->front, &supervisor->reload);
    sd_listen_warn_unused(&supervisor->sd_listen, next->conf);
    sd_notify_ready(&supervisor->sd_notify);
    tell_status(supervisor);
    if (!generation_alive(old)) {
        supervisor_forget(supervisor, old);
        supervisor_step(supervisor, RELOAD_ON_GONE);
    }
}

static void do_retire(struct supervisor *supervisor)
{
    if (supervisor->front.generations[1] != NULL)
        generation_kill(supervisor->front.generations[1]);
}

static void do_finish(struct supervisor *supervisor)
{
    rotation_renew(&supervisor->rotation, false);
    workers_prune(&supervisor->workers);
    reexec_write_record(&supervisor->front, &supervisor->reload);
    supervisor_tell_progress(supervisor);
    reload_report_end(&supervisor->front.report,
        uv_now(&supervisor->front.loop) - supervisor->reload.asked_at, supervisor->reason);
    if (supervisor->reason[0] == '\0') {
        log_info("the old shards are gone, %llu ms after the signal",
            (unsigned long long)(uv_now(&supervisor->front.loop) - supervisor->reload.asked_at));
    } else { /* the old ones serve on; otherwise do_leave() has said it */
        sd_notify_ready(&supervisor->sd_notify);
        tell_status(supervisor);
    }
}

static void do_stop(struct supervisor *supervisor)
{
    uint64_t drain = front_serving(&supervisor->front)->conf->drain;
    reload_report_stop(&supervisor->front.report);
    log_info("stopping: calls have %llu ms to end", (unsigned long long)drain);
    sd_notify_stopping(
        &supervisor->sd_notify, drain + 2ULL * RELOAD_GRACE_MS); /* once for the last kill */
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            generation_drain(supervisor->front.generations[i]);
    }
    uv_timer_start(&supervisor->deadline, on_deadline, drain + RELOAD_GRACE_MS, 0);
    stop_when_alone(supervisor); /* none may be running */
}

/* Counts how a reload comes to its end by an event. */
static void count_reload(const struct supervisor *supervisor, enum reload_event event)
{
    const struct reload *reload = &supervisor->reload;
    enum metric_reload outcome;
    if (event == RELOAD_ON_READY && reload->state == RELOAD_STARTING)
        outcome = METRIC_RELOAD_OK;
    else if (event == RELOAD_ON_REFUSED ||
             (event == RELOAD_ON_TIME && reload->state == RELOAD_CHECKING))
        outcome = METRIC_RELOAD_REFUSED;
    else if (event == RELOAD_ON_FAILED ||
             (event == RELOAD_ON_TIME && reload->state == RELOAD_STARTING))
        outcome = METRIC_RELOAD_FAILED;
    else
        return;
    generation_count_reload(front_serving(&supervisor->front),
        reload->upgrade ? METRIC_PROGRAM_PROGRAM : METRIC_PROGRAM_CONFIG, outcome);
}

void supervisor_step(struct supervisor *supervisor, enum reload_event event)
{
    static const struct {
        enum reload_action action;
        void (*run)(struct supervisor *supervisor);
    } table[] = {
        {RELOAD_DO_END_CHECK, do_end_check},
        {RELOAD_DO_ABORT, do_abort},
        {RELOAD_DO_RETIRE, do_retire},
        {RELOAD_DO_FINISH, do_finish},
        {RELOAD_DO_STOP, do_stop},
        {RELOAD_DO_EXECUTE, do_execute},
        {RELOAD_DO_START, do_start},
        {RELOAD_DO_LEAVE, do_leave},
        {RELOAD_DO_CHECK, do_check},
    };
    count_reload(supervisor, event);
    unsigned actions = reload_step(&supervisor->reload, event, uv_now(&supervisor->front.loop));
    set_deadline(supervisor);
    /* At most the last of them steps again. */
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (actions & table[i].action)
            table[i].run(supervisor);
    }
    supervisor_tell_progress(supervisor);
}

void supervisor_tell_progress(struct supervisor *supervisor)
{
    reload_report_progress(&supervisor->front.report, moved_so_far(supervisor));
}

void supervisor_check_ended(struct supervisor *supervisor, int status)
{
    config_check_ended(&supervisor->check);
    if (supervisor->reload.state == RELOAD_STOPPING) {
        stop_when_alone(supervisor);
        return;
    }
    if (supervisor->reload.state == RELOAD_ENDING) {
        supervisor_step(
            supervisor, RELOAD_ON_GONE); /* it was killed: what it says does not count */
        return;
    }
    bool accepted = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    enum identity identity = supervisor->check.identity;
    if (accepted && (identity == IDENTITY_FRONTD ||
                        (identity > IDENTITY_UNKNOWN && !supervisor->reload.upgrade))) {
        supervisor_step(supervisor, RELOAD_ON_CHECKED);
        return;
    }
    const char *program = next_program(supervisor);
    if (accepted && identity == IDENTITY_OTHER)
        supervisor_blame(supervisor,
            "%s is a frontd that cannot read this program's state: nothing changes", program);
    else if (accepted && identity == IDENTITY_CHILD)
        supervisor_blame(supervisor,
            "%s runs frontd as a child: a script has to end in exec, so that it becomes frontd: "
            "nothing changes",
            program);
    else if (accepted)
        supervisor_blame(
            supervisor, "%s is not frontd: it did not identify itself: nothing changes", program);
    else if (WIFSIGNALED(status))
        supervisor_blame(supervisor, "%s --check was ended by signal %d: nothing changes", program,
            WTERMSIG(status));
    else
        supervisor_blame(supervisor, "%s --check says (status %d): %s: nothing changes", program,
            WEXITSTATUS(status), supervisor->check.text);
    supervisor_step(supervisor, RELOAD_ON_REFUSED);
}

void supervisor_go_on(struct supervisor *supervisor)
{
    struct generation *old = supervisor->front.generations[1];
    supervisor->reload.asked_at = uv_now(&supervisor->front.loop);
    supervisor->reload.drain = front_serving(&supervisor->front)->conf->drain;
    reload_found(&supervisor->reload, old != NULL, uv_now(&supervisor->front.loop));
    set_deadline(supervisor);
    rotation_renew(&supervisor->rotation, true);
    hold_back(&supervisor->front);
    generation_serve(front_serving(&supervisor->front));
    sd_notify_ready(&supervisor->sd_notify);
    tell_status(supervisor);
    if (old == NULL) {
        supervisor_step(supervisor, RELOAD_ON_CONFIG);
        return;
    }
    generation_leave(old,
        front_serving(&supervisor->front)); /* it may have been about to, or in the middle of it */
    if (!generation_alive(old)) {
        supervisor_forget(supervisor, old);
        supervisor_step(supervisor, RELOAD_ON_GONE);
    }
}
