/*
 * Signals and the ends of processes are events of the reload (reload.c); step() does
 * what it says. At the start the shards of the first generation are made like those of any other.
 *
 * A replacement: the program whose shards are to serve checks the config (config_check.c): this
 * one, or for SIGUSR2 the binary on disk, which this process then becomes, and which goes on where
 * this one was (reexec.c); new shards start beside the old ones; when all are ready the old ones
 * give them their clients and end. Whatever fails before that is logged, and the old ones serve on.
 */

#include "frontd/supervisor/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/alloc.h"
#include "common/log.h"
#include "frontd/config/file.h"
#include "frontd/ipc/metrics.h"
#include "frontd/ipc/shm_beats.h"
#include "frontd/supervisor/adopt.h"
#include "frontd/supervisor/record.h"
#include "frontd/supervisor/reexec.h"
#include "frontd/supervisor/startup.h"
#include "frontd/supervisor/workers/strays.h"
#include "frontd/system/folder.h"
#include "frontd/system/loop.h"
#include "frontd/system/privileges.h"

/* Of one kind, in the log: they tell of what operators do and of processes, not of clients. */
enum { LINES_AT_ONCE = 1000, LINES_A_SECOND = 100 };

static void step(struct supervisor *supervisor, enum reload_event event);

static struct generation *serving(const struct supervisor *supervisor)
{
    return supervisor->front.generations[0];
}

/* Why the reload that is in progress comes to nothing. */
__attribute__((format(printf, 2, 3))) static void blame(
    struct supervisor *supervisor, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(supervisor->reason, sizeof(supervisor->reason), format, args);
    va_end(args);
    log_error("%s", supervisor->reason);
}

/* Whose program the shards of the reload in progress will be, as a name for the log. */
static const char *next_program(const struct supervisor *supervisor)
{
    return supervisor->reload.upgrade ? supervisor->front.paths.exe : "frontd";
}

/* What `systemctl status` shows. */
static void tell_status(const struct supervisor *supervisor)
{
    const struct generation *generation = serving(supervisor);
    sd_notify_status(&supervisor->sd_notify, "%u shards, %u listeners%s%s", generation->nprocesses,
        generation->conf->nlisteners,
        supervisor->reason[0] == '\0' ? "" : "; the last reload came to nothing: ",
        supervisor->reason);
}

/* From here on no signal has a handler; one more would end this process before it is done. */
static void close_handles(struct supervisor *supervisor)
{
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    sd_notify_close(&supervisor->sd_notify);
    for (size_t i = 0; i < ARRAY_LEN(supervisor->signals); i++)
        uv_close((uv_handle_t *)&supervisor->signals[i], NULL);
    uv_close((uv_handle_t *)&supervisor->deadline, NULL);
    uv_close((uv_handle_t *)&supervisor->look, NULL);
}

/* Frees a generation whose processes have all ended. */
static void forget(struct supervisor *supervisor, struct generation *generation)
{
    size_t i = supervisor->front.generations[0] == generation ? 0 : 1;
    supervisor->front.generations[i] = NULL;
    generation_close(generation);
}

/* What there was, over all generations that shared memory. */
static void log_sums(const struct generation *generation)
{
    if (generation == NULL || generation->share == NULL)
        return;
    struct share_sums sums = share_sums(generation->share);
    log_info(
        "served %llu connections, %llu requests, %llu calls; %llu connections moved, %llu pushes "
        "dropped, %llu lost between shards",
        (unsigned long long)sums.accepted, (unsigned long long)sums.requests,
        (unsigned long long)sums.calls, (unsigned long long)sums.moved,
        (unsigned long long)sums.dropped, (unsigned long long)sums.unheard);
}

static void stop_when_alone(struct supervisor *supervisor);

static void on_workers_gone(void *data)
{
    stop_when_alone(data);
}

