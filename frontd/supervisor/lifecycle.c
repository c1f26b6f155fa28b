/*
 * The supervisor's start, its signals, and its end. lifecycle_run() reads the config and start()
 * makes the first generation, or goes on with the shards of a supervisor that was killed (adopt.c);
 * or resume() goes on where the program was that has executed this one (reexec_state.c). Then the
 * loop turns until nothing is left, or until this process is to become another program (execute.c).
 */

#include "frontd/supervisor/lifecycle.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/log.h"
#include "frontd/config/file.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/supervisor/adopt.h"
#include "frontd/supervisor/control/control_socket.h"
#include "frontd/supervisor/execute.h"
#include "frontd/supervisor/hold_back.h"
#include "frontd/supervisor/oddities.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/reexec_state.h"
#include "frontd/supervisor/startup.h"
#include "frontd/supervisor/supervisor.h"
#include "frontd/supervisor/workers/strays.h"
#include "frontd/system/folder.h"
#include "frontd/system/loop.h"
#include "frontd/system/privileges.h"

/* Bounds of log lines of one kind: they tell of what operators and processes do, not of clients. */
enum { LINES_AT_ONCE = 1000, LINES_A_SECOND = 100 };

static void on_look(uv_timer_t *timer)
{
    struct supervisor *supervisor = timer->data;
    uint64_t elapsed = uv_now(&supervisor->front.loop) - supervisor->looked_at;
    supervisor->looked_at = uv_now(&supervisor->front.loop);
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            generation_check(supervisor->front.generations[i], elapsed);
    }
    workers_look(&supervisor->workers, front_serving(&supervisor->front)->share);
    admins_check(&supervisor->admins, elapsed);
    supervisor_tell_progress(supervisor);
    generation_book(&supervisor->front);
    generation_count_log(front_serving(&supervisor->front));
}

static struct shard_process *process_of(struct supervisor *supervisor, pid_t pid)
{
    for (size_t g = 0; g < FRONT_GENERATIONS; g++) {
        struct generation *generation = supervisor->front.generations[g];
        for (uint32_t i = 0; generation != NULL && i < generation->nprocesses; i++) {
            if (generation->processes[i].pid == pid)
                return &generation->processes[i];
        }
    }
    return NULL;
}

static void reap(struct supervisor *supervisor)
{
    int status;
    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        struct shard_process *process = process_of(supervisor, pid);
        if (process != NULL)
            shard_process_ended(process, status);
        else if (pid == supervisor->check.pid)
            supervisor_check_ended(supervisor, status);
        else if (!supervisor_admin_ended(supervisor, pid, status))
            workers_process_ended(&supervisor->workers, pid, status);
    }
}

/* Opens the access log's file anew. The other log is standard error. */
static void reopen_logs(struct supervisor *supervisor)
{
    bool any = false;
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        struct generation *generation = supervisor->front.generations[i];
        const struct conf_access_log *log = generation == NULL ? NULL
                                                               : generation->conf->access_log;
        any |= log != NULL && log->path != NULL;
        if (generation != NULL)
            generation_reopen(generation);
    }
    if (!any)
        log_info(
            "signal %d is ignored: the log is standard error, and there is no access log", SIGUSR1);
}

static void on_signal(uv_signal_t *handle, int number)
{
    struct supervisor *supervisor = handle->data;
    bool busy = supervisor->reload.state != RELOAD_STEADY;
    switch (number) {
    case SIGCHLD: reap(supervisor); break;
    case SIGHUP:
    case SIGUSR2:
        if (busy)
            log_info("signal %d: remembered until the reload in progress is over", number);
        supervisor_step(supervisor, number == SIGHUP ? RELOAD_ON_CONFIG : RELOAD_ON_UPGRADE);
        break;
    case SIGTERM:
        if (supervisor->reload.state == RELOAD_STOPPING)
            supervisor_stop_at_once(supervisor);
        else
            supervisor_step(supervisor, RELOAD_ON_STOP);
        break;
    case SIGINT:
    case SIGQUIT: supervisor_stop_at_once(supervisor); break;
    case SIGUSR1: reopen_logs(supervisor); break;
    default: break;
    }
}