/* Stopping: workers go when no shard needs them any more; the loop ends when nobody is left. */
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
    log_sums(serving(supervisor));
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            forget(supervisor, supervisor->front.generations[i]);
    }
    if (!uv_is_closing((uv_handle_t *)&supervisor->deadline) && supervisor->check.pid < 0)
        close_handles(supervisor);
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
        step(supervisor, RELOAD_ON_READY);
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
        blame(supervisor, "a new shard has ended before all were ready: the old ones serve on");
        step(supervisor, RELOAD_ON_FAILED);
    } else if (!alive) {
        forget(supervisor, generation);
        step(supervisor, RELOAD_ON_GONE);
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

static const struct generation_ops ops = {
    .ready = on_shard_ready,
    .gone = on_shard_gone,
    .changed = on_shards_changed,
    .hung = on_worker_hung,
};

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
        blame(supervisor, "%s --check does not end: the config is as it was",
            next_program(supervisor));
    else if (supervisor->reload.state == RELOAD_STARTING)
        blame(supervisor, "new shards are not ready within %d s: the old ones serve on",
            RELOAD_START_MS / 1000);
    else
        log_warning("old shards are still there after the drain limit, killing them");
    step(supervisor, RELOAD_ON_TIME);
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

static void on_look(uv_timer_t *timer)
{
    struct supervisor *supervisor = timer->data;
    uint64_t elapsed = uv_now(&supervisor->front.loop) - supervisor->looked_at;
    supervisor->looked_at = uv_now(&supervisor->front.loop);
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            generation_check(supervisor->front.generations[i], elapsed);
    }
}

/* What a reload asks for */

static void do_check(struct supervisor *supervisor)
{
    log_info("%s: checking %s", supervisor->reload.upgrade ? "replacing the program" : "reloading",
        supervisor->front.conf_name);
    sd_notify_reloading(&supervisor->sd_notify);
    /* SIGHUP does not need the binary on disk, which may be gone, or not meant to be used yet. */
    const char *exe = supervisor->reload.upgrade ? supervisor->front.paths.exe : PATHS_SELF;
    int r = config_check_start(
        &supervisor->check, &supervisor->front.loop, exe, supervisor->front.conf_name);
    if (r < 0) {
        blame(supervisor, "cannot check the config: %s", strerror(-r));
        step(supervisor, RELOAD_ON_REFUSED);
    }
}

static void do_end_check(struct supervisor *supervisor)
{
    config_check_kill(&supervisor->check);
}

/* Done by execute(), once the loop has stopped. */
static void do_execute(struct supervisor *supervisor)
{
    supervisor->execute = true;
    uv_stop(&supervisor->front.loop);
}

/* A program before wants a descriptor that shards hold while they live; any will do. */
static void close_alive(struct supervisor *supervisor)
{
    if (supervisor->front.alive_fd >= 0)
        close(supervisor->front.alive_fd);
    supervisor->front.alive_fd = -1;
}

/* This process becomes the binary on disk, which goes on in resume(). */
static void execute(struct supervisor *supervisor)
{
    char number[16];
    sigset_t all;
    sigset_t before;
    supervisor->execute = false;
    /* Signals that come from now on are pending in the new program until it is ready for them;
     * those that libuv has caught already are events before that. */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    uv_run(&supervisor->front.loop, UV_RUN_NOWAIT);
    if (supervisor->reload.state != RELOAD_CHECKING) { /* it was SIGTERM */
        sigprocmask(SIG_SETMASK, &before, NULL);
        return;
    }
    supervisor->front.alive_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    int fd = reexec_write(&supervisor->front, &supervisor->reload, &supervisor->workers);
    if (fd < 0) {
        close_alive(supervisor);
        sigprocmask(SIG_SETMASK, &before, NULL);
        blame(supervisor, "cannot leave the new program what it needs: %s", strerror(-fd));
        step(supervisor, RELOAD_ON_REFUSED);
        return;
    }
    snprintf(number, sizeof(number), "%d", fd);
    char *exe = supervisor->front.paths.exe;
    char *argv[] = {exe, (char[]){"-c"}, (char *)(uintptr_t)supervisor->front.conf_name,
        (char[]){"--state"}, number, NULL};
    log_info("executing %s", exe);
    reexec_keep_open(&supervisor->front, &supervisor->workers, fd, true);
    bool current = config_check_is_current(&supervisor->check, exe);
    int error = current ? -sd_listen_expose(&supervisor->sd_listen) : 0;
    if (current && error == 0) {
        execv(exe, argv);
        error = errno;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    sd_listen_hide(&supervisor->sd_listen);
    reexec_keep_open(&supervisor->front, &supervisor->workers, fd, false);
    close(fd);
    close_alive(supervisor);
    if (current)
        blame(supervisor, "cannot execute %s: %s; this program serves on", exe, strerror(error));
    else
        blame(supervisor, "%s has changed since it was checked: this program serves on", exe);
    step(supervisor, RELOAD_ON_REFUSED);
}

/* What the config has that is hardly meant: lines that end with a NUL each, until they can be
 * logged.
 */
static void keep_oddity(void *data, const char *text)
{
    struct buf *oddities = data;
    (void)!buf_append(oddities, text, strlen(text) + 1); /* without memory one is missing */
}

static void tell_oddities(struct buf *oddities)
{
    const char *text = oddities->memory == NULL ? NULL : buf_data(oddities);
    for (size_t at = 0; text != NULL && at < buf_len(oddities); at += strlen(text + at) + 1)
        log_warning("%s", text + at);
    buf_deinit(oddities);
}

static void do_start(struct supervisor *supervisor)
{
    struct buf text = {0};
    struct conf *conf;
    char error[512];
    struct generation *next = NULL;
    struct buf oddities = {0};
    const struct conf_findings findings = {.odd = keep_oddity, .data = &oddities};
    supervisor->endpoints_before = supervisor->front.endpoints;
    int r = conf_file_try(
        supervisor->front.conf_name, &findings, &text, &conf, error, sizeof(error));
    tell_oddities(&oddities);
    if (r == 0) {
        bool stays = strcmp(conf->run_dir, serving(supervisor)->conf->run_dir) == 0;
        if (!stays) /* where it is locked, and where the next supervisor looks for shards */
            snprintf(error, sizeof(error), "run_dir cannot change while the front runs: it is %s",
                serving(supervisor)->conf->run_dir);
        if (stays && workers_prepare(&supervisor->workers, conf, error, sizeof(error)) == 0 &&
            endpoints_bind(&supervisor->front.endpoints, conf, error, sizeof(error)) == 0 &&
            endpoints_renew(&supervisor->front.endpoints, conf, error, sizeof(error)) == 0) {
            workers_mend(&supervisor->workers);
            next = generation_new(
                &supervisor->front, conf, &text, serving(supervisor), error, sizeof(error));
        } else {
            conf_free(conf);
        }
        buf_deinit(&text);
    }
    if (next == NULL) {
        blame(supervisor, "%s", error);
        endpoints_roll_back(&supervisor->front.endpoints, &supervisor->endpoints_before);
        step(supervisor, RELOAD_ON_REFUSED);
        return;
    }
    startup_warn_of_root(conf);
    supervisor->reload.drain = serving(supervisor)->conf->drain;
    supervisor->front.generations[1] = next;
    generation_start(next);
}

static void do_abort(struct supervisor *supervisor)
{
    struct generation *next = supervisor->front.generations[1];
    next->role = GENERATION_STOPPING;
    generation_kill(next);
    endpoints_roll_back(&supervisor->front.endpoints, &supervisor->endpoints_before);
    if (!generation_alive(next)) {
        forget(supervisor, next);
        step(supervisor, RELOAD_ON_GONE);
    }
}

/* Workers, and paths in their commands, are those of the folder that has the name now. */
static void enter_directory(const struct supervisor *supervisor)
{
    int r = paths_enter(&supervisor->front.paths);
    if (r < 0)
        log_warning("the working directory %s: %s; new workers start in the one that it was",
            supervisor->front.paths.cwd, strerror(-r));
}

static void do_leave(struct supervisor *supervisor)
{
    struct generation *old = supervisor->front.generations[0];
    struct generation *next = supervisor->front.generations[1];
    supervisor->front.generations[0] = next;
    supervisor->front.generations[1] = old;
    supervisor->reason[0] = '\0';
    supervisor->announced = true;
    log_init(next->conf->log_level, next->conf->log_format, "supervisor");
    log_info("generation %llu serves: %u shards, %u listeners", (unsigned long long)next->number,
        next->nprocesses, next->conf->nlisteners);
    int r = endpoints_listen(&supervisor->front.endpoints);
    if (r < 0)
        log_error("cannot listen on all addresses: %s", strerror(-r));
    next->role = GENERATION_SERVING;
    old->role = GENERATION_LEAVING;
    reexec_write_record(&supervisor->front, &supervisor->reload); /* before anybody does so */
    generation_serve(next);
    generation_leave(old, next);
    if (!supervisor->reload.upgrade)
        enter_directory(supervisor);
    /* A new program leaves workers alone: what has changed waits for the next reload. */
    workers_apply(&supervisor->workers, next->conf, !supervisor->reload.upgrade);
    endpoints_prune(&supervisor->front.endpoints, next->conf);
    reexec_write_record(&supervisor->front, &supervisor->reload);
    sd_listen_warn_unused(&supervisor->sd_listen, next->conf);
    sd_notify_ready(&supervisor->sd_notify);
    tell_status(supervisor);
    if (!generation_alive(old)) {
        forget(supervisor, old);
        step(supervisor, RELOAD_ON_GONE);
    }
}

static void do_retire(struct supervisor *supervisor)
{
    if (supervisor->front.generations[1] != NULL)
        generation_kill(supervisor->front.generations[1]);
}

static void do_finish(struct supervisor *supervisor)
{
    workers_prune(&supervisor->workers);
    reexec_write_record(&supervisor->front, &supervisor->reload);
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
    uint64_t drain = serving(supervisor)->conf->drain;
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

static void step(struct supervisor *supervisor, enum reload_event event)
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
    unsigned actions = reload_step(&supervisor->reload, event, uv_now(&supervisor->front.loop));
    set_deadline(supervisor);
    /* At most the last of them steps again. */
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (actions & table[i].action)
            table[i].run(supervisor);
    }
}