/* Starting */

/* The admin process asks what frontctl asks, but can change nothing. */
static int attach_admin(void *data, int fd)
{
    struct supervisor *supervisor = data;
    return control_serve(&supervisor->control, fd, true);
}

static int init_loop(struct supervisor *supervisor)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGHUP, SIGUSR2, SIGUSR1};
    _Static_assert(ARRAY_LEN(numbers) == ARRAY_LEN(supervisor->signals), "one handle each");
    int r = loop_init(&supervisor->front.loop);
    if (r < 0)
        return r;
    CHECK(uv_timer_init(&supervisor->front.loop, &supervisor->deadline) == 0);
    supervisor->deadline.data = supervisor;
    CHECK(uv_timer_init(&supervisor->front.loop, &supervisor->look) == 0);
    supervisor->look.data = supervisor;
    asks_init(&supervisor->asks, &supervisor->front);
    supervisor->looked_at = uv_now(&supervisor->front.loop);
    CHECK(uv_timer_start(&supervisor->look, on_look, SHARE_BEAT_MS, SHARE_BEAT_MS) == 0);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        CHECK(uv_signal_init(&supervisor->front.loop, &supervisor->signals[i]) == 0);
        supervisor->signals[i].data = supervisor;
        r = uv_signal_start(&supervisor->signals[i], on_signal, numbers[i]);
        if (r < 0)
            return r;
    }
    rotation_init(&supervisor->rotation, &supervisor->front);
    admins_init(&supervisor->admins, &supervisor->front, attach_admin, supervisor);
    sd_notify_start(&supervisor->sd_notify, &supervisor->front.loop);
    supervisor->loop_open = true;
    /* A program that was executed in place had them blocked until now. */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

/* Reads what the service manager wants to hear, and takes the sockets that it has passed. */
static void meet_manager(struct supervisor *supervisor)
{
    sd_notify_init(&supervisor->sd_notify);
    sd_listen_take(&supervisor->sd_listen);
    supervisor->front.endpoints.sd_listen = &supervisor->sd_listen;
}

static void add_hint(char *error, size_t error_size)
{
    size_t n = strlen(error);
    snprintf(error + n, error_size - n,
        ". There is no " RECORD_NAME " in run_dir: if these are shards of a front that was killed, "
        "they cannot be taken over; kill them, or they end by themselves within five minutes");
}