/* Events */

static void check_is_over(struct supervisor *supervisor, int status)
{
    config_check_ended(&supervisor->check);
    if (supervisor->reload.state == RELOAD_STOPPING) {
        stop_when_alone(supervisor);
        return;
    }
    if (supervisor->reload.state == RELOAD_ENDING) {
        step(supervisor, RELOAD_ON_GONE); /* it was killed: what it says does not count */
        return;
    }
    bool accepted = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    enum identity identity = supervisor->check.identity;
    if (accepted && (identity == IDENTITY_FRONTD ||
                        (identity > IDENTITY_UNKNOWN && !supervisor->reload.upgrade))) {
        step(supervisor, RELOAD_ON_CHECKED);
        return;
    }
    const char *program = next_program(supervisor);
    if (accepted && identity == IDENTITY_OTHER)
        blame(supervisor, "%s is a frontd that cannot read this program's state: nothing changes",
            program);
    else if (accepted && identity == IDENTITY_CHILD)
        blame(supervisor,
            "%s runs frontd as a child: a script has to end in exec, so that it becomes frontd: "
            "nothing changes",
            program);
    else if (accepted)
        blame(supervisor, "%s is not frontd: it did not identify itself: nothing changes", program);
    else if (WIFSIGNALED(status))
        blame(supervisor, "%s --check was ended by signal %d: nothing changes", program,
            WTERMSIG(status));
    else
        blame(supervisor, "%s --check says (status %d): %s: nothing changes", program,
            WEXITSTATUS(status), supervisor->check.text);
    step(supervisor, RELOAD_ON_REFUSED);
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
            check_is_over(supervisor, status);
        else
            workers_process_ended(&supervisor->workers, pid, status);
    }
}