/* Makes the first generation, or goes on with shards that were found. conf: consumed. */
static int start(struct supervisor *supervisor, struct conf *conf, const struct buf *text)
{
    char error[512];
    bool found = false;
    bool lost = false;
    supervisor->front.connections_each = startup_raise_fd_limit(conf);
    startup_warn_of_root(conf);
    int r = paths_try_self();
    if (r < 0) {
        log_error("cannot start: " PATHS_SELF_WANTED, strerror(-r));
        conf_free(conf);
        return r;
    }
    r = init_loop(supervisor);
    if (r < 0)
        log_error("cannot start: %s", log_error_text(r));
    else
        r = startup_lock_run_dir(&supervisor->front, conf); /* from here on signals may come */
    if (r < 0) {
        conf_free(conf);
        return r;
    }
    workers_init(&supervisor->workers, &supervisor->front.loop, conf->run_dir);
    endpoints_await(&supervisor->front.endpoints, &conf->admin);
    error[0] = '\0';
    r = adopt_shards(&supervisor->front, conf, &found, &lost, error, sizeof(error));
    if (r == 0 && !found)
        startup_identity(&supervisor->front);
    if (r < 0 && error[0] == '\0')
        snprintf(error, sizeof(error), "cannot start: %s", strerror(-r));
    if (r == 0 && !found)
        r = workers_prepare(&supervisor->workers, conf, error, sizeof(error));
    if (r == 0 && !found)
        r = endpoints_bind(&supervisor->front.endpoints, conf, error, sizeof(error));
    if (r == -EADDRINUSE && lost)
        add_hint(error, sizeof(error));
    if (r == 0 && !found)
        r = endpoints_listen(&supervisor->front.endpoints);
    if (r == 0 && !found)
        sd_listen_warn_unused(&supervisor->sd_listen, conf);
    if (r < 0 || found)
        conf_free(conf);
    if (r == 0 && !found) {
        supervisor->front.generations[0] = generation_new(
            &supervisor->front, conf, text, NULL, error, sizeof(error));
        r = supervisor->front.generations[0] == NULL ? -EINVAL : 0;
        if (r == 0)
            generation_count_config(supervisor->front.generations[0]);
    }
    if (r < 0) {
        log_error("%s", error);
        if (supervisor->front.generations[0] ==
            NULL) /* else the paths are those of shards that serve on */
            endpoints_prune(&supervisor->front.endpoints, NULL);
        return r;
    }
    workers_apply(&supervisor->workers, front_serving(&supervisor->front)->conf, true);
    admins_renew(&supervisor->admins);
    if (found) {
        supervisor_go_on(supervisor);
        return 0;
    }
    rotation_renew(&supervisor->rotation, false);
    hold_back(&supervisor->front);
    generation_serve(supervisor->front.generations[0]);
    return 0;
}

/*
 * Opens run_dir, which the state does not have. Where that fails, the front serves on without a
 * record.
 */
static void open_run_dir_again(struct supervisor *supervisor, const struct conf *conf)
{
    char error[512];
    supervisor->front.run_dir_fd = folder_open(conf->run_dir, false, error, sizeof(error));
    if (supervisor->front.run_dir_fd < 0)
        log_error("run_dir %s; should this process be killed, its shards are not found", error);
    reexec_write_record(&supervisor->front, &supervisor->reload);
}

/* Keeps the capabilities that are needed, and no others. */
static void shed_privileges(void)
{
    int r = privileges_supervise();
    if (r < 0)
        log_warning("cannot give up all capabilities that are not needed: %s", strerror(-r));
}

/* This program was executed in the place of another one; state_fd is what that one has left. */
static int resume(struct supervisor *supervisor, int state_fd)
{
    char error[512];
    log_init(LOG_INFO, LOG_TEXT, "supervisor");
    meet_manager(supervisor);
    int r = init_loop(supervisor);
    supervisor->front.conf_name = supervisor->front.paths.conf;
    if (r == 0)
        r = reexec_read(&supervisor->front, &supervisor->reload, &supervisor->workers, state_fd,
            error, sizeof(error));
    else
        snprintf(error, sizeof(error), "%s", strerror(-r));
    if (r < 0) {
        log_error("cannot take over: %s; starting again as after a crash, shards serve on", error);
        execute_again(supervisor);
        return r;
    }
    const struct conf *conf = front_serving(&supervisor->front)->conf;
    log_init(conf->log_level, conf->log_format, "supervisor");
    if (supervisor->front.holds.log_level >= 0)
        log_set_level((enum log_level)supervisor->front.holds.log_level);
    shed_privileges();
    supervisor->front.connections_each = startup_raise_fd_limit(conf);
    supervisor->announced = true;
    open_run_dir_again(supervisor, conf);
    workers_apply(&supervisor->workers, conf, false);
    admins_take_over(&supervisor->admins);
    reap(supervisor); /* processes that ended meanwhile */
    workers_find_lost(&supervisor->workers);
    rotation_renew(&supervisor->rotation, false);
    generation_restart_missing(front_serving(&supervisor->front));
    admins_renew(&supervisor->admins);
    supervisor_step(supervisor, RELOAD_ON_EXECUTED);
    return 0;
}