static void stop_now(struct supervisor *supervisor)
{
    log_info("stopping at once");
    supervisor->at_once = true;
    step(supervisor, RELOAD_ON_STOP);
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            generation_kill(supervisor->front.generations[i]);
    }
    if (!supervisor->workers.ctx.stopping)
        workers_stop(&supervisor->workers, on_workers_gone, supervisor);
    workers_kill(&supervisor->workers);
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
        step(supervisor, number == SIGHUP ? RELOAD_ON_CONFIG : RELOAD_ON_UPGRADE);
        break;
    case SIGTERM:
        if (supervisor->reload.state == RELOAD_STOPPING)
            stop_now(supervisor);
        else
            step(supervisor, RELOAD_ON_STOP);
        break;
    case SIGINT:
    case SIGQUIT: stop_now(supervisor); break;
    case SIGUSR1: /* what has other servers open their logs anew */
        log_info("signal %d is ignored: the log is standard error", number);
        break;
    default: break;
    }
}

/* Starting */

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
    supervisor->looked_at = uv_now(&supervisor->front.loop);
    CHECK(uv_timer_start(&supervisor->look, on_look, SHARE_BEAT_MS, SHARE_BEAT_MS) == 0);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        CHECK(uv_signal_init(&supervisor->front.loop, &supervisor->signals[i]) == 0);
        supervisor->signals[i].data = supervisor;
        r = uv_signal_start(&supervisor->signals[i], on_signal, numbers[i]);
        if (r < 0)
            return r;
    }
    sd_notify_start(&supervisor->sd_notify, &supervisor->front.loop);
    supervisor->loop_open = true;
    /* A program that was executed in place had them blocked until now. */
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    return 0;
}

/* What the service manager wants to hear, and has passed. */
static void meet_manager(struct supervisor *supervisor)
{
    sd_notify_init(&supervisor->sd_notify);
    sd_listen_take(&supervisor->sd_listen);
    supervisor->front.endpoints.sd_listen = &supervisor->sd_listen;
}

/* What was found serves on; a reload then makes shards of this program and this config. */
static void go_on_with_found(struct supervisor *supervisor)
{
    struct generation *old = supervisor->front.generations[1];
    supervisor->reload.drain = serving(supervisor)->conf->drain;
    reload_found(&supervisor->reload, old != NULL, uv_now(&supervisor->front.loop));
    set_deadline(supervisor);
    generation_serve(serving(supervisor));
    sd_notify_ready(&supervisor->sd_notify);
    tell_status(supervisor);
    if (old == NULL) {
        step(supervisor, RELOAD_ON_CONFIG);
        return;
    }
    generation_leave(
        old, serving(supervisor)); /* it may have been about to, or in the middle of it */
    if (!generation_alive(old)) {
        forget(supervisor, old);
        step(supervisor, RELOAD_ON_GONE);
    }
}

static void add_hint(char *error, size_t error_size)
{
    size_t n = strlen(error);
    snprintf(error + n, error_size - n,
        ". There is no " RECORD_NAME " in run_dir: if these are shards of a front that was killed, "
        "they cannot be taken over; kill them, or they end by themselves within five minutes");
}

/* The first generation of all, or none where shards were found that serve on. */
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
        r = supervisor->front.generations[0] == NULL ? -ENOMEM : 0;
    }
    if (r < 0) {
        log_error("%s", error);
        if (supervisor->front.generations[0] ==
            NULL) /* else the paths are those of shards that serve on */
            endpoints_prune(&supervisor->front.endpoints, NULL);
        return r;
    }
    workers_apply(&supervisor->workers, serving(supervisor)->conf, true);
    if (found)
        go_on_with_found(supervisor);
    else
        generation_serve(supervisor->front.generations[0]);
    return 0;
}

/* It serves on where this fails: only nobody could find the shards without it. */
static void open_run_dir_again(struct supervisor *supervisor, const struct conf *conf)
{
    char error[512];
    supervisor->front.run_dir_fd = folder_open(conf->run_dir, false, error, sizeof(error));
    if (supervisor->front.run_dir_fd < 0)
        log_error("run_dir %s; should this process be killed, its shards are not found", error);
    reexec_write_record(&supervisor->front, &supervisor->reload);
}

/* From here on it can do what it needs, and nothing else. */
static void shed_privileges(void)
{
    int r = privileges_supervise();
    if (r < 0)
        log_warning("cannot give up all capabilities that are not needed: %s", strerror(-r));
}