static int load_and_start(struct supervisor *supervisor)
{
    struct buf text = {0};
    struct conf *conf;
    char error[512];
    struct buf oddities = {0};
    const struct conf_findings findings = {.odd = oddities_keep, .data = &oddities};
    int r = conf_file_try(
        supervisor->front.conf_name, &findings, &text, &conf, error, sizeof(error));
    if (r < 0) {
        fprintf(stderr, "%s%s\n", log_priority(LOG_ERROR), error);
        buf_deinit(&oddities);
        return r;
    }
    supervisor->front.conf_name = supervisor->front.paths.conf;
    log_init(conf->log_level, conf->log_format, "supervisor");
    oddities_tell(&oddities);
    meet_manager(supervisor);
    shed_privileges();
    r = start(supervisor, conf, &text);
    buf_deinit(&text);
    return r;
}

static void finish(struct supervisor *supervisor)
{
    CHECK(uv_loop_close(&supervisor->front.loop) == 0);
    strays_end(supervisor->at_once);
    endpoints_prune(&supervisor->front.endpoints, NULL);
    sd_listen_deinit(&supervisor->sd_listen);
    front_close_wakes(&supervisor->front);
    holds_deinit(&supervisor->front.holds);
    record_forget(supervisor->front.run_dir_fd);
    startup_unlock_run_dir(&supervisor->front);
    log_info("stopped");
}

/* Closes all where the start has failed: the processes that there are serve on. */
static void give_up(struct supervisor *supervisor)
{
    startup_unlock_run_dir(&supervisor->front);
    if (!supervisor->loop_open)
        return;
    if (supervisor->workers.ctx.loop != NULL)
        workers_close(&supervisor->workers);
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            supervisor_forget(supervisor, supervisor->front.generations[i]);
    }
    supervisor_close_handles(supervisor);
    uv_run(&supervisor->front.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&supervisor->front.loop) == 0);
}

/* Listens for frontctl. A front that cannot serves its clients all the same. */
static void open_control(struct supervisor *supervisor)
{
    struct front *front = &supervisor->front;
    int fd = front->control_fd;
    front->control_fd = -1;
    int r = front->run_dir_fd < 0 ? -EBADF
                                  : control_open(&supervisor->control, front->run_dir_fd, fd);
    if (r == -EEXIST)
        log_warning("run_dir: " CONTROL_SOCKET_NAME
                    " is no socket of this user's, and stays: frontctl cannot be answered");
    else if (r < 0)
        log_warning("run_dir: cannot listen at " CONTROL_SOCKET_NAME
                    ": %s; frontctl cannot be answered",
            log_error_text(r));
}

int lifecycle_run(char **argv, const char *conf_name, int state_fd,
    const struct control_method *methods, size_t n)
{
    static struct supervisor only; /* what is there without asking can be gone on with */
    struct supervisor *supervisor = &only;
    log_set_bound(LINES_AT_ONCE, LINES_A_SECOND);
    paths_find(&supervisor->front.paths, argv[0], conf_name);
    supervisor->front.conf_name = conf_name;
    supervisor_init(supervisor);
    control_init(&supervisor->control, &supervisor->front.loop, methods, n, supervisor);
    signal(SIGPIPE, SIG_IGN);
    strays_collect();
    int r = state_fd < 0 ? load_and_start(supervisor) : resume(supervisor, state_fd);
    if (r == 0) {
        if (supervisor->front.started == 0)
            supervisor->front.started = front_time_of_day();
        open_control(supervisor);
        for (uv_run(&supervisor->front.loop, UV_RUN_DEFAULT); supervisor->execute;
             uv_run(&supervisor->front.loop, UV_RUN_DEFAULT))
            execute_upgrade(supervisor);
        finish(supervisor);
    } else {
        give_up(supervisor);
    }
    return r == 0 ? 0 : 1;
}