/*
 * What the program before has left cannot be read, for want of memory if for anything: nothing of
 * it is kept. The shards notice that their supervisor is gone and report to the one that this
 * process becomes, as where it was killed. Returns only where that is not possible either.
 */
static void start_again(struct supervisor *supervisor)
{
    char *argv[] = {supervisor->front.paths.exe, (char[]){"-c"},
        (char *)(uintptr_t)supervisor->front.conf_name, NULL};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* they wait for the new program */
    if (sd_listen_expose(&supervisor->sd_listen) < 0)
        return;
    close_range((unsigned)sd_listen_end(&supervisor->sd_listen), ~0U, 0);
    execv(PATHS_SELF, argv);
    log_error("cannot start again: %s; shards serve on without a supervisor", strerror(errno));
    exit(1); /* what there was to close is closed */
}

/* This program was executed in the place of another, whose state this is. */
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
        start_again(supervisor);
        return r;
    }
    const struct conf *conf = serving(supervisor)->conf;
    log_init(conf->log_level, conf->log_format, "supervisor");
    shed_privileges();
    supervisor->front.connections_each = startup_raise_fd_limit(conf);
    supervisor->announced = true;
    open_run_dir_again(supervisor, conf);
    workers_apply(&supervisor->workers, conf, false);
    reap(supervisor); /* who ended meanwhile */
    generation_restart_missing(serving(supervisor));
    step(supervisor, RELOAD_ON_EXECUTED);
    return 0;
}

static int load_and_start(struct supervisor *supervisor)
{
    struct buf text = {0};
    struct conf *conf;
    char error[512];
    struct buf oddities = {0};
    const struct conf_findings findings = {.odd = keep_oddity, .data = &oddities};
    int r = conf_file_try(
        supervisor->front.conf_name, &findings, &text, &conf, error, sizeof(error));
    if (r < 0) {
        fprintf(stderr, "%s%s\n", log_priority(LOG_ERROR), error);
        buf_deinit(&oddities);
        return r;
    }
    supervisor->front.conf_name = supervisor->front.paths.conf;
    log_init(conf->log_level, conf->log_format, "supervisor");
    tell_oddities(&oddities);
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
    record_forget(supervisor->front.run_dir_fd);
    startup_unlock_run_dir(&supervisor->front);
    log_info("stopped");
}

/* It did not come to run: whatever processes there are serve on. */
static void give_up(struct supervisor *supervisor)
{
    startup_unlock_run_dir(&supervisor->front);
    if (!supervisor->loop_open)
        return;
    if (supervisor->workers.ctx.loop != NULL)
        workers_close(&supervisor->workers);
    for (size_t i = 0; i < FRONT_GENERATIONS; i++) {
        if (supervisor->front.generations[i] != NULL)
            forget(supervisor, supervisor->front.generations[i]);
    }
    close_handles(supervisor);
    uv_run(&supervisor->front.loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&supervisor->front.loop) == 0);
}

int supervisor_run(char **argv, const char *conf_name, int state_fd)
{
    static struct supervisor only; /* what is there without asking can be gone on with */
    struct supervisor *supervisor = &only;
    log_set_bound(LINES_AT_ONCE, LINES_A_SECOND);
    paths_find(&supervisor->front.paths, argv[0], conf_name);
    supervisor->front.conf_name = conf_name;
    front_init(&supervisor->front, &ops);
    reload_init(&supervisor->reload);
    config_check_init(&supervisor->check);
    signal(SIGPIPE, SIG_IGN);
    strays_collect();
    int r = state_fd < 0 ? load_and_start(supervisor) : resume(supervisor, state_fd);
    if (r == 0) {
        for (uv_run(&supervisor->front.loop, UV_RUN_DEFAULT); supervisor->execute;
             uv_run(&supervisor->front.loop, UV_RUN_DEFAULT))
            execute(supervisor);
        finish(supervisor);
    } else {
        give_up(supervisor);
    }
    return r == 0 ? 0 : 1;
}
